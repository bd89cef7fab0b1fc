"""Notifications: counts records that were put since the sender's last round, and wakes its thread."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING

from mixpanel_visitor.process import threads

from .send_queue import MAX_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable


class Notifications:
    """Wakes one thread. Any thread, signal handler or finalizer may notify; nothing here waits for a lock.

    `wait(seconds)` replaces the waiting, for tests. After the first record the thread lingers for `linger_s`
    seconds, so that records that are put at about the same time are sent together.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        wait: Callable[[float], object] | None,
        linger_s: float,
    ) -> None:
        self._monotonic = monotonic
        self._wait = wait
        self._linger_s = linger_s
        self._records = 0
        self._first_at_s: float | None = None
        self._flush_requested = False
        self.renew()

    def renew(self) -> None:
        """Forget the thread that waited before a fork or a patch of the standard library; keep the counts."""
        # A SimpleQueue, not an Event: its put may interrupt itself (signal handlers, garbage collection).
        self._wake_ups: queue.SimpleQueue[None] = queue.SimpleQueue()

    def add(self, records: int) -> bool:
        """Note that `records` were put, and return whether they are the first since the last round."""
        waiting = self._records
        # Two threads may count as one here: the count only decides how long to linger.
        self._records = waiting + records
        if self._first_at_s is None:
            self._first_at_s = self._monotonic()
            self.wake()
            return True
        if waiting < MAX_RECORDS <= waiting + records:
            self.wake()
        return False

    def request_flush(self) -> None:
        """Have the thread skip the linger."""
        if not self._flush_requested:
            self._flush_requested = True
            self.wake()

    def wake(self) -> None:
        """End one `wait`, the current or the next one."""
        self._wake_ups.put(None)

    def wait(self, seconds: float) -> None:
        """Wait until woken, for at most `seconds`."""
        if self._wait is not None:
            self._wait(seconds)
            return
        with contextlib.suppress(queue.Empty):
            self._wake_ups.get(timeout=seconds)

    def linger(self, is_over: Callable[[], bool]) -> None:
        """Wait for more records; not with a full batch, after a flush request, or once `is_over()`."""
        first_at_s = self._first_at_s
        if first_at_s is not None:
            while not (self._flush_requested or self._records >= MAX_RECORDS or is_over()):
                remaining_s = first_at_s + self._linger_s - self._monotonic()
                if remaining_s <= 0:
                    break
                self.wait(remaining_s)
        # Before the claim, so that later records notify again.
        self._records, self._first_at_s, self._flush_requested = 0, None, False

    def park(self) -> None:
        """Wait for ever; see `threads.park`."""
        threads.park(self._wake_ups)
