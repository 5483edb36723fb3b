"""The one thread of a sync engine: waits on its queue and hands each event to the stream it is of.

Threads that wait for their streams are woken one after the other: each wakes the next when it goes to wait
again. Woken all at once they would meet at the interpreter's lock, and sleep and be woken a second time; that
costs twice the CPU time. Where threads do something else before they wait again, one at a time is too slow:
when not all that are due were woken within _PATIENCE_NS, one more is, and from then on so many run at once.
Without such a delay their number goes down again.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from typing import Any

from ._binding import ffi
from ._core import Handle
from ._events import End, Item, add_items, each, opening_of
from ._library import lib
from ._options import Progress
from .errors import Closed, EngineFailed, TroupeError

_PATIENCE_NS = 1_000_000  # and a share for each thread that is due
_SHARE_NS = 50_000
_CALM = 64  # so many handings-out without a delay, then one thread less runs at once


class Mailbox:
    """What came for one stream, and the lock at which its thread sleeps."""

    __slots__ = ("items", "waiting", "_sleep", "_wake", "_due")

    def __init__(self, due: deque[Mailbox]) -> None:
        self.items: deque[Item] = deque()
        self.waiting = False
        lock = threading.Lock()
        lock.acquire()
        self._sleep, self._wake = lock.acquire, lock.release
        self._due = due

    def wait(self) -> None:
        """Returns when something came; now and then when nothing did."""
        self.waiting = True
        if not self.items:  # nothing came before `waiting` was seen
            if self._due:
                wake_next(self._due)
            self._sleep()
        self.waiting = False

    def wake(self) -> None:
        try:
            self._wake()
        except RuntimeError:  # it had been woken already
            pass


def wake_next(due: deque[Mailbox]) -> None:
    """Called by whoever stops working with what came, so that the next one may."""
    try:
        due.popleft()._wake()
    except (IndexError, RuntimeError):  # nobody is due; it had been woken already
        pass


class Reader:
    def __init__(self, handle: Handle, progress: Progress | None) -> None:
        self._handle = handle
        self._progress = progress
        self._mailboxes: dict[int, Mailbox] = {}
        self._due: deque[Mailbox] = deque()  # whose threads are to be woken
        self._at_once, self._calm = 1, 0
        self._keys = itertools.count(1)
        self._opened: queue.SimpleQueue[TroupeError | tuple[str, float] | None] = queue.SimpleQueue()
        self._stopping = False
        self._failed: TroupeError | None = None
        self._thread = threading.Thread(target=self._run, name="troupe-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_open(self) -> None:
        while True:
            heard = self._opened.get()
            if heard is None:
                return
            if isinstance(heard, TroupeError):
                raise heard
            if self._progress is not None:
                self._progress(*heard)

    def mailbox(self) -> tuple[int, Mailbox]:
        if self._failed is not None:
            raise self._failed
        key, mailbox = next(self._keys), Mailbox(self._due)
        self._mailboxes[key] = mailbox
        return key, mailbox

    def forget(self, key: int) -> None:
        self._mailboxes.pop(key, None)

    def done_with(self) -> None:
        """A stream has ended: its thread may not come back to wait."""
        wake_next(self._due)

    def stop(self) -> None:
        """After the engine was closed: every terminal event is in the queue by now."""
        self._stopping = True
        lib.troupe_queue_wake(self._handle.queue)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        out = ffi.new("troupe_events **")
        while True:
            stopping, due = self._stopping, len(self._due)
            patience = 0 if stopping else _PATIENCE_NS + due * _SHARE_NS if due else -1
            error = lib.troupe_queue_wait(self._handle.queue, patience, 0, out)
            if error:
                lib.troupe_error_free(error)
                break
            events = out[0]
            if not events:
                if stopping:
                    break
                if self._due:
                    self._at_once, self._calm = self._at_once + 1, 0
                    wake_next(self._due)
                continue
            try:
                self._hand_out(events)
            except Exception as error:  # a bug of ours must not leave callers waiting for ever
                self.fail(EngineFailed(f"the reader of this engine failed: {error!r}", code="INTERNAL"))
                raise
            finally:
                lib.troupe_events_free(events)
            self._calm += 1
            if self._calm > _CALM:
                self._at_once, self._calm = max(1, self._at_once - 1), 0
            for _ in range(self._at_once):
                wake_next(self._due)
        self.fail(Closed("the engine is closed"))

    def fail(self, error: TroupeError) -> None:
        """Ends every stream, and the opening, with this error."""
        self._failed = error
        self._opened.put(error)
        for key, mailbox in list(self._mailboxes.items()):
            self.forget(key)
            mailbox.items.append(End(None, error))
            mailbox.wake()
        while self._due:
            wake_next(self._due)

    def _hand_out(self, events: Any) -> None:
        mailbox_of, due = self._mailboxes.get, self._due
        for event in each(events):
            mailbox = mailbox_of(event.user_data)
            if mailbox is None:
                if event.id == 0:
                    self._opened.put(opening_of(event))
                continue
            if add_items(event, mailbox.items):
                self.forget(event.user_data)
                mailbox.waiting = True  # at the latest now: several threads may wait for one stream
            if mailbox.waiting and mailbox.items:
                mailbox.waiting = False
                due.append(mailbox)
