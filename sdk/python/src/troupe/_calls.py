"""What an engine answers at once: the same for Engine and AsyncEngine."""

from __future__ import annotations

from collections.abc import Sequence

from ._core import Handle, Session, new_session
from ._options import RequestOptions, ServerOptions, Unpack
from ._request import Options
from ._server import Server, open_server
from ._single import Single
from .types import EngineInfo, EngineStats, Message


class Calls(Single):
    _handle: Handle
    info: EngineInfo

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        return self._handle.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int], *, skip_special: bool = False) -> str:
        return self._handle.detokenize(tokens, skip_special)

    def render(self, messages: Sequence[Message], **options: Unpack[RequestOptions]) -> str:
        """The chat template applied: the text that the model sees."""
        return self._handle.render(messages, Options(**options))

    def session(self, *, lease: float | None = None) -> Session:
        return new_session(self._handle, lease)

    def serve(self, bind: str, **options: Unpack[ServerOptions]) -> Server:
        """Lets others reach this engine: "tcp://127.0.0.1:*", or ipc://path. Close the server before the engine;
        under asyncio by `async with` or its aclose().

        Keyword options: allow_plaintext, public_key, secret_key, client_keys, resume_window, settings."""
        return open_server(self._handle, bind, **options)

    def stats(self) -> EngineStats:
        return self._handle.stats()

    def metrics(self) -> str:
        """Prometheus' text format."""
        return self._handle.metrics()
