"""Keyword options that several functions take and hand on, by name and type: what `**options: Unpack[...]` says
to type checkers, and what check_names holds a caller to."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, TypedDict

from .errors import InvalidArgument

if TYPE_CHECKING:
    from typing_extensions import Unpack as Unpack

    from ._core import Session
    from .types import Constraint
else:  # never looked at: annotations are strings
    Unpack = Any

Progress = Callable[[str, float], None]
"""Hears of loading: a phase, and how far it is, from 0 to 1."""


class ChatOptions(TypedDict, total=False):
    """Of every request. `timeout` is in seconds, a millisecond at least, and none above a year; `client` is a tenant,
    whose prefixes are shared with no other."""

    constraint: Constraint | None
    documents: Sequence[Mapping[str, Any]] | None
    template_kwargs: Mapping[str, Any] | None
    session: Session | None
    timeout: float | None
    priority: int | None
    adapter: str | None
    client: str | None
    add_special_tokens: bool | None
    add_generation_prompt: bool | None
    task: str | None


class RequestOptions(ChatOptions, total=False):
    tools: Sequence[Mapping[str, Any]] | None


class EngineOptions(TypedDict, total=False):
    """Of Engine, AsyncEngine and inspect: troupe_engine_options of troupe.h."""

    device: str | None
    threads: int | None
    dtype: str | None
    kv_dtype: str | None
    load_format: str | None
    chat_template: str | None
    tensor_parallel: int | None
    max_sequences: int | None
    max_waiting: int | None
    max_step_tokens: int | None
    context_length: int | None
    block_tokens: int | None
    kv_bytes: int | None
    seed: int | None
    prefix_reuse: bool | None
    overlap: bool | None
    deterministic: bool | None
    settings: Mapping[str, Any] | None
    server_key: str | None
    client_public_key: str | None
    client_secret_key: str | None
    connect_timeout: float | None


class ServerOptions(TypedDict, total=False):
    allow_plaintext: bool
    public_key: str | None
    secret_key: str | None
    client_keys: str | os.PathLike[str] | None
    resume_window: float | None
    settings: Mapping[str, Any] | None


_LONGEST_S = 2.0**62 * 1e-9  # in nanoseconds it fits into 64 bits


def seconds_of(value: float, field: str) -> float:
    """A time as callers give it: a number, infinite if they like."""
    try:
        seconds = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # an int of hundreds of digits
        seconds = math.inf if value > 0 else -math.inf
    if math.isnan(seconds):
        raise InvalidArgument(f"{field} is {value!r}: it must be a number of seconds")
    return seconds


def nanoseconds_of(value: float, field: str) -> int:
    """A time as the library counts it; one that is too long for that is as long as it can be."""
    return round(max(-_LONGEST_S, min(seconds_of(value, field), _LONGEST_S)) * 1e9)


def check_names(function: str, given: Iterable[str], known: Any) -> None:
    """A misspelled option is the TypeError that it would be of a function with these parameters."""
    for name in given:
        if name not in known.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}; there are "
                            f"{', '.join(known.__annotations__)}")
