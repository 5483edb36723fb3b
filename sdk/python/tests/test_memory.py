"""Memory stays flat over many requests. Each program measures a process of its own: in one that ran other tests, what
they left in the heap comes and goes by megabytes."""

import gc
import os
import time
from pathlib import Path

from helpers import run_python, wait_for
from troupe import Engine

CYCLES = int(os.environ.get("TROUPE_TEST_CYCLES", "100000"))
MOST_KIB = 2 * 1024


def resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def rested_kib():
    """Once the engine rests, which a second after the last answer gives back what a burst took."""
    gc.collect()
    time.sleep(1.5)
    return resident_kib()


def expect_flat_since(before):
    """A leak stays; on a busy machine what a burst took may need longer to be given back."""
    gc.collect()
    wait_for(lambda: resident_kib() - before < MOST_KIB, seconds=20)


def many_requests():
    with Engine("echo:") as engine:

        def rounds(count):
            for _ in range(count):
                engine.batch(["leak?"] * 100, progress=False)

        rounds(10)
        before = rested_kib()
        rounds(100)
        expect_flat_since(before)


def many_cancelled():
    with Engine("echo:?step_ms=1") as engine:

        def rounds(count):
            for _ in range(count // 200):
                streams = [engine.stream("x" * 200) for _ in range(200)]
                for stream in streams:
                    stream.close()
                while engine.stats().running + engine.stats().waiting:
                    time.sleep(0.001)

        first = CYCLES // 5  # heaps of all threads are as large as they will be
        rounds(first)
        before = rested_kib()
        rounds(CYCLES)
        expect_flat_since(before)
        stats = engine.stats()
        assert stats.submitted == first + CYCLES == stats.done + stats.cancelled + stats.failed


def run_alone(program):
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import test_memory; test_memory.{program.__name__}()"
    assert run_python(code, timeout=300) == (0, "", "")


def test_ten_thousand_requests_leave_no_leak():
    run_alone(many_requests)


def test_submitting_and_cancelling_keeps_memory_flat():
    run_alone(many_cancelled)
