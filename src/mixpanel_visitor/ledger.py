"""Ledger: what became of every event that this process was given, in plain counters."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any


class Ledger:
    """Counters under one lock.

    `accepted` counts every call; each ends up `refused` by reason, or in the spool. `buffered` is what has
    not reached the spool yet: in open requests and in the committer's queue.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.accepted = 0
        self.buffered = 0
        self.refused: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def accept(self) -> None:
        """Count a call that came in; until it is refused or committed it is buffered."""
        with self._lock:
            self.accepted += 1
            self.buffered += 1

    def refuse(self, reason: str, number: int = 1) -> None:
        """Count records that will not be delivered."""
        with self._lock:
            self.refused[reason] += number
            self.buffered -= number

    def commit(self, number: int) -> None:
        """Count records that the spool has taken."""
        with self._lock:
            self.buffered -= number

    def note(self, name: str) -> None:
        """Count something that is worth knowing and is no event: a bad cookie, an internal error."""
        with self._lock:
            self.notes[name] += 1

    def snapshot(self) -> dict[str, Any]:
        """Give all counters of one moment."""
        with self._lock:
            return {
                "accepted": self.accepted,
                "buffered": self.buffered,
                "refused": dict(self.refused),
                "notes": dict(self.notes),
            }

    def reset(self) -> None:
        """Start from zero, with a fresh lock: a forked child answers for its own events only."""
        self.__init__()  # type: ignore[misc]
