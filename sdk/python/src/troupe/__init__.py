"""Troupe: language and vision-language models in your process, or from afar, with one handle.

    from troupe import Engine

    with Engine("models/llama") as engine:
        for delta in engine.stream("Once upon a time"):
            print(delta.text, end="", flush=True)
"""

try:
    from . import _native
except ImportError as _error:
    raise ImportError(f"troupe cannot load its compiled part: {_error}. Install a wheel, for CPython 3.10 or newer on "
                      "Linux; in the source tree run sdk/python/compile") from None

from ._core import Session, inspect
from ._images import Embedding
from ._library import version as library_version
from ._server import KeyPair, Server, keygen
from .aio import AsyncEngine, AsyncStream
from .engine import Engine, Stream
from .errors import (Cancelled, Closed, ConnectionLost, CorruptModel, DeadlineExceeded, EngineFailed, Forked,
                     InvalidArgument, LimitExceeded, NotFound, OutOfMemory, Overloaded, TroupeError,
                     Unauthorised, Unsupported)
from .types import (Choice, Constraint, Delta, EngineInfo, EngineStats, Logprob, Message, Prompt, Result, Sampling,
                    SessionState, Timings, Usage)

__version__ = "0.1.0"

__all__ = [
    "AsyncEngine", "AsyncStream", "Cancelled", "Choice", "Closed", "ConnectionLost", "Constraint", "CorruptModel",
    "DeadlineExceeded", "Delta", "Embedding", "Engine", "EngineFailed", "EngineInfo", "EngineStats", "Forked",
    "InvalidArgument", "KeyPair", "LimitExceeded", "Logprob", "Message", "NotFound", "OutOfMemory", "Overloaded",
    "Prompt", "Result", "Sampling", "Server", "Session", "SessionState", "Stream", "Timings", "TroupeError",
    "Unauthorised", "Unsupported", "Usage", "inspect", "keygen", "library_version",
]
