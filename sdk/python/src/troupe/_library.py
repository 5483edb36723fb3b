"""Finds libtroupe.so, opens it once, and checks that it is the library this package was made for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ._binding import ffi

SONAME = "libtroupe.so.0.1"
STRUCTS = ("troupe_bytes", "troupe_logprob_table", "troupe_event", "troupe_events",
           "troupe_engine_options", "troupe_info", "troupe_stats", "troupe_image", "troupe_sampling",
           "troupe_session_options", "troupe_session_state", "troupe_server_options")
NEWEST = "troupe_queue_new_in_turn"  # of the functions that are called here


def _candidates() -> list[str]:
    folder = os.environ.get("TROUPE_LIBRARY_DIR")
    if folder:
        return [str(Path(folder, SONAME)), str(Path(folder, "libtroupe.so"))]
    bundled = Path(__file__).parent / "lib" / SONAME
    return [str(bundled)] if bundled.exists() else [SONAME]


def _open() -> Any:
    reasons = []
    for name in _candidates():
        try:
            return ffi.dlopen(name)
        except OSError as error:
            reasons.append(str(error))
    raise ImportError("troupe cannot load its library: " + "; ".join(reasons) +
                      ". Install a wheel that bundles it, or set TROUPE_LIBRARY_DIR to the folder of " + SONAME)


def _check_age(library: Any) -> None:
    for name in STRUCTS:
        ours, theirs = ffi.sizeof(name), library.troupe_sizeof(name.encode())
        if theirs < ours:
            raise ImportError(f"troupe: the library's {name} has {theirs} bytes, this package was made for {ours}: "
                              "the library is older than the package; install both of one release")
    if not hasattr(library, NEWEST):
        raise ImportError(f"troupe: the library has no {NEWEST}: it is older than the package; install both of one "
                          "release")


lib = _open()
_check_age(lib)


def text_of(pointer: Any) -> str:
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode("utf-8", "replace")


def take_bytes(pointer: Any) -> bytes:
    """The contents of a troupe_bytes, which is freed."""
    try:
        return bytes(ffi.buffer(pointer.data, pointer.size)) if pointer.size else b""
    finally:
        lib.troupe_bytes_free(pointer)


version: str = text_of(lib.troupe_version_string())
