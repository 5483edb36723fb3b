"""What the sync and the async engine share: the handle, opening, closing, and everything that answers
at once. Neither streams here; that is what the two faces differ in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ._binding import ffi
from ._library import lib, take_bytes, text_of
from ._request import Options, build_request, c_string, utf8
from .errors import Closed, InvalidArgument, check
from ._options import EngineOptions, Progress, Unpack, check_names, nanoseconds_of
from ._single import Single
from .types import EngineInfo, EngineStats, Prompt, SessionState

_CAPABILITIES = {name.removeprefix("TROUPE_CAN_").lower(): getattr(lib, name) for name in (
    "TROUPE_CAN_CHAT", "TROUPE_CAN_TOOLS", "TROUPE_CAN_SEE_IMAGES", "TROUPE_CAN_TAKE_IMAGE_EMBEDDINGS",
    "TROUPE_CAN_ENCODE_IMAGES", "TROUPE_CAN_EMBED", "TROUPE_CAN_SCORE", "TROUPE_CAN_CONSTRAIN",
    "TROUPE_CAN_KEEP_SESSIONS", "TROUPE_CAN_USE_ADAPTERS", "TROUPE_CAN_SERVE")}


def engine_options(queue: Any, given: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """A troupe_engine_options, and what it points to."""
    options = ffi.new("troupe_engine_options *")
    lib.troupe_engine_options_init(options, ffi.sizeof("troupe_engine_options"))
    options.queue = queue
    alive: list[Any] = [options]
    for key, value in given.items():
        if value is None:
            continue
        if key == "connect_timeout":
            key, value = "connect_timeout_ns", nanoseconds_of(value, key)
        pointer = value
        if key == "settings":
            if not isinstance(value, Mapping):
                raise InvalidArgument(f"settings is {value!r}: it must be a dict")
            strings = [c_string(f"{k}={v}", key) for k, v in value.items()]
            pointer = ffi.new("const char *[]", strings)
            options.n_settings = len(strings)
            alive += [strings, pointer]
        elif isinstance(value, str):
            pointer = c_string(value, key)
            alive.append(pointer)
        elif isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):  # kv_bytes=8e9
            pointer = int(value)
        try:
            setattr(options, key, pointer)
        except (OverflowError, TypeError) as error:
            raise InvalidArgument(f"{key} is {value!r}: {error}") from None
    return options, alive


def endpoint_of(model: str | os.PathLike[str]) -> str:
    path = os.fspath(model)
    if not isinstance(path, str):
        raise InvalidArgument(f"model is {path!r}: it must be a str or a path of str")
    return path


# What the handles own. Held here, it is never itself part of a cycle that the collector finds: there it would be
# freed before, or after, whoever uses it once more in a __del__, in no order.
_engines: dict[int, Any] = {}


def new_queue() -> Any:
    out = ffi.new("troupe_queue **")
    check(lib.troupe_queue_new(out))
    return ffi.gc(out[0], lib.troupe_queue_free)


class Handle(Single):
    """The engine's pointer and its queue; freed when it is closed and no call is inside it any more."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._draining: Any = None  # the same, from when it is closed until it has ended
        self._opened = False
        self.queue = new_queue()
        self.queue_address = int(ffi.cast("uintptr_t", self.queue))

    def open(self, model: str, options: Mapping[str, Any]) -> None:
        """Returns at once; what becomes of it comes through the queue."""
        raw, alive = engine_options(self.queue, options)
        out = ffi.new("troupe_engine **")
        check(lib.troupe_engine_open(c_string(model, "model"), raw, out))
        del alive
        self._engine = _engines[id(self)] = ffi.gc(out[0], lib.troupe_engine_free)
        self._opened = True

    def _give_up(self) -> Any:
        engine, self._engine = self._engine, None
        _engines.pop(id(self), None)
        return engine

    def __del__(self) -> None:
        self._give_up()

    @property
    def engine(self) -> Any:
        engine = self._engine
        if engine is None:
            raise Closed("the engine is closed" if self._opened else
                         "the engine is not open yet: `async with` it, or await AsyncEngine.open(...)")
        return engine

    @property
    def closed(self) -> bool:
        return self._engine is None

    @property
    def at_rest(self) -> bool:
        """There is nothing to close, or to wait for."""
        return self._engine is None and self._draining is None

    def close(self, drain_ns: int) -> None:
        """Of several at once the least patient counts."""
        engine = self._draining or self._engine
        if engine is None:
            return
        self._draining = engine
        self._give_up()
        try:
            check(lib.troupe_engine_close(engine, drain_ns))
        finally:
            self._draining = None

    def submit(self, prompt: Prompt, options: Options, queue: int, key: int = 0) -> int:
        """Its events come to the queue at this address."""
        return self.send(build_request(prompt, options), queue, key)

    def send(self, request: Any, queue: int, key: int) -> int:
        out = ffi.new("uint64_t *")
        check(lib.troupe_submit(self.engine, request, ffi.cast("troupe_queue *", queue), key, out))
        return int(out[0])

    def cancel(self, request: int) -> None:
        engine = self._engine
        if engine is not None:
            lib.troupe_cancel(engine, request)

    def info(self) -> EngineInfo:
        raw = ffi.new("troupe_info *")
        raw.struct_size = ffi.sizeof("troupe_info")
        check(lib.troupe_engine_info(self.engine, raw))
        bits = raw.capabilities
        return EngineInfo(
            text_of(raw.model), text_of(raw.family), text_of(raw.endpoint), text_of(raw.device),
            text_of(raw.dtype), text_of(raw.chat_template_origin), raw.context_length, raw.vocab_size,
            raw.max_sequences, raw.weight_bytes, raw.kv_bytes, raw.kv_tokens,
            frozenset(name for name, bit in _CAPABILITIES.items() if bits & bit))

    def stats(self) -> EngineStats:
        raw = ffi.new("troupe_stats *")
        raw.struct_size = ffi.sizeof("troupe_stats")
        check(lib.troupe_engine_stats(self.engine, raw))
        return EngineStats(**{name: getattr(raw, name) for name in EngineStats.__dataclass_fields__})

    def metrics(self) -> str:
        out = ffi.new("troupe_bytes **")
        check(lib.troupe_engine_metrics(self.engine, out))
        return take_bytes(out[0]).decode()

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        flags = (lib.TROUPE_TEXT_ADD_SPECIAL if add_special else 0) | (
            lib.TROUPE_TEXT_PARSE_SPECIAL if parse_special else 0)
        data = utf8(text, "text")
        out = ffi.new("troupe_bytes **")
        check(lib.troupe_tokenize(self.engine, data, len(data), flags, out))
        return list(memoryview(take_bytes(out[0])).cast("i"))

    def detokenize(self, tokens: Sequence[int], skip_special: bool) -> str:
        try:
            ids = ffi.new("int32_t[]", list(tokens))
        except (OverflowError, TypeError) as error:
            raise InvalidArgument(f"tokens must be whole numbers of 32 bits: {error}") from None
        out = ffi.new("troupe_bytes **")
        flags = lib.TROUPE_TEXT_SKIP_SPECIAL if skip_special else 0
        check(lib.troupe_detokenize(self.engine, ids, len(ids), flags, out))
        return take_bytes(out[0]).decode()

    def render(self, prompt: Prompt, options: Options) -> str:
        out = ffi.new("troupe_bytes **")
        check(lib.troupe_render(self.engine, build_request(prompt, options), out))
        return take_bytes(out[0]).decode()


class Session(Single):
    """A conversation whose work is kept. Pass it to generate or stream; fork it to go two ways."""

    def __init__(self, pointer: Any) -> None:
        self._raw = ffi.gc(pointer, lib.troupe_session_free)

    def _pointer(self) -> Any:
        raw = self._raw
        if raw is None:
            raise Closed("the session is closed")
        return raw

    def fork(self) -> Session:
        out = ffi.new("troupe_session **")
        check(lib.troupe_session_fork(self._pointer(), out))
        return Session(out[0])

    def rewind(self, tokens: int) -> None:
        """Forgets all but the first `tokens` tokens."""
        check(lib.troupe_session_rewind(self._pointer(), tokens))

    @property
    def state(self) -> SessionState:
        raw = ffi.new("troupe_session_state *")
        raw.struct_size = ffi.sizeof("troupe_session_state")
        check(lib.troupe_session_info(self._pointer(), raw))
        return SessionState(raw.tokens, raw.cached_tokens, raw.lease_left_ns * 1e-9)

    def close(self) -> None:
        """Idempotent; requests in it run on. A call that is inside it keeps it until it returns."""
        self._raw = None

    def __repr__(self) -> str:
        return f"<troupe.Session{' closed' if self._raw is None else ''}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def new_session(handle: Handle, lease: float | None) -> Session:
    raw = ffi.new("troupe_session_options *")
    lib.troupe_session_options_init(raw, ffi.sizeof("troupe_session_options"))
    if lease is not None:
        raw.lease_ns = nanoseconds_of(lease, "lease")
    out = ffi.new("troupe_session **")
    check(lib.troupe_session_new(handle.engine, raw, out))
    return Session(out[0])


def inspect(model: str | os.PathLike[str], **options: Unpack[EngineOptions]) -> dict[str, Any]:
    """What is in this folder, and does it fit: family, size, memory plan."""
    check_names("inspect", options, EngineOptions)
    raw, alive = engine_options(ffi.NULL, options)
    out = ffi.new("troupe_bytes **")
    check(lib.troupe_inspect(c_string(endpoint_of(model), "model"), raw, out))
    del alive
    facts: dict[str, Any] = json.loads(take_bytes(out[0]))
    return facts
