"""Makes sampling.json: logits in, the probabilities to draw from out.

    python3 tests/golden/sampling.py

transformers' own logits processors do each stage, in the order that Troupe documents: logit bias,
bad words and forbidden ends (min tokens), repetition penalty, presence and frequency penalties,
temperature, top-k, top-p, min-p. The two OpenAI penalties are not in transformers; they follow
OpenAI's definition, in numpy. Logits are drawn again until no cut falls close to a token, so that
f32 and f64 keep the same tokens.
"""

import json
import pathlib

import numpy
import torch
import transformers
from transformers.generation import logits_process

HERE = pathlib.Path(__file__).parent
SCHEMA = 1
MOST_TRIES = 1000
CLEARANCE = 1e-4  # between a cut and the nearest token, relative to the cut
NEUTRAL = {"logit_bias": [], "bad_words": [], "min_tokens": 0, "end_tokens": [],
           "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
           "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}

# Name, vocabulary, and what differs from NEUTRAL; tokens of prompt and output are drawn below 12.
SINGLE = [
    ("plain", 17, {}),
    ("one token in the vocabulary", 1, {"temperature": 0.7, "top_p": 0.5}),
    ("cold", 17, {"temperature": 0.25}),
    ("hot", 61, {"temperature": 3.0}),
    ("top-k of one", 61, {"top_k": 1}),
    ("top-k", 61, {"top_k": 9}),
    ("top-k beyond the vocabulary", 17, {"top_k": 400}),
    ("top-p", 61, {"top_p": 0.8}),
    ("top-p so small that one token stays", 61, {"top_p": 1e-6}),
    ("top-p near one", 257, {"top_p": 0.999}),
    ("min-p", 61, {"min_p": 0.1}),
    ("min-p of one", 61, {"min_p": 1.0}),
    ("min-p that keeps everything", 17, {"min_p": 1e-7}),
    ("repetition penalty", 17, {"repetition_penalty": 1.3}),
    ("repetition reward", 17, {"repetition_penalty": 0.7}),
    ("presence penalty", 17, {"presence_penalty": 1.5}),
    ("presence reward", 17, {"presence_penalty": -1.0}),
    ("frequency penalty", 17, {"frequency_penalty": 0.6}),
    ("presence and frequency penalties", 17, {"presence_penalty": 0.4, "frequency_penalty": -0.5}),
    ("logit bias", 17, {"logit_bias": [[3, 2.5], [5, -4.0], [11, 0.25]]}),
    ("logit bias that forbids", 17, {"logit_bias": [[0, -100.0], [1, -100.0], [2, 100.0]]}),
    ("one bad token", 17, {"bad_words": [[4], [9]]}),
    ("bad words whose beginning matches", 17, {"bad_words": [[1, 2, 3], [2, 7]], "tail": [1, 2]}),
    ("bad words whose beginning does not", 17, {"bad_words": [[1, 2, 3], [6, 2, 7]],
                                                 "tail": [2, 2]}),
    ("bad words across prompt and output", 17, {"bad_words": [[1, 2, 3]], "tail": [2],
                                                "prompt_tail": [1]}),
    ("min tokens not yet reached", 17, {"min_tokens": 9, "end_tokens": [2, 6]}),
    ("min tokens reached", 17, {"min_tokens": 3, "end_tokens": [2, 6], "output_length": 3}),
]
PAIRS = [
    ("top-k, then top-p", 61, {"top_k": 8, "top_p": 0.7}),
    ("top-k, then min-p", 61, {"top_k": 8, "min_p": 0.2}),
    ("top-p, then min-p", 61, {"top_p": 0.9, "min_p": 0.15}),
    ("temperature before top-p", 61, {"temperature": 0.5, "top_p": 0.8}),
    ("temperature before min-p", 61, {"temperature": 2.0, "min_p": 0.2}),
    ("bias before repetition penalty", 17, {"repetition_penalty": 1.8,
                                            "logit_bias": [[i, 3.0] for i in range(12)]}),
    ("repetition before presence", 17, {"repetition_penalty": 1.8, "presence_penalty": 1.1}),
    ("presence before temperature", 17, {"presence_penalty": 1.1, "temperature": 0.4}),
    ("greedy", 61, {"temperature": 0.0, "top_k": 5, "top_p": 0.5}),
    ("greedy after penalties", 17, {"temperature": 0.0, "repetition_penalty": 1.4,
                                    "presence_penalty": 2.0, "frequency_penalty": 0.9}),
    ("bad word that was the likeliest, then top-k", 17, {"bad_words": [[4]], "top_k": 3,
                                                         "logit_bias": [[4, 12.0]]}),
]


def stages(params: dict, prompt_length: int):
    """The processors in order; a callable takes (ids, scores, counts of the output)."""
    p, process = params, logits_process
    if p["logit_bias"]:
        yield process.SequenceBiasLogitsProcessor([[[id], bias] for id, bias in p["logit_bias"]])
    if p["bad_words"]:
        yield process.NoBadWordsLogitsProcessor(p["bad_words"])
    if p["min_tokens"] and p["end_tokens"]:
        yield process.MinNewTokensLengthLogitsProcessor(
            prompt_length, p["min_tokens"], p["end_tokens"], device="cpu")
    if p["repetition_penalty"] != 1:
        yield process.RepetitionPenaltyLogitsProcessor(p["repetition_penalty"])
    if p["presence_penalty"] or p["frequency_penalty"]:
        yield openai_penalties(p["presence_penalty"], p["frequency_penalty"], prompt_length)
    if p["temperature"] == 0:
        yield greedy
        return
    if p["temperature"] != 1:
        yield process.TemperatureLogitsWarper(p["temperature"])
    if p["top_k"]:
        yield process.TopKLogitsWarper(p["top_k"])
    if p["top_p"] < 1:
        yield process.TopPLogitsWarper(p["top_p"])
    if p["min_p"]:
        yield process.MinPLogitsWarper(p["min_p"])


def greedy(_, scores: torch.Tensor) -> torch.Tensor:
    """Temperature 0: the likeliest token after the penalties, whatever the cuts say."""
    best = scores.argmax(-1, keepdim=True)
    return torch.full_like(scores, -torch.inf).scatter(1, best, 0.0)


def openai_penalties(presence: float, frequency: float, prompt_length: int):
    """OpenAI: mu[j] - c[j] * frequency - (c[j] > 0) * presence, c counting the output alone."""
    def apply(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        counts = numpy.bincount(ids[0, prompt_length:].numpy(), minlength=scores.shape[1])
        penalty = frequency * counts + presence * (counts > 0)
        return scores - torch.from_numpy(penalty).to(scores.dtype)
    return apply


def clear_of_cuts(params: dict, scores: torch.Tensor, stage) -> bool:
    """Whether the stage's cut, if it has one, falls well between two tokens."""
    probabilities = scores.softmax(-1)[0].sort(descending=True).values
    kept = probabilities[probabilities > 0]
    if isinstance(stage, logits_process.TopKLogitsWarper):
        k = params["top_k"]
        return k >= len(kept) or bool(kept[k - 1] > kept[k] * (1 + CLEARANCE))
    if isinstance(stage, logits_process.TopPLogitsWarper):
        gaps = (kept.cumsum(0) - params["top_p"]).abs()
        return bool(gaps.min() > CLEARANCE * min(params["top_p"], 1 - params["top_p"]))
    if isinstance(stage, logits_process.MinPLogitsWarper) and params["min_p"] < 1:
        return bool(((kept / kept[0] / params["min_p"]) - 1).abs().min() > CLEARANCE)
    return True


def process(params: dict, logits: list, prompt: list, output: list, dtype) -> torch.Tensor | None:
    ids = torch.tensor([prompt + output])
    scores = torch.tensor([logits], dtype=dtype)
    for stage in stages(params, len(prompt)):
        if not clear_of_cuts(params, scores, stage):
            return None
        scores = stage(ids, scores)
    return scores[0]


def make_case(name: str, vocab: int, changes: dict, numbers: numpy.random.Generator) -> dict:
    changes = dict(changes)
    tail, prompt_tail = changes.pop("tail", []), changes.pop("prompt_tail", [])
    length = changes.pop("output_length", 5)
    params = {**NEUTRAL, **changes}
    for _ in range(MOST_TRIES):
        drawn = numbers.integers(0, min(12, vocab), size=4 + length)
        prompt = drawn[:4].tolist() + prompt_tail
        output = drawn[4:].tolist()
        output = tail if prompt_tail else output + tail
        logits = [round(float(v), 3) for v in numbers.normal(0, 2.5, size=vocab)]
        exact = process(params, logits, prompt, output, torch.float64)
        single = process(params, logits, prompt, output, torch.float32)
        if exact is not None and single is not None and torch.equal(
                exact.isfinite(), single.isfinite()):
            return {"name": name, "prompt": prompt, "output": output,
                    "params": {k: v for k, v in params.items() if v != NEUTRAL[k]},
                    "logits": logits,
                    "probabilities": [float(f"{p:.9g}") for p in exact.softmax(-1).tolist()]}
    raise SystemExit(f"{name}: every draw falls close to a cut")


def random_changes(numbers: numpy.random.Generator) -> dict:
    """Everything at once, as users combine it."""
    def maybe(value):
        return value if numbers.random() < 0.6 else None

    changes = {
        "temperature": maybe(round(float(numbers.uniform(0.3, 1.8)), 2)),
        "top_k": maybe(int(numbers.integers(2, 40))),
        "top_p": maybe(round(float(numbers.uniform(0.3, 0.98)), 2)),
        "min_p": maybe(round(float(numbers.uniform(0.01, 0.3)), 2)),
        "repetition_penalty": maybe(round(float(numbers.uniform(0.8, 1.6)), 2)),
        "presence_penalty": maybe(round(float(numbers.uniform(-1, 1.5)), 2)),
        "frequency_penalty": maybe(round(float(numbers.uniform(-0.5, 1)), 2)),
        "logit_bias": maybe([[int(t), round(float(numbers.uniform(-4, 4)), 1)]
                             for t in numbers.choice(12, size=3, replace=False)]),
        "bad_words": maybe([[int(numbers.integers(0, 12))]]),
    }
    return {key: value for key, value in changes.items() if value is not None}


def main() -> None:
    numbers = numpy.random.Generator(numpy.random.PCG64(20))
    wanted = SINGLE + PAIRS + [(f"all together {i}", (17, 61, 257)[i % 3], random_changes(numbers))
                               for i in range(24)]
    cases = [make_case(*case, numbers) for case in wanted]
    head = {"schema": SCHEMA, "versions": {"transformers": transformers.__version__,
                                           "torch": torch.__version__.split("+")[0]},
            "neutral": NEUTRAL}
    lines = [f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in head.items()]
    rows = ["    " + json.dumps(case, separators=(",", ":")) for case in cases]
    text = "{\n" + ",\n".join(lines) + ',\n  "cases": [\n' + ",\n".join(rows) + "\n  ]\n}\n"
    (HERE / "sampling.json").write_text(text, encoding="utf-8")
    print(f"{len(cases)} cases, {len(text) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
