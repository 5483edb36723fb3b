"""The asyncio face, used in ways that nobody planned."""

import asyncio
import time

import pytest

import troupe
from helpers import LONG, run_python
from troupe import AsyncEngine, Engine


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
