"""Streams that are left, shared between threads, or outlive their engine."""

import gc
import os
import threading
import time
import weakref

import pytest

import troupe
from helpers import LONG, wait_for
from troupe import Engine


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
    before = len(os.listdir("/proc/self/task"))
    del engine, streams, loop
    gc.collect()
    assert gone() is None
    wait_for(lambda: len(os.listdir("/proc/self/task")) < before)
