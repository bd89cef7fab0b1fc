"""Forwarded: what became of records of this process that another one of its machine has put into Redis.

A process does not know the entries that they are in. It knows how far the streams went when it heard of it.
Once all up to there is settled, theirs is as well. How many of them are dead letters, a worker has noted in
Redis; one of 0.1 does not, and then they count as delivered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .producer_stats import id_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


MAX_BATCHES = 1_000
"""Of a process that is asked for its counts while Mixpanel is away for long; the older half becomes one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """A number of records, and the newest entry of each stream when they had all been forwarded."""

    records: int
    marks: Mapping[str, bytes]


@dataclass(slots=True, kw_only=True)
class Forwarded:
    """Counts of records: `total == settled + lost + pending`; `dead` are settled ones. Not thread-safe."""

    total: int = 0
    settled: int = 0
    lost: int = 0
    noted_dead: int = 0
    forgotten_dead: int = 0
    batches: list[Batch] = field(default_factory=list)

    @property
    def pending(self) -> int:
        """Records that are not known to be settled."""
        return self.total - self.settled - self.lost

    @property
    def dead(self) -> int:
        """Settled records that are dead letters."""
        return min(self.settled, self.forgotten_dead + self.noted_dead)

    def note_dead(self, records: int) -> None:
        """Note how many dead letters Redis knows of, which forgets them when there was none for a day."""
        if records < self.noted_dead:
            self.forgotten_dead += self.noted_dead
        self.noted_dead = records

    @property
    def has_unmarked(self) -> bool:
        """True where records were forwarded that no batch holds yet."""
        return self.pending > sum(batch.records for batch in self.batches)

    def mark(self, total: int, marks: Mapping[str, bytes]) -> None:
        """Note `marks`, the newest entries at a time when `total` records had been forwarded."""
        noted = self.settled + self.lost + sum(batch.records for batch in self.batches)
        if total > noted:
            self.batches.append(Batch(records=total - noted, marks=marks))
        if len(self.batches) > MAX_BATCHES:
            older = self.batches[: MAX_BATCHES // 2]
            records = sum(batch.records for batch in older)
            self.batches[: len(older)] = [Batch(records=records, marks=older[-1].marks)]

    @staticmethod
    def find_done(
        batches: Iterable[Batch], first_id: Callable[[str], tuple[bool, bytes | None]]
    ) -> list[tuple[Batch, bool]]:
        """Return the batches that are done, in order, each with whether it is lost: its streams are gone."""
        done: list[tuple[Batch, bool]] = []
        for batch in batches:
            existing = {stream: first for stream in batch.marks if (first := first_id(stream))[0]}
            if any(
                first is not None and id_order(first) <= id_order(batch.marks[stream])
                for stream, (_, first) in existing.items()
            ):
                break
            done.append((batch, bool(batch.marks) and not existing))
        return done

    def note_done(self, done: Iterable[tuple[Batch, bool]]) -> None:
        """Note what `find_done` has found."""
        for batch, lost in done:
            if batch in self.batches:
                self.batches.remove(batch)
                if lost:
                    self.lost += batch.records
                else:
                    self.settled += batch.records
