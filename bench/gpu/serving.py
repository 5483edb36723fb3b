#!/usr/bin/env python3
"""The serving bench through the Python SDK: the same requests as troupe bench serving.

    serving.py MODEL LENGTHS.json [REPEATS]      # PYTHONPATH and TROUPE_LIBRARY_DIR as in sdk/python/test

All requests go in at once as token ids; every delta is read. Prints one JSON object a run, the
first of which warms up.
"""
import asyncio
import json
import pathlib
import random
import sys
import time

from troupe import AsyncEngine, Sampling


async def run(engine: AsyncEngine, requests: list, seed: int) -> dict:
    draw = random.Random(seed)
    vocab = engine.info.vocab_size
    prompts = [[draw.randrange(300, vocab) for _ in range(given)] for given, _ in requests]

    async def read(prompt: list, wanted: int) -> int:
        sampling = Sampling(temperature=0.0, max_tokens=wanted, ignore_eos=True)
        tokens = 0
        async for delta in engine.stream(prompt, sampling=sampling):
            tokens += len(delta.tokens)
        return tokens

    begin = time.monotonic()
    pairs = zip(prompts, requests)
    tokens = sum(await asyncio.gather(*(read(p, wanted) for p, (_, wanted) in pairs)))
    wall = time.monotonic() - begin
    return {
        "bench": "serving, Python",
        "requests_per_s": len(requests) / wall,
        "output_tokens_per_s": tokens / wall,
        "wall_s": wall,
    }


async def main(model: str, lengths: str, repeats: int) -> None:
    requests = json.loads(pathlib.Path(lengths).read_text())
    requests = requests["requests"] if isinstance(requests, dict) else requests
    options = {"device": "cuda", "load_format": "dummy", "max_sequences": len(requests)}
    async with AsyncEngine(model, prefix_reuse=False, **options) as engine:
        for repeat in range(repeats + 1):
            print(json.dumps(await run(engine, requests, repeat)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2))
