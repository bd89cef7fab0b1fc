"""Forwarded: counts of this process' records that another process of its machine has put into Redis.

This process does not know their entries. It knows the newest entry of each stream at the time when it learnt
that they were forwarded: once everything up to there is settled, they are settled too. Workers note in Redis
how many of them are dead letters; a worker of 0.1 does not, and then they count as delivered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .producer_stats import id_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_BATCHES = 1_000
"""They become many when Mixpanel is unreachable for long; the older half is then merged into one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """A count of records, and the newest entry of each stream when they had all been forwarded."""

    records: int
    newest_ids: Mapping[str, bytes]


@dataclass(slots=True, kw_only=True)
class Forwarded:
    """Counts of records: `total == settled + lost + pending`; `dead` are settled ones. Not thread-safe."""

    total: int = 0
    settled: int = 0
    lost: int = 0
    noted_dead: int = 0
    expired_dead: int = 0
    batches: list[Batch] = field(default_factory=list)

    @property
    def pending(self) -> int:
        """Records that are not known to be settled."""
        return self.total - self.settled - self.lost

    @property
    def dead(self) -> int:
        """Settled records that are dead letters."""
        return min(self.settled, self.expired_dead + self.noted_dead)

    def note_dead(self, records: int) -> None:
        """Note the count of dead letters in Redis, which deletes it a day after the last of them."""
        if records < self.noted_dead:
            self.expired_dead += self.noted_dead
        self.noted_dead = records

    @property
    def has_unbatched(self) -> bool:
        """True where records were forwarded that are in no batch yet."""
        return self.pending > sum(batch.records for batch in self.batches)

    def add_batch(self, total: int, newest_ids: Mapping[str, bytes]) -> None:
        """Note the newest entry of each stream at a time when `total` records had been forwarded."""
        known = self.settled + self.lost + sum(batch.records for batch in self.batches)
        if total > known:
            self.batches.append(Batch(records=total - known, newest_ids=newest_ids))
        if len(self.batches) > MAX_BATCHES:
            older = self.batches[: MAX_BATCHES // 2]
            records = sum(batch.records for batch in older)
            self.batches[: len(older)] = [Batch(records=records, newest_ids=older[-1].newest_ids)]

    @staticmethod
    def find_done(
        batches: Iterable[Batch], first_id: Callable[[str], tuple[bool, bytes | None]]
    ) -> list[tuple[Batch, bool]]:
        """Return the batches that are done, in order, and of each whether it is lost with its streams."""
        done: list[tuple[Batch, bool]] = []
        for batch in batches:
            existing = {stream: reply[1] for stream in batch.newest_ids if (reply := first_id(stream))[0]}
            if any(
                oldest_id is not None and id_order(oldest_id) <= id_order(batch.newest_ids[stream])
                for stream, oldest_id in existing.items()
            ):
                break
            done.append((batch, bool(batch.newest_ids) and not existing))
        return done

    def note_done(self, done: Iterable[tuple[Batch, bool]]) -> None:
        """Count the batches that `find_done` has returned."""
        for batch, lost in done:
            if batch in self.batches:
                self.batches.remove(batch)
                if lost:
                    self.lost += batch.records
                else:
                    self.settled += batch.records
