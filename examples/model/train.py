"""Trains Abacus, the small model of the demo, from nothing: tokenizer, weights and folder.

    python3 examples/model/train.py --out examples/model/abacus      # about 4 minutes on one GPU

Every row of a batch is one long conversation, and only the answers are learnt. The folder is what
transformers calls standard; its config.json keeps to the classic keys (`rope_theta`, `torch_dtype`)
that most published models carry.
"""

import argparse
import json
import math
import multiprocessing
import pathlib
import time

import numpy
import torch
import tokenizers
import transformers

import byte_pairs
import data

BEGIN, SYSTEM, USER, ASSISTANT, END, PAD = SPECIALS = [
    "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
VOCABULARY = 1536
CONTEXT = 2048
SHORT_ROW = 256
LEARN = 1 << 15  # set on the tokens of answers; token ids stay below it
TRAIN_SEED, TOKENIZER_SEED, TEST_SEED = 1_000_000, 7, 11

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role not in ['system', 'user', 'assistant'] %}
{{- raise_exception('Abacus knows the roles system, user and assistant, not ' + message.role) }}
{%- endif %}
{{- '<|' + message.role + '|>' }}
{%- if message.content is string %}
{{- message.content | trim }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'text' %}
{{- part.text | trim }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>' }}
{%- endif %}"""

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY,
    "hidden_size": 256, "intermediate_size": 448, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "max_position_embeddings": CONTEXT, "rope_theta": 10000.0, "rope_scaling": None,
    "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0,
    "tie_word_embeddings": True, "initializer_range": 0.02, "use_cache": True,
    "bos_token_id": SPECIALS.index(BEGIN), "eos_token_id": SPECIALS.index(END),
    "pad_token_id": SPECIALS.index(PAD),
}


def train_tokenizer() -> tokenizers.Tokenizer:
    """Of our own conversations; digits stay single, so any number can be read."""
    asker = data.Asker(TOKENIZER_SEED)
    lines = [text for _ in range(1500) for e in asker.conversation(40)
             for text in (e.question, e.answer)] + data.small_talk.SYSTEM_PROMPTS
    return byte_pairs.train(lines, [byte_pairs.pre.Digits(individual_digits=True)], VOCABULARY, SPECIALS)


def save_tokenizer(tokenizer: tokenizers.Tokenizer, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END,
        "pad_token": PAD, "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE})


def save_model(model: torch.nn.Module, folder: pathlib.Path) -> None:
    """Weights in bf16, the tied head left out as transformers does, and the two configurations."""
    from safetensors.torch import save_file
    weights = {name: tensor.detach().to(torch.bfloat16).cpu().contiguous()
               for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    write_json(folder / "config.json", {**CONFIG, "torch_dtype": "bfloat16"})
    write_json(folder / "generation_config.json", {
        "bos_token_id": SPECIALS.index(BEGIN), "eos_token_id": SPECIALS.index(END),
        "pad_token_id": SPECIALS.index(PAD), "do_sample": False, "max_new_tokens": 64})


def write_json(path: pathlib.Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# -- rows ------------------------------------------------------------------------------------------

def one_row(asker: data.Asker, encode, length: int) -> list[int]:
    """One conversation of `length` tokens, cut where it is full."""
    begin, system_id, user, assistant, end = range(5)
    row, last = [begin], None
    system = asker.system_prompt()
    if system:
        row += [system_id, *encode(system), end]
    while len(row) < length:
        exchange = asker.exchange(last=last)
        last = exchange.result
        row += [user, *encode(exchange.question), end, assistant]
        row += [token | LEARN for token in (*encode(exchange.answer), end)]
    return row[:length]


def make_shard(job: tuple) -> numpy.ndarray:
    tokenizer_json, seed, rows, length = job
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
    asker = data.Asker(TRAIN_SEED + seed)
    cache: dict[str, list[int]] = {}

    def encode(text: str) -> list[int]:
        if text not in cache:
            cache[text] = tokenizer.encode(text, add_special_tokens=False).ids
        return cache[text]

    return numpy.array([one_row(asker, encode, length) for _ in range(rows)], dtype=numpy.uint16)


def make_rows(tokenizer, shards: int, rows: int, length: int, first: int) -> torch.Tensor:
    jobs = [(tokenizer.to_str(), first + i, rows, length) for i in range(shards)]
    with multiprocessing.get_context("spawn").Pool() as pool:
        return torch.from_numpy(numpy.concatenate(pool.map(make_shard, jobs, chunksize=1))
                                .astype(numpy.int32))


# -- training --------------------------------------------------------------------------------------

def loss_of(model, batch: torch.Tensor) -> torch.Tensor:
    tokens = (batch & (LEARN - 1)).long()
    targets = torch.where(batch[:, 1:] & LEARN != 0, tokens[:, 1:], -100)
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def compiled_loss(model, rows: torch.Tensor):
    """torch.compile needs a compiler on the machine; without one the plain step does."""
    step = torch.compile(loss_of, dynamic=False)
    try:
        with torch.autocast(rows.device.type, torch.bfloat16):
            step(model, rows[:8]).backward()
        model.zero_grad(set_to_none=True)
    except Exception as error:  # whatever the machine lacks, training goes on
        print(f"not compiled: {str(error)[:300]}", flush=True)
        return loss_of
    return step


def learning_rate(progress: float, peak: float) -> float:
    warm_up = 0.02
    if progress < warm_up:
        return peak * progress / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * min(1, (progress - warm_up) / (1 - warm_up))))


def train(model, short: torch.Tensor, long: torch.Tensor, options, minutes_used: float) -> None:
    """Short rows mostly; every eighth step long ones, so that late positions are learnt as well."""
    device = next(model.parameters()).device
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05},
                                   {"params": plain, "weight_decay": 0.0}],
                                  betas=(0.9, 0.98), fused=device.type == "cuda")
    step_loss = compiled_loss(model, short) if options.compile else loss_of
    picker = torch.Generator().manual_seed(5)
    start, minutes = time.monotonic(), options.minutes - minutes_used
    for step in range(options.steps + 1):
        # A slow machine ends the schedule early instead of overrunning its minutes.
        elapsed = (time.monotonic() - start) / 60
        progress = max(step / options.steps, elapsed / minutes)
        pool = long if step % 8 == 7 else short
        pick = torch.randint(len(pool), (options.batch_tokens // pool.shape[1],), generator=picker)
        batch = pool[pick.to(pool.device)]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, options.peak)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = step_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 250 == 0 or progress >= 1:
            print(f"step {step} loss {loss.item():.5f} minutes {elapsed:.2f}", flush=True)
        if progress >= 1:
            break


@torch.no_grad()
def forced_accuracy(folder: pathlib.Path, device: str, per_kind: int) -> float:
    """Held-out answers whose every token is the arg max: what greedy decoding answers exactly."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = model.to(device)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    asker, right, total = data.Asker(TEST_SEED, want_held_out=True), 0, 0
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    for kind in data.Asker.KINDS:
        exchanges = [asker.exchange(kind) for _ in range(per_kind)]
        heads = [[0, 2, *encode(e.question), 4, 3] for e in exchanges]
        tails = [[*encode(e.answer), 4] for e in exchanges]
        width = max(len(h) + len(t) for h, t in zip(heads, tails))
        rows = torch.tensor([(h + t + [5] * width)[:width] for h, t in zip(heads, tails)])
        guess = model(input_ids=rows.to(device)).logits.argmax(-1).cpu()
        good = sum(guess[i, len(h) - 1:len(h) - 1 + len(t)].tolist() == t
                   for i, (h, t) in enumerate(zip(heads, tails)))
        print(f"held out {kind}: {good}/{per_kind}", flush=True)
        right, total = right + good, total + per_kind
    print(f"held out, all: {right}/{total} = {right / total:.4f}", flush=True)
    return right / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("examples/model/abacus"))
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--minutes", type=float, default=4.4,
                        help="cap on data and training together")
    parser.add_argument("--batch-tokens", type=int, default=65536)
    parser.add_argument("--peak", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--shards", type=int, default=128)
    parser.add_argument("--compile", action="store_true", help="torch.compile the step")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    start = time.monotonic()
    tokenizer = train_tokenizer()
    save_tokenizer(tokenizer, options.out)
    short = make_rows(tokenizer, options.shards, 4096, SHORT_ROW, first=0)
    long = make_rows(tokenizer, max(1, options.shards // 4), 512, CONTEXT, first=options.shards)
    print(f"{(short.numel() + long.numel()) / 1e6:.0f} M tokens, vocabulary of "
          f"{tokenizer.get_vocab_size()}, after {time.monotonic() - start:.0f} s", flush=True)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**CONFIG)).to(device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    train(model, short.to(device), long.to(device), options, (time.monotonic() - start) / 60)
    save_model(model, options.out)
    forced_accuracy(options.out, device, per_kind=500)


if __name__ == "__main__":
    main()
