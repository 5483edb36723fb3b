"""AsyncEngine: the asyncio face. No thread: the loop watches the queue's file descriptor."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Union

from ._binding import ffi
from ._core import Handle, Progress, Session, new_session
from ._events import CANCELLED, DONE, FAILED, PROGRESS, READY, TOKENS, Collector, End, delta_of, table_of
from ._library import lib
from ._request import Options
from .errors import EngineFailed, check, error_from
from .types import Delta, EngineInfo, EngineStats, Logprob, Message, Prompt, Result, Sampling

Item = Union[Delta, End, "list[list[Logprob]]"]


class AsyncStream(AsyncIterator[Delta]):
    """The deltas of one answer. Cancelling the task, aclose() or dropping it cancels the request."""

    def __init__(self, engine: AsyncEngine, request: int, key: int, channel: asyncio.Queue[Item], n: int) -> None:
        self._engine, self._request, self._key, self._channel = engine, request, key, channel
        self._collector = Collector(n)
        self._end: End | None = None

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Delta:
        while self._end is None:
            try:
                item = await self._channel.get()
            except asyncio.CancelledError:
                self._abandon()
                raise
            if isinstance(item, Delta):
                self._collector.add(item)
                return item
            if isinstance(item, End):
                self._end = item
                self._collector.end(item)
                if item.error is not None:
                    raise item.error
            else:
                self._collector.prompt(item)
        raise StopAsyncIteration

    async def result(self) -> Result:
        async for _ in self:
            pass
        assert self._end is not None
        if self._end.error is not None:
            raise self._end.error
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

    async def aclose(self) -> None:
        self._abandon()

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
                 settings: Mapping[str, Any] | None = None, **options: Any) -> None:
        self._model, self._progress = os.fspath(model), progress
        self._options = {**options, "settings": settings}
        self._handle = Handle()
        self._channels: dict[int, asyncio.Queue[Item]] = {}
        self._keys = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[None] | None = None
        self.info: EngineInfo

    @classmethod
    async def open(cls, model: str | os.PathLike[str], **options: Any) -> AsyncEngine:
        engine = cls(model, **options)
        await engine._open()
        return engine

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._loop.add_reader(lib.troupe_queue_fd(self._handle.queue), self._hear)
        try:
            self._handle.open(self._model, self._options)
            await self._ready
            self.info = self._handle.info()
        except BaseException:
            await self.close()
            raise

    def _hear(self) -> None:
        out = ffi.new("troupe_events **")
        check(lib.troupe_queue_wait(self._handle.queue, 0, 0, out))
        events = out[0]
        if events == ffi.NULL:
            return
        base, stride = ffi.cast("char *", events.events), events.event_size
        for i in range(events.count):
            event = ffi.cast("troupe_event *", base + i * stride)
            if event.id == 0:
                self._hear_opening(event)
                continue
            channel = self._channels.get(event.user_data)
            if channel is None:
                continue
            if event.kind == TOKENS:
                if event.prompt_logprobs != ffi.NULL:
                    channel.put_nowait(table_of(event.prompt_logprobs) or [])
                channel.put_nowait(delta_of(event))
            elif event.kind in (DONE, CANCELLED, FAILED):
                del self._channels[event.user_data]
                channel.put_nowait(End(event))
        lib.troupe_events_free(events)

    def _hear_opening(self, event: Any) -> None:
        ready = self._ready
        if event.kind == PROGRESS:
            if self._progress is not None:
                self._progress(ffi.buffer(event.text, event.text_size)[:].decode(), event.progress)
        elif ready is None or ready.done():
            return
        elif event.kind == READY:
            ready.set_result(None)
        elif event.kind == FAILED:
            ready.set_exception(error_from(event.error) if event.error else EngineFailed("the engine did not open"))

    def stream(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
               **options: Any) -> AsyncStream:
        given = Options(images=images, sampling=sampling, **options)
        key = next(self._keys)
        channel: asyncio.Queue[Item] = asyncio.Queue()
        self._channels[key] = channel
        try:
            request = self._handle.submit(prompt, given, key)
        except BaseException:
            del self._channels[key]
            raise
        return AsyncStream(self, request, key, channel, 1 if sampling is None else sampling.n)

    async def generate(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
                       **options: Any) -> Result:
        async with self.stream(prompt, images=images, sampling=sampling, **options) as stream:
            return await stream.result()

    async def chat(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None,
                   images: Sequence[Any] = (), sampling: Sampling | None = None, **options: Any) -> Result:
        return await self.generate(messages, tools=tools, images=images, sampling=sampling, **options)

    async def score(self, prompt: Prompt, *, top: int = 0, **options: Any) -> list[list[Logprob]]:
        result = await self.generate(prompt, sampling=Sampling(max_tokens=0, prompt_logprobs=top), **options)
        return result.prompt_logprobs or []

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        return self._handle.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int], *, skip_special: bool = False) -> str:
        return self._handle.detokenize(tokens, skip_special)

    def render(self, messages: Sequence[Message], **options: Any) -> str:
        return self._handle.render(messages, Options(**options))

    def session(self, *, lease: float | None = None) -> Session:
        return new_session(self._handle, lease)

    def stats(self) -> EngineStats:
        return self._handle.stats()

    def metrics(self) -> str:
        return self._handle.metrics()

    async def close(self, *, drain: float = 0.0) -> None:
        """Idempotent. What still runs after `drain` seconds is cancelled, and hears of it."""
        loop = self._loop
        if loop is None:
            return
        if not self._handle.closed:
            await loop.run_in_executor(None, self._handle.close, drain)
            self._hear()
        loop.remove_reader(lib.troupe_queue_fd(self._handle.queue))

    def _abandon(self, request: int, key: int) -> None:
        self._channels.pop(key, None)
        self._handle.cancel(request)

    async def __aenter__(self) -> AsyncEngine:
        if self._loop is None:
            await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<troupe.AsyncEngine {self._model}{' closed' if self._handle.closed else ''}>"
