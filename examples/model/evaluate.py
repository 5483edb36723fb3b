"""How often Abacus answers a question it has never seen exactly right, decoding greedily.

    python3 examples/model/evaluate.py                                 # on transformers
    python3 examples/model/evaluate.py --write questions.jsonl         # for any other engine:
    troupe batch examples/model/abacus questions.jsonl answers.jsonl
    python3 examples/model/evaluate.py --score answers.jsonl

Questions come from the held-out side of data.py. Conversations have six turns, and the model reads
its own earlier answers, so one mistake can spoil the turns after it.
"""

import argparse
import collections
import json
import pathlib

import data

SEED = 2024
TURNS = 6
HERE = pathlib.Path(__file__).parent


def questions(per_kind: int) -> list[data.Exchange]:
    """Up to `per_kind` different ones; small talk has only a few on the held-out side."""
    asker = data.Asker(SEED, want_held_out=True)
    drawn = [asker.exchange(kind) for kind in data.Asker.KINDS for _ in range(per_kind)]
    return list({exchange.question: exchange for exchange in drawn}.values())


def conversations(count: int) -> list[list[data.Exchange]]:
    asker = data.Asker(SEED + 1, want_held_out=True)
    return [asker.conversation(TURNS) for _ in range(count)]


class Score:
    """Right and wrong answers by kind, and some of the wrong ones to look at."""

    def __init__(self):
        self.right, self.asked, self.wrong = collections.Counter(), collections.Counter(), []

    def add(self, kind: str, exchange: data.Exchange, answer: str) -> None:
        self.asked[kind] += 1
        if answer.strip() == exchange.answer:
            self.right[kind] += 1
        else:
            self.wrong.append(f"{kind}: {exchange.question!r} -> {answer!r}, "
                              f"not {exchange.answer!r}")

    def report(self) -> float:
        for kind in self.asked:
            print(f"{kind:14} {self.right[kind]:5} of {self.asked[kind]:5}")
        right, asked = self.right.total(), self.asked.total()
        print(f"{'all':14} {right:5} of {asked:5} = {100 * right / asked:.2f} %")
        for line in self.wrong[:20]:
            print("  " + line)
        return right / asked


class Answerer:
    """The folder on transformers: chats in, answers out, many at a time."""

    def __init__(self, folder: pathlib.Path, dtype: str, batch: int):
        import torch
        import transformers
        self.torch, self.batch = torch, batch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype)).to(self.device)

    def __call__(self, chats: list[list[dict]]) -> list[str]:
        answers = []
        for begin in range(0, len(chats), self.batch):
            inputs = self.tokenizer.apply_chat_template(
                chats[begin:begin + self.batch], add_generation_prompt=True, padding=True,
                return_tensors="pt", return_dict=True).to(self.device)
            with self.torch.no_grad():
                made = self.model.generate(**inputs)[:, inputs["input_ids"].shape[1]:]
            answers += self.tokenizer.batch_decode(made, skip_special_tokens=True)
        return answers


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def evaluate(answer: Answerer, per_kind: int, count: int) -> float:
    score = Score()
    singles = questions(per_kind)
    for exchange, text in zip(singles, answer([[user(e.question)] for e in singles])):
        score.add(exchange.kind, exchange, text)
    talks = conversations(count)
    chats: list[list[dict]] = [[] for _ in talks]
    for turn in range(TURNS):
        for chat, talk in zip(chats, talks):
            chat.append(user(talk[turn].question))
        for chat, talk, text in zip(chats, talks, answer(chats)):
            score.add("conversations", talk[turn], text)
            chat.append({"role": "assistant", "content": text})
    return score.report()


def write_batch(path: pathlib.Path, per_kind: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for index, exchange in enumerate(questions(per_kind)):
            file.write(json.dumps({
                "custom_id": str(index), "method": "POST", "url": "/v1/chat/completions",
                "body": {"messages": [user(exchange.question)], "temperature": 0}}) + "\n")


def score_batch(path: pathlib.Path, per_kind: int) -> float:
    """Answers may come in any order; a question without one counts as wrong."""
    answers = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        body = (row.get("response") or {}).get("body") or {}
        choices = body.get("choices") or [{"message": {"content": f"error: {row.get('error')}"}}]
        answers[row["custom_id"]] = choices[0]["message"]["content"] or ""
    score = Score()
    for index, exchange in enumerate(questions(per_kind)):
        score.add(exchange.kind, exchange, answers.get(str(index), "(no answer)"))
    return score.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=HERE / "abacus")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--per-kind", type=int, default=250)
    parser.add_argument("--conversations", type=int, default=250)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--least", type=float, default=0.0,
                        help="fail below this share of right answers")
    parser.add_argument("--write", type=pathlib.Path, help="write the questions as a batch file")
    parser.add_argument("--score", type=pathlib.Path, help="score the answers to such a file")
    options = parser.parse_args()
    if options.write:
        write_batch(options.write, options.per_kind)
        return
    if options.score:
        share = score_batch(options.score, options.per_kind)
    else:
        answer = Answerer(options.model, options.dtype, options.batch)
        share = evaluate(answer, options.per_kind, options.conversations)
    if share < options.least:
        raise SystemExit(f"{share:.4f} is less than {options.least}")


if __name__ == "__main__":
    main()
