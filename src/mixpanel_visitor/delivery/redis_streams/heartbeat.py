"""Heartbeat: says now and then that a consumer is alive, from a thread of its own."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Protocol

from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.process import threads


class HeartbeatOwner(Protocol):
    """Whoever has something in hand."""

    def beat(self) -> None:
        """Say so; may raise SpoolUnavailableError."""
        ...


class Heartbeat:
    """Calls `beat` each `every_s` seconds from the first `start` on, until `stop` or the end of its owner."""

    def __init__(self, owner: HeartbeatOwner, *, every_s: float) -> None:
        # Weak: a spool that nobody has closed and nobody uses must not live on for its heart.
        self._owner = weakref.ref(owner)
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """See to it that it beats. Where there are no threads, what is in hand for too long is sent twice."""
        if self._thread is not None:
            return
        self._thread = threads.start("mixpanel-visitor-redis", self._run)

    def stop(self) -> None:
        """Beat no more; does not wait for a beat that is under way."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            owner = self._owner()
            if owner is None:
                return
            # Without an answer others take over; what is sent twice is known by its insert ID.
            with contextlib.suppress(SpoolUnavailableError):
                owner.beat()
            del owner
