#!/usr/bin/env python3
"""The whole engine on one GPU: every row of the table that it is held to, beside its bar.

    bench/gpu/engine.py SHAPES [--lengths FILE] [--out FILE] [--repeats N] [--rows PATTERN]

SHAPES is a folder that bench/gpu/shapes.py wrote; FILE a JSON list of [input, output] lengths for
the serving row, which is left out without one. Each command of COMMANDS opens its model anew with
seeded random weights and measures some rows; a row is the median of its repeats. Prints a table,
and writes what every command answered to --out.
"""
import argparse
import dataclasses
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of an answer: of the runs with `batch`, the value under `key`."""

    name: str
    key: str
    must: float
    batch: int | None = None


@dataclasses.dataclass(frozen=True)
class Command:
    shape: str
    arguments: tuple[str, ...]
    rows: tuple[Row, ...]
    repeats: int | None = None  # None: what the command line says; 0: the bench has no such option


def decode(shape: str, bars: dict[int, float]) -> Command:
    batches = ",".join(map(str, bars))
    return Command(
        shape, ("latency", "--in", "128", "--out", "256", "--batch", batches),
        tuple(Row(f"{shape} decode, batch {n}, tok/s", "decode_tokens_per_s", must, n)
              for n, must in bars.items()))


def prompt(length: int, bars: dict[int, float]) -> Command:
    batches = ",".join(map(str, bars))
    return Command(
        "llama-3-8b", ("prefill", "--in", str(length), "--batch", batches),
        tuple(Row(f"llama-3-8b prefill, {n} x {length}, tok/s", "prefill_tokens_per_s", must, n)
              for n, must in bars.items()))


def experts(shape: str, must: float) -> Command:
    return Command(shape, ("latency", "--in", "128", "--out", "128", "--batch", "1"),
                   (Row(f"{shape} decode, batch 1, tok/s", "decode_tokens_per_s", must, 1),))


def pictures(size: int, tower: float, answered: float) -> Command:
    side = f"{size}x{size}"
    return Command(
        "qwen2-vl-7b", ("vision", "--images", "64", "--size", side, "--prompt", "64", "--out", "64"),
        (Row(f"tower, {side}, images/s", "images_per_s", tower),
         Row(f"64 requests with a picture of {side}, requests/s", "requests_per_s", answered)), 0)


COMMANDS = (
    decode("llama-3-8b", {1: 230, 8: 1720, 64: 12000, 256: 27000}),
    decode("llama-3.2-1b", {1: 1000, 64: 42000}),
    prompt(2048, {1: 41600, 8: 43000}),
    prompt(8192, {1: 38100}),
    Command("llama-3-8b", ("latency", "--in", "1", "--out", "2048", "--batch", "1,16,64,128"),
            tuple(Row(f"llama-3-8b, 1 in, 2048 out, batch {n}, tok/s", "total_tokens_per_s", must, n)
                  for n, must in {1: 225, 16: 3100, 64: 9400, 128: 13500}.items()), 1),
    # Held to 0.96 of the row above with the same batch.
    Command("llama-3-8b", ("latency", "--in", "128", "--out", "256", "--batch", "64",
                           "--temperature", "0.8", "--top-k", "50", "--top-p", "0.95", "--seed", "7"),
            (Row("llama-3-8b decode, batch 64, sampled, tok/s", "decode_tokens_per_s", 0.96 * 12000, 64),)),
    Command("llama-3-8b", ("serving", "--max-sequences", "512"),
            (Row("llama-3-8b, 512 requests at once, requests/s", "requests_per_s", 54),)),
    pictures(448, 280, 68),
    pictures(672, 100, 36),
    # Shares of what active weights at 4.43 TB/s would allow.
    experts("mixtral-8x7b", 0.60 * 174),
    experts("qwen3-30b-a3b", 0.35 * 728),
    experts("deepseek-v2-lite", 0.35 * 903),
)


def measure(command: Command, options: argparse.Namespace) -> dict:
    """What the command answers; empty, and said why, when it fails."""
    call = [options.command, "bench", command.arguments[0], options.shapes / command.shape,
            *command.arguments[1:], "--load-format", "dummy", "--device", "cuda", "--json"]
    if command.arguments[0] == "serving":
        call += ["--lengths", options.lengths]
    if command.repeats != 0:
        call += ["--repeats", str(command.repeats or options.repeats)]
    run = subprocess.run(call, capture_output=True, text=True)
    if run.returncode != 0:
        print(f"{command.shape} {command.arguments[0]}: {run.stderr.strip()[-400:]}", file=sys.stderr)
        return {}
    return json.loads(run.stdout)


def report(row: Row, answer: dict) -> None:
    figures = answer.get("figures", [])
    runs = figures if isinstance(figures, list) else [figures]
    values = [run[row.key] for run in runs
              if row.key in run and row.batch in (None, run.get("batch"))]
    if values:
        print(f"{row.name:56} {values[0]:10.2f}  must {row.must:9.1f}  {values[0] / row.must:6.3f}",
              flush=True)
    else:
        print(f"{row.name:56}       none  must {row.must:9.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", type=pathlib.Path)
    parser.add_argument("--lengths", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", default="", help="only commands with a row that matches")
    parser.add_argument("--command", default=ROOT / "build/release/bin/troupe")
    options = parser.parse_args()
    answers = []
    for command in COMMANDS:
        if command.arguments[0] == "serving" and options.lengths is None:
            continue
        if not any(re.search(options.rows, row.name) for row in command.rows):
            continue
        answers.append(measure(command, options))
        for row in command.rows:
            report(row, answers[-1])
        if options.out:
            options.out.write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
