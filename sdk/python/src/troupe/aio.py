"""AsyncEngine: the asyncio face. No thread: the loop watches the queue's file descriptor."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal, overload

from ._batch import batch_steps
from ._binding import ffi
from ._core import Handle, Session, endpoint_of, new_session
from ._events import Collector, End, Item, add_items, each, opening_of
from ._library import lib
from ._options import (ChatOptions, EngineOptions, Progress, RequestOptions, ServerOptions, Unpack, check_names,
                       nanoseconds_of)
from ._request import Options
from ._server import Server, open_server
from .errors import Cancelled, TroupeError, check, fresh
from .types import Delta, EngineInfo, EngineStats, Logprob, Message, Prompt, Result, Sampling


class _Mailbox:
    """What came for one stream, and the future on which its task waits."""

    __slots__ = ("items", "waiter")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.waiter: asyncio.Future[None] | None = None

    def end(self, error: TroupeError) -> None:
        self.items.append(End(None, error))
        self.wake()

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class AsyncStream(AsyncIterator[Delta]):
    """The deltas of one answer, for one task. Cancelling the task, aclose() or dropping it cancels the request."""

    def __init__(self, engine: AsyncEngine, request: int, key: int, mailbox: _Mailbox, n: int) -> None:
        self._engine, self._request, self._key, self._mailbox = engine, request, key, mailbox
        self._collector = Collector(n)
        self._end: End | None = None

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Delta:
        mailbox = self._mailbox
        items = mailbox.items
        while True:
            if not items:
                if self._end is not None:
                    raise StopAsyncIteration
                if mailbox.waiter is not None:
                    raise RuntimeError("another task waits for this stream already")
                mailbox.waiter = waiter = self._engine._new_future()
                try:
                    await waiter
                except asyncio.CancelledError:
                    self._abandon()
                    raise
                continue
            item = items.popleft()
            if isinstance(item, Delta):
                self._collector.add(item)
                return item
            if isinstance(item, End):
                self._end = item
                self._collector.end(item)
                if item.error is not None:
                    raise fresh(item.error)
            else:
                self._collector.prompt(item)

    async def result(self) -> Result:
        async for _ in self:
            pass
        assert self._end is not None
        if self._end.error is not None:
            raise fresh(self._end.error)
        return self._collector.result()

    def so_far(self) -> Result:
        """What has come until now: after an error, the beginning of an answer."""
        return self._collector.result()

    def cancel(self) -> None:
        """Cancels the request without leaving it: what was made before still comes, then Cancelled is raised."""
        self._engine._handle.cancel(self._request)

    def _abandon(self) -> None:
        if self._end is None:
            self._engine._abandon(self._request, self._key)
            self._mailbox.items.clear()
            self._mailbox.end(Cancelled("the stream was left"))

    async def aclose(self) -> None:
        """Cancels the request and drops what has not been read of it."""
        self._abandon()

    def __repr__(self) -> str:
        return f"<troupe.AsyncStream of {self._engine.info.endpoint}{'' if self._end is None else ', ended'}>"

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._abandon()

    def __del__(self) -> None:
        self._abandon()


class AsyncEngine:
    """`async with AsyncEngine("models/llama") as engine`, or `await AsyncEngine.open(...)`. The options are
    those of Engine."""

    def __init__(self, model: str | os.PathLike[str], *, progress: Progress | None = None,
                 **options: Unpack[EngineOptions]) -> None:
        check_names("AsyncEngine", options, EngineOptions)
        self._model, self._progress, self._options = endpoint_of(model), progress, options
        self._handle = Handle()
        self._mailboxes: dict[int, _Mailbox] = {}
        self._keys = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[None] | None = None
        self.info: EngineInfo

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
        except BaseException:
            await self.close()
            raise

    def _new_future(self) -> asyncio.Future[None]:
        assert self._loop is not None
        return self._loop.create_future()

    def _hear(self) -> None:
        out = ffi.new("troupe_events **")
        try:
            check(lib.troupe_queue_wait(self._handle.queue, 0, 0, out))
        except TroupeError as error:  # in a fork: nothing will come any more
            self._lost(error)
            return
        events = out[0]
        if not events:
            return
        try:
            mailbox_of = self._mailboxes.get
            for event in each(events):
                mailbox = mailbox_of(event.user_data)
                if mailbox is None:
                    if event.id == 0:
                        self._hear_opening(event)
                    continue
                if add_items(event, mailbox.items):
                    del self._mailboxes[event.user_data]
                if mailbox.waiter is not None and mailbox.items:
                    mailbox.wake()
        finally:
            lib.troupe_events_free(events)

    def _lost(self, error: TroupeError) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._descriptor)
        while self._mailboxes:
            self._mailboxes.popitem()[1].end(error)

    def _hear_opening(self, event: Any) -> None:
        ready, news = self._ready, opening_of(event)
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
        mailbox = self._mailboxes[key] = _Mailbox()
        try:
            request = self._handle.submit(prompt, given, key)
        except BaseException:
            del self._mailboxes[key]
            raise
        return AsyncStream(self, request, key, mailbox, given.choices)

    async def generate(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
                       **options: Unpack[RequestOptions]) -> Result:
        async with self.stream(prompt, images=images, sampling=sampling, **options) as stream:
            return await stream.result()

    async def chat(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None,
                   images: Sequence[Any] = (), sampling: Sampling | None = None,
                   **options: Unpack[ChatOptions]) -> Result:
        return await self.generate(messages, tools=tools, images=images, sampling=sampling, **options)

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

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        return self._handle.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int], *, skip_special: bool = False) -> str:
        return self._handle.detokenize(tokens, skip_special)

    def render(self, messages: Sequence[Message], **options: Unpack[RequestOptions]) -> str:
        return self._handle.render(messages, Options(**options))

    def session(self, *, lease: float | None = None) -> Session:
        return new_session(self._handle, lease)

    def serve(self, bind: str, **options: Unpack[ServerOptions]) -> Server:
        """As Engine.serve; `async with` the server, or await its aclose()."""
        return open_server(self._handle, bind, **options)

    def stats(self) -> EngineStats:
        return self._handle.stats()

    def metrics(self) -> str:
        return self._handle.metrics()

    async def close(self, *, drain: float = 0.0) -> None:
        """Idempotent. What still runs after `drain` seconds is cancelled, and hears of it."""
        drain_ns = nanoseconds_of(drain, "drain")
        loop = self._loop
        if loop is None:
            return
        if not self._handle.closed:
            await loop.run_in_executor(None, self._handle.close, drain_ns)
            self._hear()
        loop.remove_reader(self._descriptor)

    def _abandon(self, request: int, key: int) -> None:
        self._mailboxes.pop(key, None)
        self._handle.cancel(request)

    async def __aenter__(self) -> AsyncEngine:
        if self._loop is None:
            await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<troupe.AsyncEngine {self._model}{' closed' if self._handle.closed else ''}>"
