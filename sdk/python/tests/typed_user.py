"""What a user's program looks like to `mypy --strict`: sdk/python/test checks this file and never runs it. Each
`type: ignore` is a slip that must be found: mypy complains of one that is not needed."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import numpy

import troupe
from troupe import AsyncEngine, Constraint, Delta, Engine, Result, Sampling, Session, TroupeError


def sync_face(folder: Path) -> list[str]:
    said: list[str] = []
    with Engine(folder, device="cpu", max_sequences=8, progress=lambda phase, share: print(phase, share)) as engine:
        result: Result = engine.generate("Hello", sampling=Sampling(max_tokens=3, stop=["\n"]), timeout=2.5)
        said.append(result.text)
        with engine.stream("Hello", images=["cat.png", b"..."], priority=3) as stream:
            for delta in stream:
                step: Delta = delta
                said.append(step.text)
        session: Session = engine.session(lease=60.0)
        engine.chat([{"role": "user", "content": "x"}], session=session, tools=[{"type": "function"}])
        engine.generate(numpy.array([1, 2, 3]), constraint=Constraint.regex("a+"))
        for answer in engine.batch(["a", "b"]):
            said.append(answer.text)
        for either in engine.batch(["a", "b"], return_exceptions=True):
            said.append(str(either) if isinstance(either, TroupeError) else either.text)
        rows = engine.score([1, 2, 3], top=2)
        said.append(str(rows[0][0].logprob))
        capabilities: frozenset[str] = engine.info.capabilities
        running: int = engine.stats().running
        said.append(f"{capabilities} {running}")
        with engine.serve("tcp://127.0.0.1:*", resume_window=5.0) as server:
            said.append(server.endpoint)
    return said


async def async_face(prompts: Iterable[str]) -> list[Result]:
    async with AsyncEngine("echo:", max_sequences=64, settings={"step_ms": 1}) as engine:
        async with engine.stream("Hello", client="me") as stream:
            async for delta in stream:
                print(delta.text, delta.finish_reason or "")
        one = await engine.generate("Hello", sampling=Sampling(temperature=0.0))
        more = await engine.batch(prompts, in_flight=4)
        return [one, *more]


def slips() -> None:
    engine = Engine("echo:", thread=3)  # type: ignore[call-arg]
    engine.generate("x", temperature=0.3)  # type: ignore[call-arg]
    engine.generate("x", timeout="soon")  # type: ignore[arg-type]
    engine.generate("x", sampling=Sampling(max_token=3))  # type: ignore[call-arg]
    engine.batch(["a"], return_exceptions=True)[0].text  # type: ignore[union-attr]
    AsyncEngine("echo:", max_sequence=3)  # type: ignore[call-arg]
    engine.serve("tcp://127.0.0.1:*", colour="red")  # type: ignore[call-arg]


try:
    asyncio.run(async_face(["a"]))
except troupe.Overloaded as error:
    again: bool = error.retryable
