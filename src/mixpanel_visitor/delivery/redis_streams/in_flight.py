"""InFlight: the entries that this process has claimed, and the claims of their records. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from mixpanel_visitor.delivery.spool import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mixpanel_visitor.records import Endpoint

    from .codec import Bundle


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One entry of a stream; `open` are the indexes of its records that are not settled."""

    endpoint: Endpoint
    stream: str
    entry_id: bytes
    bundle: Bundle
    size: int
    crashes: int = 0
    from_dead: bool = False
    open: set[int] = field(default_factory=set)
    claims: dict[int, int] = field(default_factory=dict)
    """The ID of the claim that a record is in, by its index."""

    @property
    def order(self) -> tuple[int, int, str]:
        """Sort key by age: milliseconds and count of the ID, then the stream."""
        milliseconds, _, count = self.entry_id.partition(b"-")
        return int(milliseconds), int(count or 0), self.stream


Position = tuple[int, Entry, int]
"""The ID of a claim, an entry, and the index of a record in it."""


class InFlight:
    """The queue of records of one endpoint; not thread-safe."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Entry, int]] = deque()
        self.entries: dict[tuple[str, bytes], Entry] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes that the bodies of all entries take, settled ones included."""
        return sum(entry.bundle.size for entry in self.entries.values())

    def add(self, entries: Iterable[Entry]) -> None:
        """Put the records of entries into the queue, by age."""
        records: list[tuple[Entry, int]] = []
        for entry in entries:
            self.entries[entry.stream, entry.entry_id] = entry
            records += [(entry, index) for index in sorted(entry.open)]
        self._insert(records)

    def take(
        self,
        claim_id: int,
        endpoint: Endpoint,
        limits: tuple[int, int],
        *,
        is_withdrawn: Callable[[Entry, int], bool],
    ) -> tuple[Claim | None, list[Position]]:
        """Claim the oldest records, within `limits` of records and bytes; return withdrawn ones as well."""
        max_records, max_bytes = limits
        claimed: list[Position] = []
        withdrawn: list[Position] = []
        size = 0
        while self._waiting and len(claimed) < max_records:
            entry, index = self._waiting[0]
            if is_withdrawn(entry, index):
                self._waiting.popleft()
                withdrawn.append((0, entry, index))
                continue
            size += len(entry.bundle.bodies[index])
            if claimed and size > max_bytes:
                break
            self._waiting.popleft()
            entry.claims[index] = claim_id
            claimed.append((claim_id, entry, index))
        if not claimed:
            return None, withdrawn
        claim = Claim(
            endpoint=endpoint,
            bodies=tuple(entry.bundle.bodies[index] for _, entry, index in claimed),
            positions=tuple(claimed),
            crash_counts={at: entry.crashes for at, (_, entry, _) in enumerate(claimed) if entry.crashes},
        )
        return claim, withdrawn

    def release(self, positions: Iterable[Position]) -> None:
        """Put records back into the queue, by age."""
        returned = []
        for _, entry, index in positions:
            del entry.claims[index]
            returned.append((entry, index))
        self._insert(returned)

    def forget(self, entry: Entry) -> None:
        """Drop an entry that is settled, or that another consumer has taken over."""
        self.entries.pop((entry.stream, entry.entry_id), None)
        entry.open.clear()
        entry.claims.clear()
        if any(each is entry for each, _ in self._waiting):
            self._waiting = deque((each, index) for each, index in self._waiting if each is not entry)

    def _insert(self, records: list[tuple[Entry, int]]) -> None:
        if not records:
            return
        records.sort(key=_age_key)
        if self._waiting and _age_key(records[0]) < _age_key(self._waiting[-1]):
            records = sorted((*self._waiting, *records), key=_age_key)
            self._waiting.clear()
        self._waiting.extend(records)


def _age_key(record: tuple[Entry, int]) -> tuple[tuple[int, int, str], int]:
    return record[0].order, record[1]


def still_claimed(claim: Claim, indexes: Iterable[int]) -> list[Position]:
    """Return the positions of those records that still belong to this claim, each once."""
    claimed: dict[tuple[int, int], Position] = {}
    positions = cast("Sequence[Position]", claim.positions)
    for claim_id, entry, index in (positions[at] for at in indexes):
        if entry.claims.get(index) == claim_id:
            claimed[id(entry), index] = (claim_id, entry, index)
    return list(claimed.values())
