"""Holds the command against transformers on models nobody chose.

    python3 tests/golden/random_models.py [--rounds N] [--seed N] [--command PATH] [FAMILY ...]

Each round draws a configuration of every family (random_specs.py), saves the model as transformers
saves it today, and lets `troupe batch` continue prompts greedily, under options drawn as well. What
it answers is scored by the reference, token by token: each token must be within a hair of the best
one, and its logprob the reference's. Nothing is stored: a failure prints family, seed and what to
run again, and leaves the folder. Not part of the tests, which need no reference library.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import tempfile

import torch

import id_tokenizer
import models
import random_specs
import reference

CLOSE = 2e-3  # of a logprob, f32 on both sides
NEW_TOKENS = 12
LONGEST = 256
OPTIONS = [[], ["--max-step-tokens", "16"], ["--no-overlap"], ["--block-tokens", "8"],
           ["--no-prefix-reuse"]]


def write_tokenizer(folder: pathlib.Path, vocab: int) -> None:
    id_tokenizer.write(folder, vocab)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "w2"}')


def draw_model(family: str, r: random.Random, seed: int, folder: pathlib.Path):
    config, kind = random_specs.FAMILIES[family](r)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = kind(config).eval()
    if r.random() < 0.7:  # else as transformers initialises: nearly even logits
        models.initialise(model, seed)
    model.save_pretrained(folder, **r.choice([{}, {"max_shard_size": "40KB"}]))
    write_tokenizer(folder, config.vocab_size)
    return model


def draw_prompts(model, r: random.Random) -> list[list[int]]:
    longest = min(getattr(model.config, "max_position_embeddings", LONGEST), LONGEST) - NEW_TOKENS
    lengths = [1, 2, r.randint(3, 20), r.randint(20, 48), longest]
    return [[r.randrange(3, model.config.vocab_size) for _ in range(n)] for n in lengths]


def answers(command: str, folder: pathlib.Path, prompts: list, options: list[str]) -> list[dict]:
    """One choice of OpenAI's shape per prompt."""
    lines = [{"custom_id": str(i), "url": "/v1/completions", "body": {
        "prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True,
        "logprobs": 1, "return_token_ids": True}} for i, prompt in enumerate(prompts)]
    given, taken = folder / "in.jsonl", folder / "out.jsonl"
    given.write_text("\n".join(map(json.dumps, lines)))
    run = subprocess.run(
        [command, "batch", folder, given, taken, "--dtype", "f32", "--kv-dtype", "f32",
         "--threads", "1", "--kv-memory", "64M", *options], capture_output=True, text=True)
    if run.returncode != 0:
        raise ValueError(f"troupe batch ended with {run.returncode}: {run.stderr.strip()[-600:]}")
    by_id = {row["custom_id"]: row for row in map(json.loads, taken.read_text().splitlines())}
    return [by_id[str(i)]["response"]["body"]["choices"][0] for i in range(len(prompts))]


def judge(model, prompt: list[int], choice: dict) -> None:
    scores = choice["logprobs"]["token_logprobs"]
    tokens = choice["token_ids"]
    if len(tokens) != NEW_TOKENS:
        raise ValueError(f"prompt of {len(prompt)}: {len(tokens)} tokens, not {NEW_TOKENS}")
    run = reference.forced(model, prompt, tokens)
    for step, (token, right) in enumerate(zip(tokens, run.logprobs)):
        likeliest, best = run.top[step][0]
        if best - right > CLOSE or abs(right - scores[step]) > CLOSE:
            raise ValueError(
                f"prompt of {len(prompt)}, step {step}: chose {token} at {scores[step]:.4f}, the "
                f"reference gives it {right:.4f} and its best, {likeliest}, {best:.4f}")


def check(family: str, seed: int, command: str) -> None:
    r = random.Random(f"{family} {seed}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"troupe-{family}-{seed}-"))
    try:
        model = draw_model(family, r, seed, folder)
        prompts = draw_prompts(model, r)
        for prompt, choice in zip(prompts, answers(command, folder, prompts, r.choice(OPTIONS))):
            judge(model, prompt, choice)
    except ValueError as problem:
        raise SystemExit(f"{family}, seed {seed}: {problem}\n"
                         f"the model is in {folder}; again: --rounds 1 --seed {seed} {family}")
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY",
                        help=f"of {', '.join(random_specs.FAMILIES)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--command", default="build/release/bin/troupe")
    arguments = parser.parse_args()
    families = arguments.families or list(random_specs.FAMILIES)
    unknown = set(families) - set(random_specs.FAMILIES)
    if unknown:
        parser.error(f"no such family: {', '.join(sorted(unknown))}")
    models.quietly()
    for seed in range(arguments.seed, arguments.seed + arguments.rounds):
        for family in families:
            check(family, seed, arguments.command)
        print(f"seed {seed}: {len(families)} models answer as transformers does", flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
