"""What can go wrong, one class per kind. Each is also the built-in exception that a Python programmer
would expect, so `except ValueError` and `except TimeoutError` do what they say."""

from __future__ import annotations

from copy import copy
from typing import Any, TypeVar

from ._library import lib, text_of


class TroupeError(Exception):
    """Base of all; `code` is the name of the frozen error code."""

    code: str = "INTERNAL"

    def __init__(self, message: str, *, code: str | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.retryable = retryable


E = TypeVar("E", bound=TroupeError)


def fresh(error: E) -> E:
    """To raise: one exception raised again and again gathers the frames of all who caught it, and keeps what is in
    them alive."""
    return copy(error)


class InvalidArgument(TroupeError, ValueError):
    code = "INVALID"


class LimitExceeded(TroupeError, ValueError):
    code = "LIMIT"


class Overloaded(TroupeError):
    code = "OVERLOADED"


class DeadlineExceeded(TroupeError, TimeoutError):
    code = "DEADLINE"


class Cancelled(TroupeError):
    code = "CANCELLED"


class NotFound(TroupeError, LookupError):
    code = "NOT_FOUND"


class Unsupported(TroupeError, NotImplementedError):
    code = "UNSUPPORTED"


class CorruptModel(TroupeError, ValueError):
    code = "CORRUPT_MODEL"


class OutOfMemory(TroupeError, MemoryError):
    code = "OUT_OF_MEMORY"


class EngineFailed(TroupeError, RuntimeError):
    """The device or the engine failed; also what has no class of its own."""

    code = "DEVICE_FAILED"


class ConnectionLost(TroupeError, ConnectionError):
    code = "CONNECTION_LOST"


class Closed(TroupeError):
    code = "CLOSED"


class Forked(TroupeError, RuntimeError):
    """This process is a fork of the one that opened the engine: open one here, or start the process anew."""

    code = "FORKED"


class Unauthorised(TroupeError, PermissionError):
    code = "UNAUTHORISED"


_BY_CODE: dict[str, type[TroupeError]] = {
    kind.code: kind
    for kind in (InvalidArgument, LimitExceeded, Overloaded, DeadlineExceeded, Cancelled, NotFound,
                 Unsupported, CorruptModel, OutOfMemory, EngineFailed, ConnectionLost, Closed, Forked, Unauthorised)
}


def error_from(pointer: Any) -> TroupeError:
    """The exception for a troupe_error, which stays its owner's."""
    code = text_of(lib.troupe_error_name(lib.troupe_error_code(pointer)))
    kind = _BY_CODE.get(code, EngineFailed)
    return kind(text_of(lib.troupe_error_message(pointer)), code=code,
                retryable=bool(lib.troupe_error_retryable(pointer)))


def check(pointer: Any) -> None:
    """Raises what a call returned, if it returned an error, and frees it."""
    if not pointer:
        return
    error = error_from(pointer)
    lib.troupe_error_free(pointer)
    raise error
