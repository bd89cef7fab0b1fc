"""ProducerStats: what this process has written, and what became of it in all processes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .offsets import SegmentCounts


@dataclass(slots=True, kw_only=True)
class OwnSegment:
    """A segment that this process has written; `removed` where it was not the leader that deleted it."""

    name: str
    written: int = 0
    delivered: int = 0
    dead: int = 0
    removed: bool = False


@dataclass(slots=True, kw_only=True)
class Totals:
    """Sums over segments: `written == delivered + dead + pending + lost`."""

    written: int = 0
    delivered: int = 0
    dead: int = 0
    pending: int = 0
    lost: int = 0


@dataclass(slots=True)
class ProducerStats:
    """The segments that may still change, and the sums of all others."""

    _segments: dict[str, OwnSegment] = field(default_factory=dict)
    _archived: Totals = field(default_factory=Totals)

    def begin(self, name: str) -> OwnSegment:
        """Start to count what is written to a segment."""
        return self._segments.setdefault(name, OwnSegment(name=name))

    def __len__(self) -> int:
        return len(self._segments)

    def names(self) -> list[str]:
        """Return the names of the segments that may still change."""
        return list(self._segments)

    def mark_removed(self, names: Iterable[str], counts: Mapping[str, SegmentCounts]) -> int:
        """Note that these segments are deleted; the leader did not delete one of which it has no `counts`.

        Return how many records are lost with them, as far as is known.
        """
        lost = 0
        for name in names:
            segment = self._segments[name]
            delivered, dead, _ = counts.get(name, (segment.delivered, segment.dead, 0))
            if not segment.removed:
                lost += max(0, segment.written - delivered - dead)
            segment.removed = segment.removed or name not in counts
        return lost

    def reconcile(
        self, names: Iterable[str], existing: set[str], counts: Mapping[str, SegmentCounts]
    ) -> None:
        """Update the segments in `names`, by which are `existing` and the leader's `counts`.

        The leader forgets a segment an hour after it was deleted. Such a segment was delivered, for the
        leader deletes no other.
        """
        for name in names:
            segment = self._segments.get(name)
            if segment is None:
                continue
            segment_counts = counts.get(name)
            claimed = 0
            if segment_counts is not None:
                delivered, dead, claimed = segment_counts
                # A record that two leaders have settled counts once, with its first outcome.
                segment.delivered = max(segment.delivered, min(delivered, segment.written - segment.dead))
                segment.dead = max(segment.dead, min(dead, segment.written - segment.delivered))
            if name in existing or claimed:
                continue
            if segment_counts is None and not segment.removed:
                segment.delivered = segment.written - segment.dead
            self._archive(segment)

    def totals(self) -> Totals:
        """Return the sums of all segments."""
        totals = replace(self._archived)
        for segment in self._segments.values():
            totals.written += segment.written
            totals.delivered += segment.delivered
            totals.dead += segment.dead
        totals.pending = totals.written - totals.delivered - totals.dead - totals.lost
        return totals

    def _archive(self, segment: OwnSegment) -> None:
        del self._segments[segment.name]
        self._archived.written += segment.written
        self._archived.delivered += segment.delivered
        self._archived.dead += segment.dead
        self._archived.lost += segment.written - segment.delivered - segment.dead
