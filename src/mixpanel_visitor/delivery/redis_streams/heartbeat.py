"""Heartbeat: reports to Redis that a consumer is alive, regularly, from a thread of its own."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Protocol

from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.process import threads


class HeartbeatOwner(Protocol):
    """A consumer with claimed entries."""

    def send_heartbeat(self) -> None:
        """Report to Redis that this consumer is alive; may raise SpoolUnavailableError."""
        ...


class Heartbeat:
    """Has `owner` send a heartbeat every `every_s` seconds, from the first `start` until `stop`."""

    def __init__(self, owner: HeartbeatOwner, *, every_s: float) -> None:
        # Weak: the heartbeat must not keep a spool alive that is no longer used.
        self._owner = weakref.ref(owner)
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs. Without threads, records in flight for too long are sent twice."""
        if self._thread is not None:
            return
        self._thread = threads.start("mixpanel-visitor-redis", self._run)

    def stop(self) -> None:
        """Send no more heartbeats; do not wait for the current one."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            owner = self._owner()
            if owner is None:
                return
            # Without a heartbeat others take over; Mixpanel knows an event sent twice by its insert ID.
            with contextlib.suppress(SpoolUnavailableError):
                owner.send_heartbeat()
            del owner
