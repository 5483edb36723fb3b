"""The asyncio face over `echo:`."""

import asyncio

import pytest

import troupe
from troupe import AsyncEngine, Sampling


async def test_generate_and_stream():
    async with AsyncEngine("echo:") as engine:
        assert (await engine.generate("hello")).text == "hello"
        texts = [delta.text async for delta in engine.stream("as it comes")]
        assert "".join(texts) == "as it comes"


async def test_many_at_once():
    async with AsyncEngine("echo:", max_sequences=1024) as engine:
        answers = await asyncio.gather(*(engine.generate(f"a{i}") for i in range(1000)))
        assert [a.text for a in answers] == [f"a{i}" for i in range(1000)]


async def test_cancelling_the_task_cancels_the_request():
    async with AsyncEngine("echo:?step_ms=5") as engine:
        task = asyncio.create_task(engine.generate("x" * 3000))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(500):
            if engine.stats().cancelled:
                break
            await asyncio.sleep(0.01)
        assert engine.stats().cancelled == 1


async def test_breaking_out_cancels():
    async with AsyncEngine("echo:?step_ms=5") as engine:
        async with engine.stream("x" * 3000) as stream:
            async for _ in stream:
                break
        for _ in range(500):
            if engine.stats().cancelled:
                break
            await asyncio.sleep(0.01)
        assert engine.stats().cancelled == 1


async def test_errors():
    with pytest.raises(troupe.NotFound):
        await AsyncEngine.open("/nowhere/at/all")
    async with AsyncEngine("echo:") as engine:
        with pytest.raises(troupe.InvalidArgument):
            await engine.generate("x", sampling=Sampling(top_p=7.0))


async def test_close_cancels_what_runs():
    engine = await AsyncEngine.open("echo:?step_ms=5")
    task = asyncio.create_task(engine.generate("x" * 3000))
    await asyncio.sleep(0.1)
    await engine.close()
    await engine.close()
    with pytest.raises(troupe.TroupeError):
        await task
