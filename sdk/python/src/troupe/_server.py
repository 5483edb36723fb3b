"""Serving an engine of this process to others, and the keys that keep strangers out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._binding import ffi
from ._core import Handle
from ._library import lib, text_of
from ._options import nanoseconds_of
from ._request import c_string
from ._single import Single
from .errors import check


class KeyPair(NamedTuple):
    """A CURVE pair in Z85. The public half may be told to everybody."""

    public: str
    secret: str


def keygen() -> KeyPair:
    """A new pair, for a server or for one client."""
    public, secret = (ffi.new("char[]", lib.TROUPE_KEY_SIZE) for _ in range(2))
    check(lib.troupe_keygen(public, secret))
    return KeyPair(text_of(public), text_of(secret))


class Server(Single):
    """An engine that others reach. Leaving its `with` closes it; the engine stays open."""

    def __init__(self, pointer: Any) -> None:
        self._raw = ffi.gc(pointer, lib.troupe_server_free)
        self.endpoint: str = text_of(lib.troupe_server_endpoint(self._raw))

    def close(self, *, drain: float = 0.0) -> None:
        """Takes nothing new, gives what runs `drain` seconds (below 0: as long as it takes), cancels the rest and
        says goodbye. Idempotent."""
        patience = nanoseconds_of(drain, "drain")
        raw, self._raw = self._raw, None
        if raw is not None:
            check(lib.troupe_server_close(raw, patience))

    async def aclose(self, *, drain: float = 0.0) -> None:
        """close() beside the event loop, which goes on."""
        await asyncio.get_running_loop().run_in_executor(None, lambda: self.close(drain=drain))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<troupe.Server {'closed' if self._raw is None else self.endpoint}>"


def open_server(handle: Handle, bind: str, *, allow_plaintext: bool = False, public_key: str | None = None,
                secret_key: str | None = None, client_keys: str | os.PathLike[str] | None = None,
                resume_window: float | None = None, settings: Mapping[str, Any] | None = None) -> Server:
    raw = ffi.new("troupe_server_options *")
    lib.troupe_server_options_init(raw, ffi.sizeof("troupe_server_options"))
    raw.allow_plaintext = int(allow_plaintext)
    alive: list[Any] = []

    def text(value: str, field: str) -> Any:
        alive.append(c_string(value, field))
        return alive[-1]

    if public_key is not None:
        raw.public_key = text(public_key, "public_key")
    if secret_key is not None:
        raw.secret_key = text(secret_key, "secret_key")
    if client_keys is not None:
        raw.client_keys = text(os.fspath(client_keys), "client_keys")
    if resume_window is not None:
        raw.resume_window_ns = nanoseconds_of(resume_window, "resume_window")
    if settings:
        array = ffi.new("const char *[]", [text(f"{key}={value}", "settings") for key, value in settings.items()])
        raw.settings, raw.n_settings = array, len(settings)
        alive.append(array)
    out = ffi.new("troupe_server **")
    check(lib.troupe_server_open(handle.engine, c_string(bind, "bind"), raw, out))
    return Server(out[0])
