"""Processes that draw scenes for as long as training wants them."""

import multiprocessing
import os
import pickle
import shutil
import tempfile
import time

import rows as rowmaking

# Rows of one-tile pictures, of all pictures, and long ones: (rows in a shard, tokens in a row).
KINDS = {"simple": (64, 512), "short": (64, 512), "long": (16, 2048)}


def kind_of(made: int, seconds: float, options: dict) -> str:
    """Which rows to draw next: at first nearly only simple ones, as training asks for them."""
    if seconds < options.get("simple_seconds", 0):
        return "short" if made % 8 == 5 else "long" if made % 16 == 7 else "simple"
    return "long" if made % 8 == 7 else "simple" if made % 8 == 3 else "short"


def draw_forever(tokenizer_json: str, seed: int, place: str, ready, options: dict) -> None:
    """Fills files in `place` with shards and names them in `ready`."""
    import tokenizers

    os.nice(10)  # whoever compiles or trains goes first
    maker = rowmaking.RowMaker(
        tokenizers.Tokenizer.from_str(tokenizer_json), seed, options.get("held_out", False)
    )
    made, parent, start = 0, os.getppid(), time.monotonic()
    while made != options.get("shards") and os.getppid() == parent:
        kind = kind_of(made, time.monotonic() - start, options)
        maker.inventor.small = kind == "simple"
        shard = rowmaking.make_shard(maker, *KINDS[kind])
        path = f"{place}/{seed}-{made}.shard"
        with open(path, "wb") as file:
            pickle.dump((kind, shard), file, protocol=5)
        ready.put(path)
        made += 1


class Painters:
    """The processes and the queue of what they have drawn."""

    def __init__(self, tokenizer, count: int, seed: int, **options):
        context = multiprocessing.get_context("spawn")
        memory = "/dev/shm"
        roomy = os.path.isdir(memory) and shutil.disk_usage(memory).free > 4e9
        self.place = tempfile.mkdtemp(dir=memory if roomy else None)
        self.ready = context.Queue(maxsize=60)
        self.processes = [
            context.Process(
                target=draw_forever,
                daemon=True,
                args=(tokenizer.to_str(), seed + i, self.place, self.ready, options),
            )
            for i in range(count)
        ]
        for process in self.processes:
            process.start()

    def get(self, timeout: float) -> tuple[str, dict]:
        path = self.ready.get(timeout=timeout)
        with open(path, "rb") as file:
            shard = pickle.load(file)
        os.unlink(path)
        return shard

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        shutil.rmtree(self.place, ignore_errors=True)
