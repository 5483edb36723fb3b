"""The same as overhead.py through the sync face: a thread for each answer."""

import sys
from concurrent.futures import ThreadPoolExecutor

from troupe import Engine


def main(endpoint: str, streams: int, tokens: int) -> int:
    with Engine(endpoint, max_sequences=streams) as engine, ThreadPoolExecutor(streams) as pool:

        def count(stream) -> int:
            return sum(bool(delta.tokens) for delta in stream)

        return sum(pool.map(count, [engine.stream("x" * tokens) for _ in range(streams)]))


print(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
