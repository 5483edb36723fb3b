"""A progress bar on stderr, where somebody looks at it: on a terminal and in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CELLS = 24


def _somebody_looks() -> bool:
    return "ipykernel" in sys.modules or sys.stderr.isatty()


@contextmanager
def progress_bar(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    begin, done, drawn, width = time.monotonic(), 0, 0.0, 0
    visible = wanted and total > 0 and sys.stderr is not None and _somebody_looks()

    def draw(line: str) -> None:
        nonlocal width
        sys.stderr.write("\r" + line.ljust(width))  # notebooks know no escape sequences
        sys.stderr.flush()
        width = len(line)

    def advance(count: int) -> None:
        nonlocal done, drawn
        done += count
        now = time.monotonic()
        if not visible or (now - drawn < 0.05 and done < total):
            return
        drawn = now
        cells = _CELLS * done // total
        rate = done / max(now - begin, 1e-6)
        draw(f"[{'#' * cells}{'.' * (_CELLS - cells)}] {done}/{total}, {rate:.1f}/s")

    try:
        yield advance
    finally:
        if visible:
            draw("")
            sys.stderr.write("\r")
            sys.stderr.flush()
