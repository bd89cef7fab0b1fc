"""ProducerStats: what this process has written, and what became of it, in whatever process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .offsets import SegmentCounts


@dataclass(slots=True, kw_only=True)
class OwnSegment:
    """A segment that this process has written; `removed` where somebody else than the leader deleted it."""

    name: str
    written: int = 0
    delivered: int = 0
    dead: int = 0
    removed: bool = False


@dataclass(slots=True, kw_only=True)
class Totals:
    """`written == delivered + dead + pending + lost`."""

    written: int = 0
    delivered: int = 0
    dead: int = 0
    pending: int = 0
    lost: int = 0


@dataclass(slots=True)
class ProducerStats:
    """The segments whose end is not known yet, and the sums of all others."""

    _segments: dict[str, OwnSegment] = field(default_factory=dict)
    _archived: Totals = field(default_factory=Totals)

    def begin(self, name: str) -> OwnSegment:
        """Begin to count what is written to a segment."""
        return self._segments.setdefault(name, OwnSegment(name=name))

    def __len__(self) -> int:
        return len(self._segments)

    def names(self) -> list[str]:
        """Return the names of the segments whose end is not known yet."""
        return list(self._segments)

    def mark_removed(self, names: Iterable[str], counts: Mapping[str, SegmentCounts]) -> int:
        """Note that these are gone; one that the leader has no `counts` of was not deleted by the leader.

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
        """Note what became of the segments in `names`, by which are `existing` and what the leader knows.

        Of a segment that is gone for long the leader knows nothing any more; that one was delivered, for it
        deletes no other.
        """
        for name in names:
            segment = self._segments.get(name)
            if segment is None:
                continue
            known = counts.get(name)
            claimed = 0
            if known is not None:
                delivered, dead, claimed = known
                # A record that two leaders have settled is still one, and what became of it first counts.
                segment.delivered = max(segment.delivered, min(delivered, segment.written - segment.dead))
                segment.dead = max(segment.dead, min(dead, segment.written - segment.delivered))
            if name in existing or claimed:
                continue
            if known is None and not segment.removed:
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
