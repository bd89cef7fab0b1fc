"""EventCounters: how many events this process accepted, refused and stored, in plain counters."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any


class Tally:
    """A counter that any thread, signal handler or finalizer may increase.

    Each step is a single call into C, so it needs no lock, for which a handler would wait in its own thread.

    >>> tally = Tally()
    >>> tally.add(3)
    >>> tally.value
    3
    """

    __slots__ = ("_count", "add_one")

    def __init__(self) -> None:
        self._count = itertools.count()
        self.add_one = self._count.__next__

    def add(self, count: int) -> None:
        """Add a count."""
        deque(itertools.islice(self._count, count), maxlen=0)

    @property
    def value(self) -> int:
        """The current sum."""
        return int(repr(self._count)[len("count(") : -1])  # the only way to read it without increasing it


class EventCounters:
    """Counters of one process, without locks.

    `accept` counts every call; each event is then refused, for a reason, or committed to the spool. Buffered
    events have not reached the spool yet: they are in open requests or in the queue of the background writer.
    """

    def __init__(self) -> None:
        self._accepted = Tally()
        self._committed = Tally()
        self._refused: dict[str, Tally] = {}
        self._notes: dict[str, Tally] = {}
        # Bound once, because each event calls it: it counts one call of `track`.
        self.accept = self._accepted.add_one

    def accept_several(self, count: int) -> None:
        """Count several events at once."""
        self._accepted.add(count)

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
        """Count something notable that is not an event, such as a bad cookie or an internal error."""
        _tally(self._notes, name).add_one()

    def snapshot(self) -> dict[str, Any]:
        """Return all counters; `accepted` is read last, so that it is never less than the others together."""
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
        """Start from zero, in a forked child, which counts only its own events."""
        self.__init__()  # type: ignore[misc]


def _tally(tallies: dict[str, Tally], name: str) -> Tally:
    # setdefault is atomic: another thread's new tally is not replaced.
    return tallies.get(name) or tallies.setdefault(name, Tally())
