"""How often Lookout answers exactly right about scenes it has never seen, decoding greedily.

    python3 examples/model/scenes/evaluate.py                # through `troupe batch`
    python3 examples/model/scenes/evaluate.py --reference    # through transformers

Every scene is drawn anew from a seed that training does not use, and prints only words and numbers
that training never prints. In conversations the model reads its own earlier answers, so one mistake
can spoil the turns after it. Needs Pillow and numpy; with --reference torch and transformers too.
"""

import argparse
import base64
import collections
import dataclasses
import io
import json
import pathlib
import random
import subprocess
import tempfile

import paint
import conversations
import questions
import raster
import scene as scenes
from PIL import Image

SEED = 2026
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
SINGLE = [*questions.Asker.WEIGHTS, "no_picture"]


@dataclasses.dataclass
class Case:
    """A conversation: its turns, and the picture of each scene in it by the scene's identity."""

    kind: str
    turns: list
    pictures: dict = dataclasses.field(default_factory=dict)

    def message(self, turn: int) -> dict:
        made = self.turns[turn]
        shown = [{"type": "image", "image": self.pictures[id(s)]} for s in made.pictures]
        text = [{"type": "text", "text": made.question}]
        return {"role": "user", "content": text + shown if made.pictures_last else shown + text}


def case(kind: str, turns: list, painter=paint.paint) -> Case:
    made = Case(kind, turns)
    for turn in turns:
        for scene in turn.pictures:
            made.pictures[id(scene)] = painter(scene)
    return made


def by_hand(scene: scenes.Scene) -> Image.Image:
    """The picture as raster.py draws it, as dev/demo does."""
    return Image.open(io.BytesIO(raster.png(raster.draw(scene)))).convert("RGB")


def one_question(
    kind: str, inventor: scenes.Inventor, asker: conversations.Talker
) -> questions.Turn:
    while True:
        scene = inventor.scene()
        if kind == "no_picture":
            turn = asker.without_picture(scene)
            if turn.kind == kind:
                return turn
        else:
            made = asker.ask(scene, kind)
            if made:
                return questions.Turn(made[0], made[1], kind, [scene])


def cases(per_kind: int, seed: int = SEED) -> list[Case]:
    """`per_kind` questions of every kind, and as many conversations of each sort."""
    rng = random.Random(seed)
    inventor, asker = scenes.Inventor(rng, held_out=True), conversations.Talker(rng)
    plain = scenes.Inventor(rng, held_out=True, fonts=raster.FONTS)
    made = [
        case(kind, [one_question(kind, inventor, asker)])
        for kind in SINGLE
        for _ in range(per_kind)
    ]
    for _ in range(per_kind):
        scene = inventor.scene()
        made.append(case("conversation", asker.about_one(scene, 4, [scene])))
        pictures = [inventor.scene() for _ in range(rng.choice([2, 2, 3]))]
        made.append(case("several", asker.about_several(pictures, 2)))
        scene = plain.scene()
        made.append(case("raster.py", asker.about_one(scene, 1, [scene]), by_hand))
    return made


class Score:
    """Right and wrong answers by kind and by size of picture, and some wrong ones to look at."""

    def __init__(self):
        self.right, self.asked, self.wrong = collections.Counter(), collections.Counter(), []

    def add(self, made: Case, turn: int, answer: str) -> None:
        expected = made.turns[turn].answer
        good = answer.strip() == expected
        groups = [made.kind]
        if made.pictures:
            tiled = any(s.tiles() != (1, 1) for t in made.turns for s in t.pictures)
            groups.append("(tiled)" if tiled else "(one tile)")
        for group in (*groups, "all"):
            self.asked[group] += 1
            self.right[group] += good
        if not good:
            self.wrong.append(
                f"{made.kind}: {made.turns[turn].question!r} -> {answer!r}, not {expected!r}"
            )

    def report(self) -> float:
        for kind in [
            *(k for k in self.asked if k[0] != "(" and k != "all"),
            "(one tile)",
            "(tiled)",
            "all",
        ]:
            print(
                f"{kind:14} {self.right[kind]:5} of {self.asked[kind]:5} = "
                f"{100 * self.right[kind] / max(1, self.asked[kind]):.2f} %"
            )
        for line in self.wrong[:25]:
            print("  " + line)
        return self.right["all"] / self.asked["all"]


# -- engines: chats in, answers out ---------------------------------------------------------------


def data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def openai_message(message: dict) -> dict:
    if isinstance(message["content"], str):
        return message
    return {
        "role": message["role"],
        "content": [
            part
            if part["type"] == "text"
            else {"type": "image_url", "image_url": {"url": data_url(part["image"])}}
            for part in message["content"]
        ],
    }


class Batch:
    """`troupe batch`: a file of requests in OpenAI's shape, a file of answers."""

    def __init__(self, model: pathlib.Path, command: pathlib.Path):
        self.model, self.command = model, command
        if not command.exists():
            raise SystemExit(
                f"{command} does not exist: build Troupe first, or name the command with "
                "--troupe, or use --reference"
            )

    def __call__(self, chats: list[list[dict]]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = (pathlib.Path(folder) / name for name in ("in.jsonl", "out.jsonl"))
            with asked.open("w", encoding="utf-8") as file:
                for index, chat in enumerate(chats):
                    file.write(
                        json.dumps(
                            {
                                "custom_id": str(index),
                                "method": "POST",
                                "url": "/v1/chat/completions",
                                "body": {
                                    "messages": [openai_message(m) for m in chat],
                                    "temperature": 0,
                                    "max_tokens": 96,
                                },
                            }
                        )
                        + "\n"
                    )
            subprocess.run([self.command, "batch", self.model, asked, answered], check=True)
            answers = {}
            for line in answered.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                body = (row.get("response") or {}).get("body") or {}
                said = (body.get("choices") or [{}])[0].get("message", {}).get("content")
                answers[row["custom_id"]] = said or f"(no answer: {row.get('error') or body})"
        return [answers.get(str(index), "(no answer)") for index in range(len(chats))]


class Reference:
    """The folder on transformers, in f32 unless asked otherwise."""

    def __init__(self, model: pathlib.Path, dtype: str, batch: int):
        import torch
        import transformers

        self.torch, self.batch = torch, batch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.processor = transformers.AutoProcessor.from_pretrained(model)
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(
            model, dtype=getattr(torch, dtype)
        ).to(self.device)

    def __call__(self, chats: list[list[dict]]) -> list[str]:
        inputs = [
            self.processor.apply_chat_template(
                [
                    {
                        **m,
                        "content": m["content"]
                        if not isinstance(m["content"], str)
                        else [{"type": "text", "text": m["content"]}],
                    }
                    for m in chat
                ],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            for chat in chats
        ]
        answers = [""] * len(chats)
        order = sorted(range(len(chats)), key=lambda i: inputs[i]["input_ids"].shape[1])
        for begin in range(0, len(order), self.batch):
            part = order[begin : begin + self.batch]
            for index, text in zip(part, self.generate([inputs[i] for i in part])):
                answers[index] = text
        return answers

    def generate(self, inputs: list) -> list[str]:
        torch, pad = self.torch, self.processor.tokenizer.pad_token_id
        width = max(i["input_ids"].shape[1] for i in inputs)

        def left(ids, value: int):
            return torch.nn.functional.pad(ids, (width - ids.shape[1], 0), value=value)

        pixels = [i["pixel_values"] for i in inputs if "pixel_values" in i]
        given = {
            "input_ids": torch.cat([left(i["input_ids"], pad) for i in inputs]),
            "attention_mask": torch.cat([left(i["attention_mask"], 0) for i in inputs]),
        }
        if pixels:
            given["pixel_values"] = torch.cat(pixels)
        with torch.no_grad():
            made = self.model.generate(**{k: v.to(self.device) for k, v in given.items()})
        return self.processor.batch_decode(made[:, width:].cpu(), skip_special_tokens=True)


def evaluate(answer, made: list[Case]) -> Score:
    score = Score()
    chats: list[list[dict]] = [[] for _ in made]
    for turn in range(max(len(c.turns) for c in made)):
        open_ = [i for i, c in enumerate(made) if turn < len(c.turns)]
        for i in open_:
            chats[i].append(made[i].message(turn))
        for i, text in zip(open_, answer([chats[i] for i in open_])):
            score.add(made[i], turn, text)
            chats[i].append({"role": "assistant", "content": text.strip()})
    return score


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=pathlib.Path, default=HERE.parent / "lookout")
    parser.add_argument("--per-kind", type=int, default=100)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--reference", action="store_true", help="use transformers, not Troupe")
    parser.add_argument(
        "--troupe", type=pathlib.Path, default=ROOT / "build/release/bin/troupe", help="the command"
    )
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16"], help="of the reference"
    )
    parser.add_argument("--batch", type=int, default=32, help="of the reference")
    parser.add_argument(
        "--least", type=float, default=0.0, help="fail below this share of right answers"
    )
    options = parser.parse_args()
    engine = (
        Reference(options.model, options.dtype, options.batch)
        if options.reference
        else Batch(options.model, options.troupe)
    )
    share = evaluate(engine, cases(options.per_kind, options.seed)).report()
    if share < options.least:
        raise SystemExit(f"{share:.4f} is less than {options.least}")


if __name__ == "__main__":
    main()
