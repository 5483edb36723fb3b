"""Turns troupe_event structs into Deltas and Results. The hot path: a few calls a token event."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Union

from ._binding import ffi
from ._library import lib
from .errors import Cancelled, EngineFailed, TroupeError, error_from
from .types import Choice, Delta, Logprob, Result, Timings, Usage

TOKENS: int = lib.TROUPE_EVENT_TOKENS
DONE: int = lib.TROUPE_EVENT_DONE
CANCELLED: int = lib.TROUPE_EVENT_CANCELLED
FAILED: int = lib.TROUPE_EVENT_FAILED
READY: int = lib.TROUPE_EVENT_READY
PROGRESS: int = lib.TROUPE_EVENT_PROGRESS
ENDS = (DONE, CANCELLED, FAILED)

FINISH_NONE: int = lib.TROUPE_FINISH_NONE
FINISH: dict[int, str | None] = {
    lib.TROUPE_FINISH_NONE: None, lib.TROUPE_FINISH_STOP: "stop", lib.TROUPE_FINISH_LENGTH: "length",
    lib.TROUPE_FINISH_CANCELLED: "cancelled", lib.TROUPE_FINISH_ERROR: "error",
}


_unpack = ffi.unpack
_SIZE = ffi.sizeof("troupe_event")


def each(events: Any) -> Iterable[Any]:
    """The events of a troupe_events."""
    first, count, stride = events.events, events.count, events.event_size
    if stride == _SIZE:
        return _unpack(first, count)  # type: ignore[no-any-return]
    base = ffi.cast("char *", first)  # of a newer library, with fields that are not known here
    return [ffi.cast("troupe_event *", base + at) for at in range(0, count * stride, stride)]


class End:
    """A request's terminal event."""

    __slots__ = ("error", "finish_reason", "usage", "timings", "prompt_logprobs")

    def __init__(self, event: Any, error: TroupeError | None = None) -> None:
        """Of a terminal event, or, without one, of an error."""
        self.error = error
        self.finish_reason: str | None = "error"
        self.usage, self.timings = Usage(), Timings()
        self.prompt_logprobs: list[list[Logprob]] | None = None
        if event is None:
            return
        if event.kind != DONE:
            self.error = error_from(event.error) if event.error else Cancelled("the request was cancelled")
        self.finish_reason = FINISH.get(event.finish_reason)
        self.usage = Usage(event.prompt_tokens, event.cached_tokens, event.completion_tokens, event.image_tokens)
        self.timings = Timings(event.queued_ns * 1e-9, event.first_token_ns * 1e-9, event.total_ns * 1e-9)
        self.prompt_logprobs = table_of(event.prompt_logprobs)


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


def delta_of(event: Any) -> Delta:
    count, size, finish = event.n_tokens, event.text_size, event.finish_reason
    delta = Delta(_unpack(event.text, size).decode("utf-8", "replace") if size else "",
                  _unpack(event.tokens, count) if count else [], event.index)
    if finish != FINISH_NONE:
        delta.finish_reason = FINISH.get(finish)
        delta.stop_token = event.stop_token if event.stop_token >= 0 else None
        if event.stop_text:
            delta.stop_text = _unpack(event.stop_text, event.stop_text_size).decode("utf-8", "replace")
    if event.logprobs:
        delta.logprobs = _unpack(event.logprobs, count) if count else []
        delta.top_logprobs = table_of(event.top_logprobs)
    return delta


Item = Union[Delta, End, "list[list[Logprob]]"]


def add_items(event: Any, items: deque[Item]) -> bool:
    """Appends what one event of a request says, at most the prompt's log-probabilities and a delta, or its end; tells
    whether it was the end."""
    kind = event.kind
    if kind == TOKENS:
        if event.prompt_logprobs:
            items.append(table_of(event.prompt_logprobs) or [])
        items.append(delta_of(event))
        return False
    if kind not in ENDS:
        return False
    items.append(End(event))
    return True


def opening_of(event: Any) -> TroupeError | tuple[str, float] | None:
    """What an event with id 0 says of opening: how far it is, why it failed, or, None, that the engine serves."""
    if event.kind == PROGRESS:
        return ffi.buffer(event.text, event.text_size)[:].decode(), event.progress
    if event.kind == FAILED:
        return error_from(event.error) if event.error else EngineFailed("the engine did not open")
    return None


class Collector:
    """Gathers deltas into a Result."""

    __slots__ = ("_choices", "_texts", "_usage", "_timings", "_prompt_logprobs")

    def __init__(self, n: int) -> None:
        self._choices = [Choice() for _ in range(n)]
        self._texts: list[list[str]] = [[] for _ in range(n)]
        self._usage, self._timings = Usage(), Timings()
        self._prompt_logprobs: list[list[Logprob]] | None = None

    def add(self, delta: Delta) -> None:
        index = delta.index
        choice = self._choices[index]
        self._texts[index].append(delta.text)
        choice.tokens += delta.tokens
        if delta.finish_reason is None and delta.logprobs is None:
            return
        if delta.logprobs is not None:
            if choice.logprobs is None:
                choice.logprobs = []
            choice.logprobs += delta.logprobs
        if delta.top_logprobs is not None:
            if choice.top_logprobs is None:
                choice.top_logprobs = []
            choice.top_logprobs += delta.top_logprobs
        if delta.finish_reason is not None:
            choice.finish_reason = delta.finish_reason
            choice.stop_text, choice.stop_token = delta.stop_text, delta.stop_token

    def prompt(self, table: list[list[Logprob]] | None) -> None:
        self._prompt_logprobs = table or self._prompt_logprobs

    def end(self, end: End) -> None:
        self.prompt(end.prompt_logprobs)
        self._usage, self._timings = end.usage, end.timings
        first = self._choices[0]
        first.finish_reason = first.finish_reason or end.finish_reason

    def result(self) -> Result:
        """What came so far; the whole answer after the end."""
        for choice, texts in zip(self._choices, self._texts):
            choice.text = "".join(texts)
        return Result(self._choices, self._usage, self._timings, self._prompt_logprobs)
