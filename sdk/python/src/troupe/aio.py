"""AsyncEngine: the asyncio face. The loop watches the queue's file descriptor. A local engine has no thread; what goes
to a remote one waits for the server's word in a thread, while the loop goes on."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, overload

from . import _native
from ._batch import batch_steps
from ._calls import Calls
from ._core import Handle, endpoint_of
from ._events import End, Gathering, event_at, opening_of
from ._library import lib
from ._options import ChatOptions, EngineOptions, Progress, RequestOptions, Unpack, check_names, nanoseconds_of
from ._request import Options, as_messages, build_request
from .errors import Cancelled, TroupeError
from .types import Delta, Logprob, Message, Prompt, Result, Sampling


class _Answer(Gathering, _native.AwaitedAnswer):
    """What came for one stream, and the future on which its task waits. The engine holds it while more comes."""

    def __init__(self, n: int) -> None:
        self._gather(n)
        super().__init__(n)

    def end(self, error: TroupeError, *, drop: bool = False) -> None:
        self._end_with(End(None, error), drop)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class AsyncStream(AsyncIterator[Delta]):
    """The deltas of one answer, for one task. Cancelling the task, aclose() or dropping it cancels the request."""

    def __init__(self, engine: AsyncEngine, request: int, key: int, answer: _Answer) -> None:
        self._engine, self._request, self._key, self._answer = engine, request, key, answer

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Delta:
        answer = self._answer
        while (delta := answer._take()) is None:
            if answer._read:
                raise StopAsyncIteration
            if answer._waiter is not None:
                raise RuntimeError("another task waits for this stream already")
            answer._waiter = waiter = self._engine._new_future()
            try:
                await waiter
            except asyncio.CancelledError:
                self._abandon()
                raise
        return delta

    async def result(self) -> Result:
        async for _ in self:
            pass
        return self._answer._whole()

    def so_far(self) -> Result:
        """What has come until now: after an error, the beginning of an answer."""
        return self._answer._result()

    def cancel(self) -> None:
        """Cancels the request without leaving it: what was made before still comes, then Cancelled is raised."""
        self._engine._handle.cancel(self._request)

    def _abandon(self) -> None:
        if self._answer._end is None:
            self._engine._abandon(self._request, self._key)
            self._answer.end(Cancelled("the stream was left"), drop=True)

    async def aclose(self) -> None:
        """Cancels the request and drops what has not been read of it."""
        self._abandon()

    def __repr__(self) -> str:
        return f"<troupe.AsyncStream of {self._engine.info.endpoint}{'' if self._answer._end is None else ', ended'}>"

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._abandon()

    def __del__(self) -> None:
        self._abandon()


class AsyncEngine(Calls):
    """`async with AsyncEngine("models/llama") as engine`, or `await AsyncEngine.open(...)`. The options are
    those of Engine."""

    def __init__(self, model: str | os.PathLike[str], *, progress: Progress | None = None,
                 **options: Unpack[EngineOptions]) -> None:
        check_names("AsyncEngine", options, EngineOptions)
        self._model, self._progress, self._options = endpoint_of(model), progress, options
        self._handle = Handle()
        self._answers: dict[int, _Answer] = {}
        self._keys = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[None] | None = None
        self._sender: ThreadPoolExecutor | None = None
        self._sender_process = 0

    @classmethod
    async def open(cls, model: str | os.PathLike[str], *, progress: Progress | None = None,
                   **options: Unpack[EngineOptions]) -> AsyncEngine:
        engine = cls(model, progress=progress, **options)
        await engine._open()
        return engine

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._descriptor = lib.troupe_queue_fd(self._handle.queue)
        self._loop.add_reader(self._descriptor, self._hear)
        try:
            self._handle.open(self._model, self._options)
            await self._ready
            self.info = self._handle.info()
            if self._model.startswith(("tcp://", "ipc://")):
                self._sender, self._sender_process = ThreadPoolExecutor(1, "troupe-send"), os.getpid()
        except BaseException:
            await self.close()
            raise

    def _new_future(self) -> asyncio.Future[None]:
        assert self._loop is not None
        return self._loop.create_future()

    def _hear(self) -> None:
        try:
            waiters = _native.drain(self._handle.queue_address, self._answers, self._hear_opening)
        except TroupeError as error:  # in a fork: nothing will come any more
            self._lost(error)
            return
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _lost(self, error: TroupeError) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._descriptor)
        while self._answers:
            self._answers.popitem()[1].end(error)

    def _hear_opening(self, address: int) -> None:
        ready, news = self._ready, opening_of(event_at(address))
        if ready is None or ready.done():
            return
        if news is None:
            ready.set_result(None)
        elif isinstance(news, TroupeError):
            ready.set_exception(news)
        elif self._progress is not None:
            try:
                self._progress(*news)
            except Exception as error:  # ends the opening, as in Engine
                ready.set_exception(error)

    def stream(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
               **options: Unpack[RequestOptions]) -> AsyncStream:
        given = Options(images=images, sampling=sampling, **options)
        key = next(self._keys)
        answer = self._answers[key] = _Answer(given.choices)
        try:
            request = self._handle.submit(prompt, given, self._handle.queue_address, key)
        except BaseException:
            del self._answers[key]
            raise
        return AsyncStream(self, request, key, answer)

    async def generate(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
                       **options: Unpack[RequestOptions]) -> Result:
        if self._sender is None or self._sender_process != os.getpid():  # a fork has no such thread, and is told
            stream = self.stream(prompt, images=images, sampling=sampling, **options)
        else:
            stream = await self._sent(self._sender, prompt, Options(images=images, sampling=sampling, **options))
        async with stream:
            return await stream.result()

    async def _sent(self, sender: ThreadPoolExecutor, prompt: Prompt, given: Options) -> AsyncStream:
        """As stream(). One thread sends, so that requests go out in the order in which they were asked."""
        raw, key = build_request(prompt, given), next(self._keys)
        answer = self._answers[key] = _Answer(given.choices)
        sending = sender.submit(self._handle.send, raw, self._handle.queue_address, key)
        try:
            return AsyncStream(self, await asyncio.wrap_future(sending), key, answer)
        except BaseException:
            self._answers.pop(key, None)
            sending.add_done_callback(self._unsend)
            del sending  # which knows the exception, and so this frame
            raise

    def _unsend(self, sending: Future[int]) -> None:
        """Nobody waits for the request, which the server may have taken all the same."""
        if not sending.cancelled() and sending.exception() is None:
            self._handle.cancel(sending.result())

    async def chat(self, messages: str | Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None,
                   images: Sequence[Any] = (), sampling: Sampling | None = None,
                   **options: Unpack[ChatOptions]) -> Result:
        return await self.generate(as_messages(messages), tools=tools, images=images, sampling=sampling, **options)

    async def score(self, prompt: Prompt, *, top: int = 0, **options: Unpack[RequestOptions]) -> list[list[Logprob]]:
        result = await self.generate(prompt, sampling=Sampling(max_tokens=0, prompt_logprobs=top), **options)
        return result.prompt_logprobs or []

    @overload
    async def batch(self, prompts: Iterable[Prompt], *, sampling: Sampling | None = None, in_flight: int = 512,
                    progress: bool = True, return_exceptions: Literal[False] = False,
                    **options: Unpack[RequestOptions]) -> list[Result]: ...

    @overload
    async def batch(self, prompts: Iterable[Prompt], *, sampling: Sampling | None = None, in_flight: int = 512,
                    progress: bool = True, return_exceptions: bool,
                    **options: Unpack[RequestOptions]) -> list[Result | TroupeError]: ...

    async def batch(self, prompts: Iterable[Prompt], *, sampling: Sampling | None = None, in_flight: int = 512,
                    progress: bool = True, return_exceptions: bool = False, **options: Unpack[RequestOptions]) -> Any:
        """As Engine.batch."""

        def submit(prompt: Prompt) -> AsyncStream:
            return self.stream(prompt, sampling=sampling, **options)

        steps = batch_steps(submit, list(prompts), in_flight, progress, return_exceptions)
        try:
            stream = next(steps)
            while True:
                outcome: Result | TroupeError
                try:
                    outcome = await stream.result()
                except TroupeError as error:
                    outcome = error
                stream = steps.send(outcome)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    async def close(self, *, drain: float = 0.0) -> None:
        """As Engine.close: what still runs after `drain` seconds is cancelled, and hears of it."""
        drain_ns = nanoseconds_of(drain, "drain")
        loop = self._loop
        if loop is None:
            return
        if not self._handle.at_rest:
            self._sender = None
            await loop.run_in_executor(None, self._handle.close, drain_ns)
            self._hear()
        loop.remove_reader(self._descriptor)

    def _abandon(self, request: int, key: int) -> None:
        self._answers.pop(key, None)
        self._handle.cancel(request)

    async def __aenter__(self) -> AsyncEngine:
        if self._loop is None:
            await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<troupe.AsyncEngine {self._model}{' closed' if self._handle.closed else ''}>"
