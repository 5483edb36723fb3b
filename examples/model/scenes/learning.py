"""The training of Lookout: the pool of scenes on the device, the two losses and the loop."""

import collections
import math
import pathlib
import queue
import threading
import time

import numpy
import torch
import transformers

import folder as folders
import labels as labelling
import rows as rowmaking
import scene as scenes
from painters import KINDS, Painters

# Tiles that a row of 512 tokens looks at, with room for chance: batches are padded to this many.
TILES_A_ROW = {"simple": 5.2, "short": 7.9, "long": 7.9}
WARM_UP = 0.03  # of the schedule
cross_entropy = torch.nn.functional.cross_entropy


class Pool:
    """Every row and tile that has arrived, on the device. A thread of its own fills it."""

    def __init__(self, painters: Painters, device: str, tiles_max: int):
        side, patches = scenes.TILE, labelling.PATCHES
        self.tiles = torch.empty((tiles_max, side, side, 3), dtype=torch.uint8, device=device)
        self.labels = torch.empty(
            (tiles_max, patches, patches, 6), dtype=torch.uint8, device=device
        )
        self.filled, self.full = 0, False
        self.ids = {k: [] for k in KINDS}  # the ids of a shard
        self.rows = {k: [] for k in KINDS}  # (shard, row in it, first tile, tiles)
        self.painters, self.device, self.stopped = painters, device, False
        self.thread = threading.Thread(target=self.fill, daemon=True)
        self.thread.start()

    def fill(self) -> None:
        stream = torch.cuda.Stream() if self.device == "cuda" else None
        while not self.stopped:
            try:
                kind, shard = self.painters.get(timeout=1)
            except queue.Empty:
                continue
            with torch.cuda.stream(stream):
                self.take(kind, shard)

    def take(self, kind: str, shard: dict) -> None:
        count = len(shard["tiles"])
        if self.filled + count > len(self.tiles):
            self.full = True
            return
        for name, store in (("tiles", self.tiles), ("labels", self.labels)):
            store[self.filled : self.filled + count].copy_(torch.from_numpy(shard[name]))
        if self.device == "cuda":
            torch.cuda.current_stream().synchronize()
        self.ids[kind].append(shard["ids"].astype(numpy.int32))
        first = self.filled + numpy.concatenate([[0], numpy.cumsum(shard["counts"])])
        self.filled += count
        self.rows[kind] += [
            (len(self.ids[kind]) - 1, i, int(first[i]), int(shard["counts"][i]))
            for i in range(len(shard["counts"]))
        ]

    def batch(self, kind: str, count: int, tiles: int, rng) -> tuple[torch.Tensor, ...]:
        """(ids, tiles, labels); tiles are padded to `tiles`, so that shapes never change."""
        while True:
            have = len(self.rows[kind])
            picked = [self.rows[kind][i] for i in rng.integers(0, have, count)]
            if sum(p[3] for p in picked) <= tiles:
                break
        ids = numpy.stack([self.ids[kind][shard][row] for shard, row, _, _ in picked])
        index = numpy.concatenate([numpy.arange(first, first + n) for _, _, first, n in picked])
        index = torch.from_numpy(numpy.pad(index, (0, tiles - len(index)), mode="wrap"))
        index = index.to(self.device, non_blocking=True)
        ids = torch.from_numpy(ids).to(self.device, non_blocking=True)
        return ids, self.tiles[index], self.labels[index]


# -- the model ------------------------------------------------------------------------------------


class Tutor(torch.nn.Module):
    """Reads labels.py's classes off the projected tokens of a tile, and each token's place. It is
    thrown away after training: it only makes sure that the tokens say what is where."""

    def __init__(self, width: int):
        super().__init__()
        self.classes = labelling.CLASSES
        self.heads = torch.nn.Linear(width, 4 * (sum(self.classes) + 1))
        self.place = torch.nn.Linear(width, 12)

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """`features` (tiles, 36, width); a token stands for two by two patches."""
        tiles = len(features)
        features = torch.nn.functional.layer_norm(features, features.shape[-1:])
        truth = labels.view(tiles, 6, 2, 6, 2, 6).permute(0, 1, 3, 2, 4, 5).reshape(-1, 6).long()
        made = self.heads(features).float().view(tiles * 36 * 4, -1)
        parts = made.split([*self.classes, 1], dim=1)
        loss = made.new_zeros(())
        for index, count in enumerate(self.classes):
            weight = made.new_full((count,), 1.0)
            weight[0] = 0.15
            loss = loss + cross_entropy(parts[index], truth[:, index], weight)
        there = (truth[:, labelling.SHAPE] > 0).float()
        radius = torch.log2(1 + truth[:, labelling.RADIUS] / labelling.RADIUS_UNIT)
        loss = loss + ((parts[-1][:, 0] - radius).abs() * there).sum() / (there.sum() + 1)
        place = self.place(features).float()
        at = torch.arange(36, device=features.device).expand(tiles, 36)
        loss = loss + 0.5 * cross_entropy(place[..., :6].flatten(0, 1), (at // 6).flatten())
        return loss + 0.5 * cross_entropy(place[..., 6:].flatten(0, 1), (at % 6).flatten())


def new_model(folder: pathlib.Path, device: str):
    model = transformers.InternVLForConditionalGeneration(
        transformers.AutoConfig.from_pretrained(folder)
    )
    torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embeddings, std=0.05)
    torch.nn.init.normal_(model.model.vision_tower.embeddings.cls_token, std=0.02)
    return model.float().to(device)


def see(model, tiles: torch.Tensor) -> torch.Tensor:
    """(tiles, 36, width): what InternVLModel.get_image_features does, without its wrappers."""
    pixels = ((tiles.permute(0, 3, 1, 2).float() / 255) - folders.MEAN[0]) / folders.STD[0]
    pixels, core = pixels.to(model.lm_head.weight.dtype), model.model
    embedded = core.vision_tower.embeddings(pixels)
    embedded = (
        embedded[0] if isinstance(embedded, tuple) else embedded
    )  # older transformers: a pair
    hidden = core.vision_tower.encoder(embedded).last_hidden_state
    hidden = core.vision_tower.layernorm(hidden)[:, 1:]
    side = math.isqrt(hidden.shape[1])
    hidden = core.pixel_shuffle(hidden.reshape(len(hidden), side, side, -1), scale_factor=0.5)
    return core.multi_modal_projector(hidden.reshape(len(hidden), -1, hidden.shape[-1]))


def hidden_of(model, ids: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The decoder's last states, the tiles' features put where the image tokens stand."""
    tokens = (ids & (rowmaking.LEARN - 1)).long()
    is_image = tokens == folders.ID[folders.IMAGE]
    features = features.flatten(0, 1)
    which = (is_image.flatten().long().cumsum(0) - 1).clamp(min=0)
    embedded = model.model.language_model.embed_tokens(tokens)
    embedded = torch.where(
        is_image[..., None], features[which].view_as(embedded).to(embedded.dtype), embedded
    )
    return model.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state


def answer_loss(hidden: torch.Tensor, ids: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    targets = torch.where(
        ids[:, 1:] & rowmaking.LEARN != 0, (ids[:, 1:] & (rowmaking.LEARN - 1)).long(), -100
    )
    logits = torch.nn.functional.linear(hidden[:, :-1], head)
    return cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class Lesson:
    """Both losses of a batch. The layers are compiled one by one: all alike, so only one is work.
    The tutor is not: compiling it takes longer than it saves."""

    def __init__(self, model, tutor: Tutor, compiled: bool):
        self.model, self.tutor, self.answer_loss = model, tutor, answer_loss
        if compiled:
            torch._dynamo.config.recompile_limit = 64
            core = model.model
            for layer in (*core.vision_tower.encoder.layer, *core.language_model.layers):
                layer.compile(dynamic=False)
            core.multi_modal_projector.compile(dynamic=False)
            self.answer_loss = torch.compile(answer_loss, dynamic=False)

    def __call__(self, ids, tiles, labels, tutor_knows=True) -> tuple[torch.Tensor, torch.Tensor]:
        """A tutor that is itself still to learn only listens: it must not mislead the tower."""
        features = see(self.model, tiles)
        hidden = hidden_of(self.model, ids, features)
        return (
            self.answer_loss(hidden, ids, self.model.lm_head.weight),
            self.tutor(features if tutor_knows else features.detach(), labels),
        )


# -- the loop -------------------------------------------------------------------------------------


def learning_rate(progress: float, peak: float) -> float:
    if progress < WARM_UP:
        return peak * (progress + 0.001) / WARM_UP
    return peak * 0.5 * (1 + math.cos(math.pi * min(1, (progress - WARM_UP) / (1 - WARM_UP))))


class Optimizer:
    """AdamW on f32 copies of weights that are themselves kept and used in another type."""

    def __init__(self, model, tutor: Tutor, device: str):
        named = [*model.named_parameters(), *tutor.named_parameters()]
        self.used = [p for _, p in named]
        self.copies = [p.detach().float().clone() for p in self.used]
        decays = [p.ndim > 1 and "embeddings" not in n for n, p in named]
        self.adam = torch.optim.AdamW(
            [
                {
                    "params": [c for c, d in zip(self.copies, decays) if d == decay],
                    "weight_decay": 0.05 if decay else 0.0,
                }
                for decay in (True, False)
            ],
            betas=(0.9, 0.98),
            fused=device == "cuda",
        )
        for copy in self.copies:
            copy.grad = torch.zeros_like(copy)

    def step(self, rate: float) -> None:
        torch._foreach_copy_([c.grad for c in self.copies], [p.grad for p in self.used])
        torch.nn.utils.clip_grad_norm_(self.copies, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        with torch.no_grad():
            torch._foreach_copy_(self.used, self.copies)
        for used in self.used:
            used.grad = None


def shape(kind: str, options) -> tuple[int, int]:
    """(rows, tiles) of a batch."""
    rows = max(1, options.batch_tokens // KINDS[kind][1])
    lengths = options.batch_tokens / 512
    return rows, round(TILES_A_ROW[kind] * lengths + 6 * math.sqrt(lengths)) + 4


def kind_at(step: int, progress: float, simple: float) -> str:
    if progress < simple:
        return "short" if step % 8 == 3 else "simple"
    return "long" if step % 12 == 7 else "simple" if step % 4 == 2 else "short"


def warm(lesson: Lesson, options, device: str) -> None:
    """Compiles for all shapes on batches of nothing, while the first scenes are being drawn."""
    side, patches = scenes.TILE, labelling.PATCHES
    for kind in KINDS:
        rows, tiles = shape(kind, options)
        ids = torch.full((rows, KINDS[kind][1]), rowmaking.LEARN, dtype=torch.int32, device=device)
        losses = lesson(
            ids,
            torch.zeros((tiles, side, side, 3), dtype=torch.uint8, device=device),
            torch.zeros((tiles, patches, patches, 6), dtype=torch.uint8, device=device),
        )
        sum(losses).backward()
    lesson.model.zero_grad(set_to_none=True)
    lesson.tutor.zero_grad(set_to_none=True)


def train(model, pool: Pool, options, start: float) -> None:
    device, rng = pool.device, numpy.random.default_rng(5)
    tutor = Tutor(model.config.text_config.hidden_size).to(device)
    optimizer = Optimizer(model, tutor, device)
    if device == "cuda":  # half the traffic; what is trained is what is saved
        model.to(torch.bfloat16)
        tutor.to(torch.bfloat16)
    lesson = Lesson(model, tutor, options.compile)
    if options.compile:
        warm(lesson, options, device)
        print(f"compiled after {time.monotonic() - start:.0f} s", flush=True)
    while sum(map(len, pool.rows.values())) < options.first_rows or not all(pool.rows.values()):
        time.sleep(0.2)
    begin = saved = time.monotonic()
    seconds = options.minutes * 60 - (begin - start)
    print(f"training begins after {begin - start:.0f} s", flush=True)
    for step in range(options.steps + 1):
        # The schedule follows the clock, so that any machine ends it in time.
        progress = max((time.monotonic() - begin) / seconds, step / options.steps)
        kind = kind_at(step, progress, options.simple)
        batch = pool.batch(kind, *shape(kind, options), rng)
        answers, tutoring = lesson(*batch, tutor_knows=progress >= WARM_UP)
        (answers + options.tutoring * (1 - progress) * tutoring).backward()
        optimizer.step(learning_rate(progress, options.peak))
        if step % options.report == 0 or progress >= 1:
            rows = " ".join(f"{k} {len(v)}" for k, v in pool.rows.items())
            print(
                f"step {step} {kind} loss {answers.item():.4f} tutor {tutoring.item():.4f} minutes "
                f"{(time.monotonic() - begin) / 60:.2f} {rows} tiles {pool.filled}",
                flush=True,
            )
        if progress >= 1:
            break
        if time.monotonic() - saved > 45:
            folders.save_weights(model, options.out)
            saved = time.monotonic()


@torch.no_grad()
def forced_accuracy(model, shards: list, device: str) -> float:
    """Held-out answers whose every token is the arg max: what greedy decoding answers exactly."""
    right, asked = collections.Counter(), collections.Counter()
    for rows, shard in shards:
        ids = torch.from_numpy(shard["ids"].astype(numpy.int32)).to(device)
        features = see(model, torch.from_numpy(shard["tiles"]).to(device))
        guess = model.lm_head(hidden_of(model, ids, features)).argmax(-1).cpu().numpy()
        truth = shard["ids"] & (rowmaking.LEARN - 1)
        for row, answers in enumerate(shard["answers"]):
            for kind, first, last in answers:
                asked[kind] += 1
                right[kind] += (guess[row, first - 1 : last - 1] == truth[row, first:last]).all()
    for kind in sorted(asked):
        print(
            f"held out {kind:12} {right[kind]:6} of {asked[kind]:6} {right[kind] / asked[kind]:.4f}"
        )
    total = right.total() / asked.total()
    print(f"held out, all: {right.total()} of {asked.total()} = {total:.4f}", flush=True)
    return total
