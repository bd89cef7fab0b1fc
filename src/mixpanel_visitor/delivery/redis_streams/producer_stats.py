"""RedisProducerStats: what became of the records this process has put; others may have delivered them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

MAX_ENTRIES = 10_000
MAX_CHECKS = 100


@dataclass(slots=True, kw_only=True)
class RedisProducerStats:
    """Counts of records; `waiting` is by stream and entry how many are not known to be settled.

    Over `MAX_ENTRIES` in a stream, the older half counts as one entry: that of its newest ID.
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
        """Note an entry."""
        self.written += records
        entries = self.waiting.setdefault(stream, {})
        entries[entry_id] = records
        if len(entries) > MAX_ENTRIES:
            older = list(entries)[: MAX_ENTRIES // 2]
            newest = older[-1]
            total = sum(entries.pop(each) for each in older)
            self.waiting[stream] = {newest: total, **entries}

    def note_settled(self, stream: str, entry_id: bytes, *, dead: bool) -> None:
        """Count a record that this process has settled; it may be another's."""
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
        """Count entries of a deleted stream as lost, but for those in flight. We delete none; FLUSHALL does.

        `before` is the first entry of the new one: what another thread has put after it is there.
        """
        entries = self.waiting.get(stream, {})
        older = (each for each in entries if before is None or id_order(each) < id_order(before))
        for entry_id in [each for each in older if each not in in_flight]:
            self.lost += entries.pop(entry_id)

    def find_settled(
        self,
        first_id: Callable[[str], tuple[bool, bytes | None]],
        has: Callable[[str, bytes], bool],
    ) -> tuple[list[str], list[tuple[str, bytes]]]:
        """Return the streams that have vanished, and the entries that workers have settled."""
        vanished: list[str] = []
        settled: list[tuple[str, bytes]] = []
        for stream, entries in self.waiting.items():
            if not entries:
                continue
            exists, first = first_id(stream)
            if not exists:
                vanished.append(stream)
                continue
            older = {each for each in entries if first is None or id_order(each) < id_order(first)}
            uncertain = [each for each in entries if each not in older and each != first][:MAX_CHECKS]
            settled += [(stream, each) for each in older]
            settled += [(stream, each) for each in uncertain if not has(stream, each)]
        return vanished, settled

    def note_settled_elsewhere(self, entries: Iterable[tuple[str, bytes, int]]) -> None:
        """Count entries that workers have settled, each with how many of its records are dead letters."""
        for stream, entry_id, dead in entries:
            records = self.waiting.get(stream, {}).pop(entry_id, 0)
            self.dead_lettered += min(dead, records)
            self.delivered += max(0, records - dead)


def id_order(entry_id: bytes) -> tuple[int, int]:
    """Return the sort key of an ID in its stream: milliseconds and a count."""
    milliseconds, _, count = entry_id.partition(b"-")
    return int(milliseconds), int(count or 0)
