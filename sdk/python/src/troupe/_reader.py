"""The one thread of a sync engine: waits on its queue and hands each event to the request it is of."""

from __future__ import annotations

import itertools
import queue
import threading
from typing import Any, Union

from ._binding import ffi
from ._core import Handle, Progress
from ._events import CANCELLED, DONE, FAILED, PROGRESS, READY, TOKENS, End, delta_of, table_of
from ._library import lib
from .errors import Closed, EngineFailed, TroupeError, error_from
from .types import Delta, Logprob

Item = Union[Delta, End, "list[list[Logprob]]"]
Channel = "queue.SimpleQueue[Item]"


class Reader:
    def __init__(self, handle: Handle, progress: Progress | None) -> None:
        self._handle = handle
        self._progress = progress
        self._channels: dict[int, queue.SimpleQueue[Item]] = {}
        self._keys = itertools.count(1)
        self._opened: queue.SimpleQueue[TroupeError | tuple[str, float] | None] = queue.SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="troupe-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_open(self) -> None:
        while True:
            heard = self._opened.get()
            if heard is None:
                return
            if isinstance(heard, TroupeError):
                raise heard
            if self._progress is not None:
                self._progress(*heard)

    def channel(self) -> tuple[int, queue.SimpleQueue[Item]]:
        key, channel = next(self._keys), queue.SimpleQueue[Item]()
        self._channels[key] = channel
        return key, channel

    def forget(self, key: int) -> None:
        self._channels.pop(key, None)

    def stop(self) -> None:
        """After the engine was closed: every terminal event is in the queue by now."""
        self._stopping = True
        lib.troupe_queue_wake(self._handle.queue)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        out = ffi.new("troupe_events **")
        while True:
            stopping = self._stopping
            error = lib.troupe_queue_wait(self._handle.queue, 0 if stopping else -1, 0, out)
            if error:
                lib.troupe_error_free(error)
                break
            events = out[0]
            if events == ffi.NULL:
                if stopping:
                    break
                continue
            try:
                self._dispatch(events)
            except Exception as error:  # a bug of ours must not leave callers waiting for ever
                self._fail(EngineFailed(f"the reader of this engine failed: {error!r}", code="INTERNAL"))
                raise
            finally:
                lib.troupe_events_free(events)
        self._fail(Closed("the engine is closed"))

    def _fail(self, error: TroupeError) -> None:
        self._opened.put(error)
        for key, channel in list(self._channels.items()):
            self.forget(key)
            channel.put(End(None, error))

    def _dispatch(self, events: Any) -> None:
        base, stride = ffi.cast("char *", events.events), events.event_size
        for i in range(events.count):
            event = ffi.cast("troupe_event *", base + i * stride)
            kind = event.kind
            if event.id == 0:
                self._hear_opening(kind, event)
                continue
            channel = self._channels.get(event.user_data)
            if channel is None:
                continue
            if kind == TOKENS:
                if event.prompt_logprobs != ffi.NULL:
                    channel.put(table_of(event.prompt_logprobs) or [])
                channel.put(delta_of(event))
            elif kind in (DONE, CANCELLED, FAILED):
                self.forget(event.user_data)
                channel.put(End(event))

    def _hear_opening(self, kind: int, event: Any) -> None:
        if kind == READY:
            self._opened.put(None)
        elif kind == PROGRESS:
            self._opened.put((ffi.buffer(event.text, event.text_size)[:].decode(), event.progress))
        elif kind == FAILED:
            self._opened.put(error_from(event.error) if event.error else EngineFailed("the engine did not open"))
