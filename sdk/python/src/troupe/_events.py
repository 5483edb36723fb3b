"""What events say, as Deltas and Results. What every token event needs is done by _native; here is what it calls for
the rest, and the gathering of a Result."""

from __future__ import annotations

import threading
from typing import Any

from . import _native
from ._binding import ffi
from ._library import lib
from ._single import Single
from .errors import Cancelled, EngineFailed, TroupeError, check, error_from, fresh
from .types import Choice, Delta, Logprob, Result, Timings, Usage

DONE: int = lib.TROUPE_EVENT_DONE
FAILED: int = lib.TROUPE_EVENT_FAILED
PROGRESS: int = lib.TROUPE_EVENT_PROGRESS

FINISH_NONE: int = lib.TROUPE_FINISH_NONE
FINISH: dict[int, str | None] = {
    lib.TROUPE_FINISH_NONE: None, lib.TROUPE_FINISH_STOP: "stop", lib.TROUPE_FINISH_LENGTH: "length",
    lib.TROUPE_FINISH_CANCELLED: "cancelled", lib.TROUPE_FINISH_ERROR: "error",
}


_unpack = ffi.unpack


def event_at(address: int) -> Any:
    return ffi.cast("troupe_event *", address)


class End:
    """A request's terminal event."""

    __slots__ = ("error", "finish_reason", "usage", "timings", "prompt_logprobs", "data")

    def __init__(self, event: Any, error: TroupeError | None = None) -> None:
        """Of a terminal event, or, without one, of an error."""
        self.error = error
        self.finish_reason: str | None = "error"
        self.usage, self.timings = Usage(), Timings()
        self.prompt_logprobs: list[list[Logprob]] | None = None
        self.data: memoryview | None = None
        if event is None:
            return
        if event.kind != DONE:
            self.error = error_from(event.error) if event.error else Cancelled("the request was cancelled")
        self.finish_reason = FINISH.get(event.finish_reason)
        self.usage = Usage(event.prompt_tokens, event.cached_tokens, event.completion_tokens, event.image_tokens)
        self.timings = Timings(event.queued_ns * 1e-9, event.first_token_ns * 1e-9, event.total_ns * 1e-9)
        self.prompt_logprobs = table_of(event.prompt_logprobs)
        self.data = _data_of(event)


def _data_of(event: Any) -> Any:
    shape = event.data_rows, event.data_columns
    if not event.data or 0 in shape:
        return None
    return memoryview(ffi.buffer(event.data, 4 * shape[0] * shape[1])[:]).cast("f", shape)


def table_of(pointer: Any) -> list[list[Logprob]] | None:
    if not pointer:
        return None
    table, rows = pointer[0], []
    base = ffi.cast("char *", table.entries)
    for r in range(table.n_rows):
        row = []
        for e in range(table.row_starts[r], table.row_starts[r + 1]):
            entry = ffi.cast("troupe_logprob *", base + e * table.entry_size)
            row.append(Logprob(entry.token, entry.logprob, entry.rank))
        rows.append(row)
    return rows


def _complete(delta: Delta, address: int) -> None:
    """What a delta says beside text, tokens and index."""
    event = event_at(address)
    if event.finish_reason != FINISH_NONE:
        delta.finish_reason = FINISH.get(event.finish_reason)
        delta.stop_token = event.stop_token if event.stop_token >= 0 else None
        if event.stop_text:
            delta.stop_text = _unpack(event.stop_text, event.stop_text_size).decode("utf-8", "replace")
    if event.logprobs:
        delta.logprobs = _unpack(event.logprobs, event.n_tokens) if event.n_tokens else []
        delta.top_logprobs = table_of(event.top_logprobs)


def opening_of(event: Any) -> TroupeError | tuple[str, float] | None:
    """What an event with id 0 says of opening: how far it is, why it failed, or, None, that the engine serves."""
    if event.kind == PROGRESS:
        return ffi.buffer(event.text, event.text_size)[:].decode(), event.progress
    if event.kind == FAILED:
        return error_from(event.error) if event.error else EngineFailed("the engine did not open")
    return None


class Gathering(_native.Answer, Single):
    """An answer that gathers what was read of it into a Result. _native keeps text and tokens and calls _add and _hear
    for what else there is."""

    _end: End | None = None

    def _gather(self, n: int) -> None:
        self._choices = [Choice() for _ in range(n)]
        self._prompt_logprobs: list[list[Logprob]] | None = None

    def _add(self, delta: Delta) -> None:
        """Of a delta whose text and tokens are not gathered yet. A signal's handler may raise in here: it is called once
        more then."""
        choice, at = self._choices[delta.index], len(self._tokens[delta.index])
        if delta.logprobs is not None:
            choice.logprobs = choice.logprobs or []
            choice.logprobs[at:] = delta.logprobs
        if delta.top_logprobs is not None:
            choice.top_logprobs = choice.top_logprobs or []
            choice.top_logprobs[at:] = delta.top_logprobs
        if delta.finish_reason is not None:
            choice.finish_reason = delta.finish_reason
            choice.stop_text, choice.stop_token = delta.stop_text, delta.stop_token

    def _hear(self, item: End | list[list[Logprob]] | BaseException) -> TroupeError | None:
        """The prompt's log-probabilities; the end; or, a bug of ours, why an event could not be read. Returns what is
        to be raised because of it."""
        if isinstance(item, list):
            self._prompt_logprobs = item
            return None
        if isinstance(item, BaseException):
            item = End(None, EngineFailed(f"an event could not be read: {item!r}", code="INTERNAL"))
        self._prompt_logprobs = item.prompt_logprobs or self._prompt_logprobs
        first = self._choices[0]
        first.finish_reason = first.finish_reason or item.finish_reason
        self._end = item
        return None if item.error is None else fresh(item.error)

    def _result(self) -> Result:
        """What was read so far; the whole answer after the end."""
        for choice, texts, tokens in zip(self._choices, self._texts, self._tokens):
            choice.text, choice.tokens = "".join(texts), tokens
        end = self._end or End(None)
        return Result(self._choices, end.usage, end.timings, self._prompt_logprobs, end.data)

    def _whole(self) -> Result:
        """The answer, when everything was read."""
        assert self._end is not None
        if self._end.error is not None:
            raise fresh(self._end.error)
        return self._result()


def _address(function: str) -> int:
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, function)))


_native.connect(
    (_address("troupe_queue_new_in_turn"), _address("troupe_queue_free"), _address("troupe_queue_wait"),
     _address("troupe_queue_wake"), _address("troupe_events_free")),
    (ffi.sizeof("troupe_event"), ffi.sizeof("troupe_events")), Delta, _complete,
    lambda address: table_of(event_at(address).prompt_logprobs) or [], lambda address: End(event_at(address)),
    lambda address: check(ffi.cast("troupe_error *", address)), threading.main_thread().ident or 0)
