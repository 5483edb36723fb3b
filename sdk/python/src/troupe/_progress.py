"""A progress bar on stderr, where stderr is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    begin, done, drawn = time.monotonic(), 0, 0.0
    visible = wanted and sys.stderr.isatty() and total > 0

    def advance(count: int) -> None:
        nonlocal done, drawn
        done += count
        now = time.monotonic()
        if not visible or (now - drawn < 0.05 and done < total):
            return
        drawn = now
        cells = 24 * done // total
        rate = done / max(now - begin, 1e-6)
        sys.stderr.write(f"\r\x1b[K[{'#' * cells}{'.' * (24 - cells)}] {done}/{total}, {rate:.1f}/s")
        sys.stderr.flush()

    try:
        yield advance
    finally:
        if visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
