"""RedisProducerStats: counts of the records that this process has put, whichever worker delivers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

MAX_ENTRIES = 10_000
MAX_CHECKS = 100


@dataclass(slots=True, kw_only=True)
class RedisProducerStats:
    """Counts of records; `waiting` has those that are not known to be settled, by stream and entry.

    Over `MAX_ENTRIES` in a stream, the older half counts as one entry, with the newest of its IDs.
    """

    written: int = 0
    delivered: int = 0
    dead_lettered: int = 0
    lost: int = 0
    waiting: dict[str, dict[bytes, int]] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        """Records that are not known to be settled."""
        return sum(sum(entries.values()) for entries in self.waiting.values())

    def put(self, stream: str, entry_id: bytes, records: int) -> None:
        """Count the records of an entry that was added."""
        self.written += records
        entries = self.waiting.setdefault(stream, {})
        entries[entry_id] = records
        if len(entries) > MAX_ENTRIES:
            older = list(entries)[: MAX_ENTRIES // 2]
            newest = older[-1]
            merged = sum(entries.pop(each) for each in older)
            self.waiting[stream] = {newest: merged, **entries}

    def note_settled(self, stream: str, entry_id: bytes, *, dead: bool) -> None:
        """Count a record that this process has settled, if this process has put it."""
        entries = self.waiting.get(stream, {})
        if not entries.get(entry_id):
            return
        entries[entry_id] -= 1
        if not entries[entry_id]:
            del entries[entry_id]
        if dead:
            self.dead_lettered += 1
        else:
            self.delivered += 1

    def note_flushed(self, stream: str, in_flight: Collection[bytes], before: bytes | None = None) -> None:
        """Count entries of a deleted stream as lost, but for those in flight. Only others delete (FLUSHALL).

        `before` is the first entry of the new stream: later entries are in that one.
        """
        entries = self.waiting.get(stream, {})
        deleted = (each for each in entries if before is None or id_order(each) < id_order(before))
        for entry_id in [each for each in deleted if each not in in_flight]:
            self.lost += entries.pop(entry_id)

    def find_settled(
        self,
        first_id: Callable[[str], tuple[bool, bytes | None]],
        has_entry: Callable[[str, bytes], bool],
    ) -> tuple[list[str], list[tuple[str, bytes]]]:
        """Return the streams that were deleted, and the entries that workers have settled."""
        deleted: list[str] = []
        settled: list[tuple[str, bytes]] = []
        for stream, entries in self.waiting.items():
            if not entries:
                continue
            exists, oldest = first_id(stream)
            if not exists:
                deleted.append(stream)
                continue
            older = {each for each in entries if oldest is None or id_order(each) < id_order(oldest)}
            uncertain = [each for each in entries if each not in older and each != oldest][:MAX_CHECKS]
            settled += [(stream, each) for each in older]
            settled += [(stream, each) for each in uncertain if not has_entry(stream, each)]
        return deleted, settled

    def note_settled_elsewhere(self, entries: Iterable[tuple[str, bytes, int]]) -> None:
        """Count entries that workers have settled, each with its count of dead letters."""
        for stream, entry_id, dead in entries:
            records = self.waiting.get(stream, {}).pop(entry_id, 0)
            self.dead_lettered += min(dead, records)
            self.delivered += max(0, records - dead)


def id_order(entry_id: bytes) -> tuple[int, int]:
    """Return the sort key of an ID in its stream: milliseconds and a count."""
    milliseconds, _, count = entry_id.partition(b"-")
    return int(milliseconds), int(count or 0)
