"""Heartbeat: tells Redis regularly that a consumer is alive, from a thread of its own."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Protocol

from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.process import threads


class HeartbeatOwner(Protocol):
    """A consumer that has claimed entries."""

    def send_heartbeat(self) -> None:
        """Report to Redis that this consumer is alive; may raise SpoolUnavailableError."""
        ...


class Heartbeat:
    """Has `owner` send a heartbeat every `every_s` seconds, from the first `start` until `stop`."""

    def __init__(self, owner: HeartbeatOwner, *, every_s: float) -> None:
        # Weak: a spool that nobody has closed and nobody uses must not live on for its heartbeat.
        self._owner = weakref.ref(owner)
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs. Without threads, what is in flight for too long is sent twice."""
        if self._thread is not None:
            return
        self._thread = threads.start("mixpanel-visitor-redis", self._run)

    def stop(self) -> None:
        """Send no more heartbeats; does not wait for one that is under way."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            owner = self._owner()
            if owner is None:
                return
            # Without an answer others take over; what is sent twice is known by its insert ID.
            with contextlib.suppress(SpoolUnavailableError):
                owner.send_heartbeat()
            del owner
