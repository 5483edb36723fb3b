"""Reads many answers at once, one asyncio task each, and prints how many token events came.

overhead.py ENDPOINT STREAMS TOKENS; see bench/sdk/run.py
"""

import asyncio
import sys

from troupe import AsyncEngine


async def main(endpoint: str, streams: int, tokens: int) -> int:
    async with AsyncEngine(endpoint, max_sequences=streams) as engine:

        async def count() -> int:
            events = 0
            async for delta in engine.stream("x" * tokens):
                events += bool(delta.tokens)
            return events

        return sum(await asyncio.gather(*(count() for _ in range(streams))))


print(asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
