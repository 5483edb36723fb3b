"""The one thread of a sync engine: waits on its queue and hands each event to the stream it is of.

Threads that wait for their streams sleep inside the library, each on a queue of its own, and these queues take turns
with the reader's: the reader unpacks all that came, and when it goes back to wait the first of those threads is woken;
each wakes the next when it comes back. So about one thread at a time wants the interpreter's lock and finds it free.
Woken by Python, all at once or one by one, a thread meets its waker at that lock, and sleeps and is woken a second
time: that costs twice the CPU time.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from threading import get_ident
from typing import Any

from ._binding import ffi
from ._core import Handle, new_queue
from ._events import End, Item, add_items, each, opening_of
from ._library import lib
from ._options import Progress
from .errors import Closed, EngineFailed, TroupeError, check, fresh

_SLICE_NS = 50_000_000  # so long the main thread sleeps at a time: in between Python hears of signals
_MAIN = threading.main_thread().ident
_making = threading.Lock()
_wait, _wake = lib.troupe_queue_wait, lib.troupe_queue_wake


class Mailbox:
    """What came for one stream, and the queue at which its thread sleeps; no events come there."""

    __slots__ = ("items", "waiting", "_beside", "_queue", "_nothing")

    def __init__(self, beside: Any) -> None:
        self.items: deque[Item] = deque()
        self.waiting = False
        self._beside = beside
        self._queue: Any = None

    def wait(self) -> None:
        """Returns when something came; now and then when nothing did."""
        if self._queue is None:
            self._make_queue()
        self.waiting = True
        if self.items:  # they came before `waiting` was seen
            self.waiting = False
            return
        error = _wait(self._queue, _SLICE_NS if get_ident() == _MAIN else -1, 1, self._nothing)
        if error:
            check(error)

    def _make_queue(self) -> None:
        with _making:
            if self._queue is None:  # several threads may read one stream
                self._nothing = ffi.new("troupe_events **")
                self._queue = new_queue(self._beside)

    def wake(self) -> None:
        """Whoever waits, or is about to, does so no longer."""
        if self._queue is not None:
            _wake(self._queue)


class Reader:
    def __init__(self, handle: Handle, progress: Progress | None) -> None:
        self._handle = handle
        self._progress = progress
        self._mailboxes: dict[int, Mailbox] = {}
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
            raise fresh(self._failed)
        key, mailbox = next(self._keys), Mailbox(self._handle.queue)
        self._mailboxes[key] = mailbox
        return key, mailbox

    def forget(self, key: int) -> None:
        self._mailboxes.pop(key, None)

    def stop(self) -> None:
        """After the engine was closed: every terminal event is in the queue by now."""
        self._stopping = True
        lib.troupe_queue_wake(self._handle.queue)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        out = ffi.new("troupe_events **")
        while True:
            stopping = self._stopping
            error = _wait(self._handle.queue, 0 if stopping else -1, 0, out)
            if error:
                lib.troupe_error_free(error)
                break
            events = out[0]
            if not events:
                if stopping:
                    break
                continue
            try:
                self._hand_out(events)
            except Exception as error:  # a bug of ours must not leave callers waiting for ever
                self.fail(EngineFailed(f"the reader of this engine failed: {error!r}", code="INTERNAL"))
                raise
            finally:
                lib.troupe_events_free(events)
        self.fail(Closed("the engine is closed"))

    def fail(self, error: TroupeError) -> None:
        """Ends every stream, and the opening, with this error."""
        self._failed = error
        self._opened.put(error)
        for key, mailbox in list(self._mailboxes.items()):
            self.forget(key)
            mailbox.items.append(End(None, error))
            mailbox.wake()

    def _hand_out(self, events: Any) -> None:
        mailbox_of, due = self._mailboxes.get, []
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
        for mailbox in due:
            mailbox.wake()
