"""EventCounters: what became of every event that this process was given, in plain counters."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any


class Tally:
    """A number that only grows, by any thread, signal handler or finalizer: each step is one of C's.

    So there is no lock, which a handler could wait for in its own thread, and no gap in which it is lost.
    """

    __slots__ = ("_count", "add_one")

    def __init__(self) -> None:
        self._count = itertools.count()
        self.add_one = self._count.__next__

    def add(self, count: int) -> None:
        """Add so many."""
        deque(itertools.islice(self._count, count), maxlen=0)

    @property
    def value(self) -> int:
        """The sum so far."""
        return int(repr(self._count)[len("count(") : -1])  # nothing else reads it without taking a step


class EventCounters:
    """Counters that are never locked.

    `accept` counts every call; each ends up refused by reason, or in the spool. Buffered is what has not
    reached the spool yet: in open requests and in the committer's queue.
    """

    def __init__(self) -> None:
        self._accepted = Tally()
        self._committed = Tally()
        self._refused: dict[str, Tally] = {}
        self._notes: dict[str, Tally] = {}
        # Bound, for each event calls it: count a call that came in.
        self.accept = self._accepted.add_one

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count records that will not be delivered."""
        _tally(self._refused, reason).add(count)

    def commit(self, count: int) -> None:
        """Count records that the spool has taken."""
        if count == 1:
            self._committed.add_one()
        else:
            self._committed.add(count)

    def note(self, name: str) -> None:
        """Count something that is worth knowing and is no event: a bad cookie, an internal error."""
        _tally(self._notes, name).add_one()

    def snapshot(self) -> dict[str, Any]:
        """Return all counters; what is settled is read first, so that none is more than was accepted."""
        refused = {reason: tally.value for reason, tally in self._refused.copy().items()}
        committed = self._committed.value
        accepted = self._accepted.value
        return {
            "accepted": accepted,
            "buffered": accepted - committed - sum(refused.values()),
            "refused": refused,
            "notes": {name: tally.value for name, tally in self._notes.copy().items()},
        }

    def reset(self) -> None:
        """Start from zero: a forked child answers for its own events only."""
        self.__init__()  # type: ignore[misc]


def _tally(tallies: dict[str, Tally], name: str) -> Tally:
    # In one step where it is new: another thread's must not be replaced.
    return tallies.get(name) or tallies.setdefault(name, Tally())
