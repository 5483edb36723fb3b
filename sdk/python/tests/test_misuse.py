"""What users do that nobody planned: each has a documented result, none hangs, none crashes."""

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections import UserString

import numpy
import pytest

import troupe
from troupe import AsyncEngine, Embedding, Engine, Sampling

LONG = "x" * 3000


@pytest.fixture(scope="module")
def engine():
    with Engine("echo:") as opened:
        yield opened


@pytest.fixture
def slow():
    with Engine("echo:?step_ms=5") as opened:
        yield opened


def wait_for(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def run_python(code, timeout=30):
    done = subprocess.run([sys.executable, "-c", code], timeout=timeout, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


# ---- streams, left and shared ----


def test_closing_the_engine_ends_a_stream_that_is_read(slow):
    ended = []

    def read():
        try:
            for _ in slow.stream(LONG):
                pass
        except troupe.TroupeError as error:
            ended.append(error.code)

    reader = threading.Thread(target=read)
    reader.start()
    wait_for(lambda: slow.stats().running == 1)
    slow.close()
    reader.join(10)
    assert ended == ["CANCELLED"]


def test_two_threads_may_read_one_stream(slow):
    stream, texts = slow.stream("0123456789" * 5), []

    def read():
        texts.extend(delta.text for delta in stream)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
        assert not reader.is_alive()
    assert sorted("".join(texts)) == sorted("0123456789" * 5)


def test_a_thread_that_leaves_a_shared_stream_leaves_the_rest_to_the_other(slow):
    stream, texts = slow.stream("y" * 50), []
    other = threading.Thread(target=lambda: texts.extend(delta.text for delta in stream))
    other.start()
    next(stream)
    other.join(20)
    assert not other.is_alive() and 40 <= len("".join(texts)) < 50


def test_threads_with_other_things_to_do_do_not_hold_up_the_rest():
    """They are woken one after the other, but who stays away for long is not waited for."""
    threads, pauses, pause = 32, 20, 0.01

    def read(stream):
        for _, _ in zip(range(pauses), stream):
            time.sleep(pause)

    with Engine("echo:?step_ms=1", max_sequences=threads) as engine:
        readers = [threading.Thread(target=read, args=(engine.stream(LONG),)) for _ in range(threads)]
        begin = time.monotonic()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
        assert time.monotonic() - begin < threads * pauses * pause / 2


def test_a_stream_goes_on_after_an_exception_of_the_loop(slow):
    stream, texts = slow.stream("hello"), []
    with pytest.raises(ZeroDivisionError):
        for delta in stream:
            texts.append(delta.text)
            1 / 0
    assert "".join(texts) + stream.result().text[len("".join(texts)):] == "hello"
    assert stream.result().text == "hello" and list(stream) == []


def test_an_error_told_again_gathers_no_frames(slow):
    """One exception object, raised anew, would keep alive whatever stood in the frames that it passed."""

    class Held:
        pass

    def ask(call):
        held = Held()
        with pytest.raises(troupe.TroupeError):
            call()
        return weakref.ref(held)

    stream = slow.stream("x")
    slow.close()
    gone = [ask(call) for call in (lambda: slow.generate("x"), stream.result, stream.result) for _ in range(3)]
    gc.collect()
    assert [ref() for ref in gone] == [None] * 9


def test_a_closed_stream_says_so(slow):
    stream = slow.stream(LONG)
    next(stream)
    stream.close()
    stream.close()
    with pytest.raises(troupe.Cancelled):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert stream.so_far().text.startswith("x")


def test_a_dropped_engine_with_streams_running_is_closed_and_collected():
    engine = Engine("echo:?step_ms=5")
    gone = weakref.ref(engine)
    streams = [engine.stream(LONG) for _ in range(10)]
    loop = [engine, streams]
    loop.append(loop)  # found by the collector alone
    before = threading.active_count()
    del engine, streams, loop
    gc.collect()
    assert gone() is None
    wait_for(lambda: threading.active_count() < before)


def test_a_dropped_async_engine_is_collected_without_a_trace():
    """Its streams' __del__ still cancel when the collector has begun with the engine, in any order."""
    code = ("import asyncio, gc\nfrom troupe import AsyncEngine\n"
            "async def main():\n"
            "    for _ in range(30):\n"
            "        engine = await AsyncEngine.open('echo:?step_ms=1')\n"
            "        task = asyncio.create_task(engine.generate('x' * 500))\n"
            "        cycle = [engine, [engine.stream('x' * 500) for _ in range(5)]]\n"
            "        cycle.append(cycle)\n"
            "        await asyncio.sleep(0.01)\n"
            "gc.disable()\nasyncio.run(main())\ngc.collect()\nprint('collected')\n")
    status, out, _ = run_python(code, timeout=60)
    assert (status, out) == (0, "collected\n")


def test_an_interrupt_leaves_the_stream_usable():
    code = ("import os, signal, threading\nfrom troupe import Engine\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "engine = Engine('echo:?step_ms=10')\nstream, texts, interrupts = engine.stream('y' * 100), [], 0\n"
            "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "while True:\n"
            "    try:\n        texts += [d.text for d in stream]\n        break\n"
            "    except KeyboardInterrupt:\n        interrupts += 1\n"
            "print(interrupts, stream.result().text == 'y' * 100, engine.generate('then').text)\n")
    assert run_python(code) == (0, "1 True then\n", "")


def test_an_interrupt_ends_a_batch_and_cancels_it():
    code = ("import os, signal, threading, time\nfrom troupe import Engine\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "engine = Engine('echo:?step_ms=5')\n"
            "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "try:\n    engine.batch(['x' * 3000] * 50)\n"
            "except KeyboardInterrupt:\n    print('interrupted')\n"
            "while engine.stats().running + engine.stats().waiting: time.sleep(0.01)\n"
            "print(engine.stats().cancelled)\n")
    assert run_python(code) == (0, "interrupted\n50\n", "")


# ---- fork ----


def test_a_stream_in_a_fork_ends_instead_of_waiting_for_ever():
    code = ("import os, sys, troupe\n"
            "engine = troupe.Engine('echo:?step_ms=5')\n"
            "stream = engine.stream('x' * 300)\nnext(stream)\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    try:\n        stream.result()\n"
            "    except troupe.Forked as error:\n        os._exit(7 if error.code == 'FORKED' else 8)\n"
            "    os._exit(9)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(stream.result().text))\n")
    assert run_python(code) == (0, "7 300\n", "")


def test_a_pool_of_forked_workers_may_open_nothing_but_ends():
    code = ("import multiprocessing, troupe\n"
            "def work(i):\n"
            "    try:\n        return engine.generate(str(i)).text\n"
            "    except troupe.Forked as error:\n        return error.code\n"
            "engine = troupe.Engine('echo:')\n"
            "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
            "    print(pool.map(work, range(3)), engine.generate('parent').text)\n")
    assert run_python(code) == (0, "['FORKED', 'FORKED', 'FORKED'] parent\n", "")


def test_an_engine_dropped_in_a_fork_is_silent_and_stays_open_in_the_parent():
    code = ("import gc, os, sys, troupe\n"
            "engine = troupe.Engine('echo:')\n"
            "child = os.fork()\n"
            "if child == 0:\n    del engine\n    gc.collect()\n    sys.exit(0)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), engine.generate('still open').text)\n")
    assert run_python(code) == (0, "0 still open\n", "")


def test_an_event_loop_in_a_fork_hears_of_it():
    code = ("import asyncio, os, troupe\n"
            "async def main():\n"
            "    engine = await troupe.AsyncEngine.open('echo:')\n"
            "    child = os.fork()\n"
            "    if child == 0:\n"
            "        try:\n            engine.stream('x')\n"
            "        except troupe.Forked:\n            os._exit(7)\n"
            "        os._exit(9)\n"
            "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (await engine.generate('x')).text)\n"
            "    await engine.close()\n"
            "asyncio.run(main())\n")
    assert run_python(code) == (0, "7 x\n", "")


def test_exit_without_closing_anything():
    code = ("import asyncio\nfrom troupe import AsyncEngine, Engine\n"
            "kept = [Engine('echo:') for _ in range(3)]\nstreams = [e.stream('x' * 500) for e in kept]\n"
            "async def main():\n    global far\n    far = await AsyncEngine.open('echo:?step_ms=5')\n"
            "    global task\n    task = asyncio.create_task(far.generate('x' * 500))\n    await asyncio.sleep(0.05)\n"
            "asyncio.run(main())\nprint('bye')\n")
    code, out, err = run_python(code)
    assert (code, out) == (0, "bye\n"), err


# ---- arguments ----


def test_what_is_no_prompt_is_refused(engine):
    for prompt, said in ((b"bytes", "bytes"), ({"role": "user"}, "list of dicts"), ([], "empty"),
                         (numpy.zeros((2, 3), dtype=numpy.int64), "one dimension"),
                         (numpy.zeros((4, 4, 3), dtype=numpy.uint8), "images="),
                         ([2**40], "32 bits"), ([{"role": "user", "content": "x"}, "y"], "do not mix"),
                         ([{"role": "user", "content": {1, 2}}], "JSON")):
        with pytest.raises(troupe.InvalidArgument, match=said):
            engine.generate(prompt)


def test_values_of_other_types_are_refused_by_name(engine):
    for given, said in (({"prompt": None}, "prompt is None"), ({"prompt": 3}, "prompt is 3"),
                        ({"prompt": ["x", None]}, "NoneType"), ({"sampling": {"n": 2}}, "troupe.Sampling"),
                        ({"session": "mine"}, r"session is 'mine'.*engine.session"),
                        ({"constraint": "json"}, "troupe.Constraint"), ({"timeout": "1"}, "timeout is '1'"),
                        ({"sampling": Sampling(stop=3)}, "stop is 3"), ({"sampling": Sampling(bad_words=5)}, "bad_words"),
                        ({"sampling": Sampling(stop=None)}, "stop is None"),
                        ({"sampling": Sampling(logit_bias=[1])}, "logit_bias"),
                        ({"sampling": Sampling(ignore_eos="yes")}, "ignore_eos is 'yes'"),
                        ({"add_special_tokens": "no"}, "add_special_tokens is 'no'"), ({"images": 5}, "images is 5"),
                        ({"tools": "x"}, "tools is 'x'"), ({"documents": 3}, "documents is 3"),
                        ({"template_kwargs": [1]}, r"template_kwargs is \[1\]"), ({"adapter": 3}, "adapter|NOT_FOUND|no adapter")):
        with pytest.raises(troupe.TroupeError, match=said):
            engine.generate(**{"prompt": "x", **given})
    for call, said in ((lambda: engine.tokenize(3), "text is 3"), (lambda: engine.session(lease="x"), "lease is 'x'"),
                       (lambda: engine.session(lease=float("nan")), "lease is nan"),
                       (lambda: engine.serve(3), "bind is 3"), (lambda: engine.serve("tcp://127.0.0.1:*\0"), "NUL"),
                       (lambda: engine.serve("tcp://127.0.0.1:*", secret_key=b"x"), "secret_key"),
                       (lambda: engine.serve("tcp://127.0.0.1:*", resume_window="x"), "resume_window is 'x'"),
                       (lambda: Engine("echo:", settings="x"), "settings is 'x'"),
                       (lambda: Engine("echo:", threads=1.5), "threads is 1.5"),
                       (lambda: engine.batch(["x"], in_flight="many"), "in_flight is 'many'"),
                       (lambda: engine.close(drain="x"), "drain is 'x'"),
                       (lambda: engine.close(drain=float("nan")), "drain is nan"),
                       (lambda: Engine("tcp://127.0.0.1:1", connect_timeout="x"), "connect_timeout is 'x'")):
        with pytest.raises(troupe.InvalidArgument, match=said):
            call()
    either = engine.batch(["a", None, b"x", ["x", {}]], return_exceptions=True)
    assert either[0].text == "a" and all(isinstance(e, troupe.InvalidArgument) for e in either[1:])
    assert engine.generate("still open", images=None, sampling=Sampling(n=None)).text == "still open"


def test_times_without_end(engine):
    for timeout in (float("inf"), 1e300, 10**400):
        assert engine.generate("x", timeout=timeout).text == "x"
    with Engine("echo:?step_ms=1") as other:
        stream = other.stream("x" * 50)
        other.close(drain=1e300)
        assert stream.result().text == "x" * 50


def test_everything_shows_what_it_is(engine):
    stream, session = engine.stream("abc"), engine.session()
    assert repr(stream) == "<troupe.Stream of echo:>" and repr(session) == "<troupe.Session>"
    stream.result()
    session.close()
    assert repr(stream) == "<troupe.Stream of echo:, ended>" and repr(session) == "<troupe.Session closed>"


def test_token_ids_of_every_kind_of_number(engine):
    ids = engine.tokenize("hi", add_special=False)
    for given in (numpy.array(ids), numpy.array(ids, dtype=numpy.int32), tuple(ids), range(104, 106),
                  [numpy.int64(i) for i in ids]):
        assert engine.generate(given).text == "hi"
    assert engine.detokenize(numpy.array(ids)) == "hi"


class Name(str):
    pass


def test_strings_that_are_more_than_strings(engine):
    assert engine.generate(Name("a subclass")).text == "a subclass"
    assert engine.generate("nul \0 in it").text == "nul \0 in it"
    with pytest.raises(troupe.InvalidArgument, match="UTF-8"):
        engine.generate("half a pair \ud83c")
    with pytest.raises((troupe.InvalidArgument, TypeError)):
        engine.generate("x", sampling=Sampling(stop=[UserString("x")]))


def test_a_nul_inside_a_setting_is_not_cut_off(engine):
    for given in ({"sampling": Sampling(stop=["a\0b"])}, {"adapter": "a\0b"}, {"client": "c\0"}):
        with pytest.raises(troupe.InvalidArgument, match="NUL"):
            engine.generate("x", **given)
    with pytest.raises(troupe.InvalidArgument, match="NUL"):
        Engine("echo:\0")


def test_numbers_that_mean_something_else_in_the_library(engine):
    for given in ({"temperature": float("nan")}, {"n": -1}, {"top_k": -1}, {"max_tokens": 2**40}, {"n": "two"},
                  {"stop_tokens": ["x"]}, {"logit_bias": {"x": 1.0}}, {"n": 1000}):
        with pytest.raises(troupe.InvalidArgument, match=next(iter(given))):
            engine.generate("x", sampling=Sampling(**given))
    with pytest.raises(troupe.InvalidArgument, match="timeout"):
        engine.generate("x", timeout=float("nan"))
    assert engine.generate("x", timeout=float("inf")).text == "x"
    with pytest.raises(troupe.DeadlineExceeded):
        with Engine("echo:?step_ms=50") as slow:
            slow.generate(LONG, timeout=-1.0)


def test_options_by_wrong_names_and_of_wrong_kinds():
    for face in (Engine, AsyncEngine, troupe.inspect):
        with pytest.raises(TypeError, match="thread"):
            face("echo:", thread=3)
    with pytest.raises(troupe.InvalidArgument, match="threads"):
        Engine("echo:", threads="four")
    with pytest.raises(troupe.InvalidArgument, match="max_sequences"):
        Engine("echo:", max_sequences=10**12)
    with pytest.raises(troupe.InvalidArgument, match="model"):
        Engine(b"echo:")
    with pytest.raises(TypeError):
        Engine(None)
    with Engine("echo:") as engine, pytest.raises(TypeError, match="temperature"):
        engine.generate("x", temperature=0.5)


def test_batches_of_odd_sizes(engine):
    assert engine.batch([], progress=False) == []
    assert [r.text for r in engine.batch((p for p in "abc"), in_flight=1)] == ["a", "b", "c"]
    with pytest.raises(troupe.InvalidArgument, match="in_flight"):
        engine.batch(["x"], in_flight=0)
    with pytest.raises(troupe.InvalidArgument):
        engine.batch(["fine", [-5], "fine"], progress=False)
    assert engine.generate("and goes on").text == "and goes on"


def test_a_batch_waits_where_the_engine_is_full():
    with Engine("echo:?step_ms=1", max_sequences=2, max_waiting=2) as small:
        assert [r.text for r in small.batch([f"p{i}" for i in range(40)], progress=False)] == [f"p{i}" for i in range(40)]


def test_an_engine_is_of_its_process(engine):
    with pytest.raises(TypeError):
        pickle.dumps(engine)


def test_embeddings_of_odd_kinds(engine):
    whole = numpy.arange(40, dtype=numpy.float32).reshape(5, 8)
    transposed = numpy.asfortranarray(whole)
    assert engine.generate("", images=[Embedding(transposed)]).text == engine.generate("", images=[Embedding(whole)]).text
    for values in (whole.astype(">f4"), whole[0], whole[:0], whole.astype(numpy.int32)):
        with pytest.raises(troupe.InvalidArgument, match="Embedding"):
            engine.generate("", images=[Embedding(values)])
    with pytest.raises(troupe.InvalidArgument, match="grid"):
        engine.generate("", images=[Embedding(whole, grid=(1, 2, 3, 4))])


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


# ---- asyncio ----


async def test_async_before_opening_and_after_closing():
    engine = AsyncEngine("echo:")
    with pytest.raises(troupe.Closed, match="not open yet"):
        engine.stream("x")
    async with engine:
        assert (await engine.generate("x")).text == "x"
    with pytest.raises(troupe.Closed, match="closed"):
        await engine.generate("x")


async def test_async_stream_after_it_was_left():
    async with AsyncEngine("echo:?step_ms=5") as engine:
        stream = engine.stream(LONG)
        await anext(stream)
        waits = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(troupe.Cancelled):
            await asyncio.wait_for(waits, 5)
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(stream), 5)


async def test_a_time_limit_on_one_delta_ends_the_stream():
    async with AsyncEngine("echo:?step_ms=300") as engine:
        stream = engine.stream(LONG)
        await anext(stream)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.02)
        with pytest.raises(troupe.Cancelled):
            await asyncio.wait_for(anext(stream), 5)


async def test_two_tasks_on_one_stream_are_told():
    async with AsyncEngine("echo:?step_ms=50") as engine:
        stream = engine.stream(LONG)
        await anext(stream)
        waits = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(stream)
        assert (await waits).text


async def test_async_batch():
    async with AsyncEngine("echo:?step_ms=1", max_sequences=4, max_waiting=4) as engine:
        answers = await engine.batch([f"p{i}" for i in range(40)], progress=False)
        assert [a.text for a in answers] == [f"p{i}" for i in range(40)]
        either = await engine.batch(["ok", [-5]], progress=False, return_exceptions=True)
        assert either[0].text == "ok" and isinstance(either[1], troupe.TroupeError)
        with pytest.raises(troupe.InvalidArgument):
            await engine.batch(["ok", [-5]], progress=False)
        task = asyncio.create_task(engine.batch([LONG] * 6, progress=False))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadline = time.monotonic() + 10
        while engine.stats().running + engine.stats().waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert engine.stats().running + engine.stats().waiting == 0


async def test_a_progress_that_raises_ends_the_opening():
    def progress(phase, share):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(AsyncEngine.open("echo:?load_ms=200", progress=progress), 10)
    with pytest.raises(ZeroDivisionError):
        Engine("echo:?load_ms=200", progress=progress)


async def test_giving_up_on_opening():
    begin = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(AsyncEngine.open("echo:?load_ms=20000"), 0.1)
    assert time.monotonic() - begin < 10


def test_one_engine_in_a_second_loop_is_told():
    engine = asyncio.run(AsyncEngine.open("echo:"))

    async def again():
        await engine.generate("x")

    with pytest.raises(RuntimeError, match="loop"):
        asyncio.run(asyncio.wait_for(again(), 5))


def test_the_progress_bar_shows_where_somebody_looks(engine, monkeypatch, capsys):
    engine.batch(["a", "b"])
    assert capsys.readouterr().err == ""  # a pipe
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    engine.batch(["a", "b"], progress=False)
    assert capsys.readouterr().err == ""
    engine.batch(["a", "b"])
    shown = capsys.readouterr().err
    assert "2/2" in shown and shown.endswith("\r") and "\x1b" not in shown
    with pytest.raises(troupe.InvalidArgument):
        engine.batch(["a", [-5]])
    assert capsys.readouterr().err.endswith("\r")
    monkeypatch.setattr(sys, "stderr", None)  # pythonw
    assert [r.text for r in engine.batch(["a"])] == ["a"]
