"""InFlight: the entries this process has claimed, with their records in order and their claim. Pure."""

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
    """By index: the number of the claim that a record is out with."""

    @property
    def order(self) -> tuple[int, int, str]:
        """Sort key by age: milliseconds and count of the ID, then the stream."""
        milliseconds, _, count = self.entry_id.partition(b"-")
        return int(milliseconds), int(count or 0), self.stream


Position = tuple[int, Entry, int]
"""The claim's number, the entry, and the index of the record in it."""


class InFlight:
    """The queue of one endpoint; not thread-safe."""

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
        """Put entries into the queue, each record in its place by age."""
        added: list[tuple[Entry, int]] = []
        for entry in entries:
            self.entries[entry.stream, entry.entry_id] = entry
            added += [(entry, index) for index in sorted(entry.open)]
        self._insert(added)

    def take(
        self,
        claim_number: int,
        endpoint: Endpoint,
        limits: tuple[int, int],
        *,
        leave_out: Callable[[Entry, int], bool],
    ) -> tuple[Claim | None, list[Position]]:
        """Claim the oldest, within `limits` of records and bytes; return the claim, and what was left out."""
        max_records, max_bytes = limits
        taken: list[Position] = []
        left_out: list[Position] = []
        size = 0
        while self._waiting and len(taken) < max_records:
            entry, index = self._waiting[0]
            if leave_out(entry, index):
                self._waiting.popleft()
                left_out.append((0, entry, index))
                continue
            size += len(entry.bundle.bodies[index])
            if taken and size > max_bytes:
                break
            self._waiting.popleft()
            entry.claims[index] = claim_number
            taken.append((claim_number, entry, index))
        if not taken:
            return None, left_out
        claim = Claim(
            endpoint=endpoint,
            bodies=tuple(entry.bundle.bodies[index] for _, entry, index in taken),
            positions=tuple(taken),
            crash_counts={at: entry.crashes for at, (_, entry, _) in enumerate(taken) if entry.crashes},
        )
        return claim, left_out

    def release(self, positions: Iterable[Position]) -> None:
        """Put these back into the queue, by age."""
        returned = []
        for _, entry, index in positions:
            del entry.claims[index]
            returned.append((entry, index))
        self._insert(returned)

    def forget(self, entry: Entry) -> None:
        """Drop an entry that is not ours any more, or is done."""
        self.entries.pop((entry.stream, entry.entry_id), None)
        entry.open.clear()
        entry.claims.clear()
        if any(each is entry for each, _ in self._waiting):
            self._waiting = deque((each, index) for each, index in self._waiting if each is not entry)

    def _insert(self, added: list[tuple[Entry, int]]) -> None:
        if not added:
            return
        added.sort(key=_place)
        if self._waiting and _place(added[0]) < _place(self._waiting[-1]):
            added = sorted((*self._waiting, *added), key=_place)
            self._waiting.clear()
        self._waiting.extend(added)


def _place(item: tuple[Entry, int]) -> tuple[tuple[int, int, str], int]:
    return item[0].order, item[1]


def still_claimed(claim: Claim, indexes: Iterable[int]) -> list[Position]:
    """Return those records that are still claimed by this very claim."""
    positions_held: dict[tuple[int, int], Position] = {}
    positions = cast("Sequence[Position]", claim.positions)
    for claim_number, entry, index in (positions[at] for at in indexes):
        if entry.claims.get(index) == claim_number:
            positions_held[id(entry), index] = (claim_number, entry, index)
    return list(positions_held.values())
