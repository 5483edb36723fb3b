"""What is particular to compiled code: what it is compiled against, who may load it, what signals and the garbage
collector find in it, and that its Delta is still the dataclass that it was."""

import copy
import dataclasses
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref

import pytest

import troupe
from helpers import LONG, run_python, wait_for
from troupe import Delta, Engine, Sampling, _native
from troupe.engine import Stream

# ---- what is loaded ----


def test_the_library_that_is_missing_or_another():
    environment = {**os.environ, "TROUPE_LIBRARY_DIR": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", "import troupe"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "ImportError" in done.stderr and "/nowhere/libtroupe.so" in done.stderr
    from troupe import _library

    class Older:
        def __init__(self, bytes_missing):
            self._missing = bytes_missing

        def troupe_sizeof(self, name):
            return _library.lib.troupe_sizeof(name) - (self._missing if name == b"troupe_event" else 0)

    with pytest.raises(ImportError, match="troupe_event"):
        _library._check_age(Older(8))
    with pytest.raises(ImportError, match="troupe_queue_new_in_turn"):
        _library._check_age(Older(0))


def test_without_its_compiled_part_the_package_says_what_to_do():
    code = ("import sys\nsys.modules['troupe._native'] = None\n"
            "try:\n    import troupe\nexcept ImportError as error:\n    print(error)\n")
    status, said, _ = run_python(code)
    assert status == 0 and "compiled part" in said and "sdk/python/compile" in said and "CPython 3.10" in said


def test_a_part_compiled_with_another_header_is_refused():
    functions, callables = (0,) * 5, (None,) * 4
    with pytest.raises(ImportError, match="another troupe.h.*sdk/python/compile"):
        _native.connect(functions, (8, 8), Delta, *callables, 0)


def test_a_sub_interpreter_is_refused():
    code = ("import sys\ntry:\n    import _xxsubinterpreters as interpreters\n"
            "except ImportError:\n    import _interpreters as interpreters\n"
            "import troupe\n"
            "other = interpreters.create()\n"
            "interpreters.run_string(other, \"try:\\n    import troupe._native\\nexcept ImportError as error:\\n"
            "    print(error, flush=True)\")\n"
            "print(troupe.Engine('echo:').generate('here').text)\n")
    status, said, err = run_python(code)
    assert status == 0 and "sub" in said.splitlines()[0] and said.splitlines()[-1] == "here", (said, err)


def test_what_no_engine_made_is_no_stream():
    with pytest.raises(RuntimeError, match="made by an engine"):
        next(Stream.__new__(Stream))
    assert _native.Answer()._take() is None


# ---- Delta ----


def test_a_delta_is_a_dataclass(engine):
    with engine.stream("abc", sampling=Sampling(stop=["c"])) as stream:
        deltas = list(stream)
    last = deltas[-1]
    assert repr(last).startswith("Delta(text=") and str(last) == last.text and (last.finish_reason, last.stop_text) == ("stop", "c")
    assert [each.name for each in dataclasses.fields(last)] == list(Delta.__match_args__) == list(dataclasses.asdict(last))
    for again in (pickle.loads(pickle.dumps(last)), copy.copy(last), copy.deepcopy(last), dataclasses.replace(last)):
        assert again == last and type(again) is Delta
    assert Delta("x", [1]) == Delta(text="x", tokens=[1], index=0) != Delta("x", [1], 1)
    assert Delta("x", [1]).logprobs is None and Delta("x", [1]).index == 0
    with pytest.raises(AttributeError):
        last.colour = "red"
    with pytest.raises(TypeError):
        hash(last)
    match last:
        case Delta(finish_reason="stop"):
            pass
        case _:
            pytest.fail("no match")


# ---- signals and threads ----


def test_a_handler_that_raises_anywhere_loses_nothing():
    """Every few milliseconds, in whatever is done just then: what was begun is done once more, and nothing twice."""
    code = ("import signal\nfrom troupe import Engine, Sampling\n"
            "class Alarm(Exception): pass\n"
            "rung = 0\n"
            "def ring(_, frame):\n"
            "    global rung\n"
            "    while frame and frame.f_code.co_name != 'result':\n        frame = frame.f_back\n"
            "    if frame:\n        rung += 1\n        raise Alarm\n"
            "engine = Engine('echo:?step_ms=1')\n"
            "whole = engine.generate('z' * 600, sampling=Sampling(logprobs=2, n=4))\n"
            "stream, result = engine.stream('z' * 600, sampling=Sampling(logprobs=2, n=4)), None\n"
            "signal.signal(signal.SIGALRM, ring)\nsignal.setitimer(signal.ITIMER_REAL, 0.004, 0.004)\n"
            "while result is None:\n"
            "    try:\n        result = stream.result()\n"
            "    except Alarm:\n        pass\n"
            "signal.setitimer(signal.ITIMER_REAL, 0)\n"
            "assert result.choices == whole.choices\n"
            "print(rung > 50)\n")
    assert run_python(code) == (0, "True\n", "")


def test_closing_a_stream_for_which_several_threads_wait():
    with Engine("echo:?step_ms=2000") as engine:
        stream, told = engine.stream(LONG), []

        def read():
            try:
                for _ in stream:
                    pass
                told.append("end")
            except troupe.Cancelled:
                told.append("cancelled")

        readers = [threading.Thread(target=read) for _ in range(5)]
        for reader in readers:
            reader.start()
        wait_for(lambda: engine.stats().running == 1)
        stream.close()
        for reader in readers:
            reader.join(10)
        assert sorted(told) == ["cancelled"] + ["end"] * 4


def test_a_stream_that_threads_share_ends_in_a_fork():
    code = ("import os, threading, time, troupe\n"
            "engine = troupe.Engine('echo:?step_ms=2000')\nstream = engine.stream('x' * 300)\n"
            "for _ in range(2):\n    threading.Thread(target=lambda: list(stream), daemon=True).start()\n"
            "time.sleep(0.3)\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    try:\n        next(stream)\n"
            "    except troupe.Forked:\n        os._exit(7)\n"
            "    os._exit(9)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)\nos._exit(0)\n")
    assert run_python(code) == (0, "7\n", "")


def test_exit_while_threads_of_a_daemon_wait():
    code = ("import threading, time, troupe\n"
            "engine = troupe.Engine('echo:?step_ms=5')\n"
            "streams = [engine.stream('x' * 3000) for _ in range(20)]\n"
            "def read(stream):\n"
            "    try:\n        list(stream)\n    except troupe.TroupeError:\n        pass\n"
            "for stream in streams:\n    threading.Thread(target=read, args=(stream,), daemon=True).start()\n"
            "time.sleep(0.2)\nprint('bye')\n")
    for _ in range(5):
        status, said, _ = run_python(code)
        assert (status, said) == (0, "bye\n")


# ---- memory ----


def test_the_collector_sees_into_streams_and_deltas(slow):
    stream = slow.stream(LONG)
    stream.itself = stream
    delta = next(stream)
    delta.tokens.append(delta)
    gone = weakref.ref(stream)
    del stream, delta
    gc.collect()
    assert gone() is None
    wait_for(lambda: slow.stats().cancelled == 1)


def test_reading_leaves_nothing_behind(engine):
    def read(count):
        for _ in range(count):
            with engine.stream("abcdef" * 4, sampling=Sampling(n=2, logprobs=1, prompt_logprobs=1)) as stream:
                stream.result()
        gc.collect()
        return sys.getallocatedblocks()

    for _ in range(3):
        before = read(200)  # caches fill
    assert read(1000) - before < 200


def test_no_memory_at_any_point_loses_nothing(engine):
    memory = pytest.importorskip("_testcapi")  # not in every distribution's Python
    wanted = engine.generate("abcdefgh", sampling=Sampling(n=2, logprobs=0))
    refused = 0
    for first in range(90):
        stream = engine.stream("abcdefgh", sampling=Sampling(n=2, logprobs=0))
        for attempt in range(200):
            at = 1 + (7 * first + 3 * attempt) % 90
            try:
                memory.set_nomemory(at, at + 1 + first % 3)
                try:
                    next(stream)
                finally:
                    memory.remove_mem_hooks()
            except MemoryError:
                refused += 1
            except StopIteration:
                break
        assert stream.result().choices == wanted.choices
    assert refused > 90


def test_no_memory_for_a_long_delta_loses_and_doubles_nothing():
    """The second delta has nearly all of the answer: lists grow by much, and would have to shrink by as much."""
    memory = pytest.importorskip("_testcapi")
    with troupe.Engine("echo:?step_ms=1") as engine:
        wanted = engine.generate("abcdefgh" * 3).choices
        for first in range(1, 30):
            stream = engine.stream("abcdefgh" * 3)
            assert next(stream).tokens
            time.sleep(0.06)  # nobody reads, so that the rest is one delta
            for attempt in range(100):
                at = 1 + (first + attempt) % 30
                try:
                    memory.set_nomemory(at, at + 4)
                    try:
                        next(stream)
                    finally:
                        memory.remove_mem_hooks()
                except MemoryError:
                    continue
                except StopIteration:
                    break
            assert stream.result().choices == wanted, first


async def test_an_event_that_cannot_be_read_ends_its_stream_alone(monkeypatch):
    """A bug of ours, or no memory: told to whose stream it is, and the others go on."""
    from troupe import AsyncEngine, _events

    async with AsyncEngine("echo:?step_ms=5") as engine:
        other = engine.stream("y" * 50)
        stream = engine.stream("x" * 20, sampling=Sampling(logprobs=0))
        monkeypatch.setattr(_events, "event_at", lambda address: 1 // 0)
        with pytest.raises(troupe.EngineFailed, match="could not be read: ZeroDivisionError") as caught:
            await stream.result()
        assert caught.value.code == "INTERNAL"
        monkeypatch.undo()
        assert (await other.result()).text == "y" * 50
