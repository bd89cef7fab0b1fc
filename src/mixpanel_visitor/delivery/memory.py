"""MemorySpool: a spool that ends with its process, for tests, and where there is no disk to write to."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from mixpanel_visitor.errors import SpoolFullError
from mixpanel_visitor.process import fork
from mixpanel_visitor.records import ENDPOINTS

from .dead_letter import DeadLetter
from .spool import (
    OPT_OUTS_KEPT_S,
    BoundedSpool,
    Claim,
    OptOutHistorySpool,
    OptOutSpool,
    SpoolCounts,
    VolatileSpool,
)
from .subject_digest import owners

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from mixpanel_visitor.records import Endpoint, Record

    from .spool import DeadReason

MAX_BYTES = 64 * 2**20
MAX_DEAD = 1000
MAX_WITHDRAWN = 50_000
"""Opt-outs in memory: with more, the waiting records of these people are marked, and all forgotten."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A stored record; `sequence` orders all records, `claim_id` is 0 while the record is in no claim."""

    sequence: int
    time_ms: int
    endpoint: Endpoint
    body: bytes
    claim_id: int = 0
    is_withdrawn: bool = False


class MemorySpool(BoundedSpool, OptOutSpool, OptOutHistorySpool, VolatileSpool):
    """A `Spool` in memory, for at most `max_bytes` of bodies; it keeps the last 1000 dead letters.

    A forked child starts with an empty one: the parent delivers its own records.
    """

    is_volatile: Literal[True] = True

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        *,
        max_dead: int = MAX_DEAD,
        max_withdrawn: int = MAX_WITHDRAWN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_dead = max_dead
        self._max_withdrawn = max_withdrawn
        self._clock = clock
        self._reset()
        fork.watch(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._written = 0
        self._last_claim_id = 0
        self._unsettled: dict[int, _Entry] = {}
        self._waiting: dict[Endpoint, deque[_Entry]] = {endpoint: deque() for endpoint in ENDPOINTS}
        self._bytes = 0
        self._delivered = 0
        self._dead = 0
        self._dead_letters: deque[tuple[DeadLetter, set[str]]] = deque(maxlen=self._max_dead)
        self._withdrawn: dict[str, int] = {}
        self._opted_out_ms: dict[str, int] = {}
        self._revision = 0

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records`, or none and raise `SpoolFullError`."""
        for record in records:
            if b"\n" in record.body:
                raise ValueError(
                    f"the body of a record must not contain a newline byte: {record.body[:80]!r}..."
                )
        size = sum(len(record.body) for record in records)
        time_ms = int(self._clock() * 1000)
        with self._lock:
            if self._bytes + size > self._max_bytes:
                raise SpoolFullError(
                    f"The spool in memory is full: it may hold {self._max_bytes:,} bytes and holds "
                    f"{self._bytes:,}. New records are refused until some are delivered; what is stored is "
                    "kept. Check that Mixpanel is reachable."
                )
            self._bytes += size
            for record in records:
                self._written += 1
                entry = _Entry(self._written, time_ms, record.endpoint, record.body)
                self._unsettled[entry.sequence] = entry
                self._waiting[record.endpoint].append(entry)

    def fill(self) -> float:
        """Return how much of the space is used, from 0.0 to 1.0."""
        return self._bytes / self._max_bytes if self._max_bytes else 1.0

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Claim the oldest unclaimed records of an endpoint."""
        with self._lock:
            waiting = self._waiting[endpoint]
            self._last_claim_id += 1
            claimed: list[_Entry] = []
            size = 0
            while waiting and len(claimed) < max_records:
                entry = waiting[0]
                if self._is_withdrawn(entry):
                    self._settle([waiting.popleft()])
                    self._dead += 1
                    continue
                size += len(entry.body)
                if claimed and size > max_bytes:
                    break
                waiting.popleft()
                entry.claim_id = self._last_claim_id
                claimed.append(entry)
            if not claimed:
                return None
            return Claim(
                endpoint=endpoint,
                bodies=tuple(entry.body for entry in claimed),
                positions=tuple((self._last_claim_id, entry) for entry in claimed),
            )

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Forget these records of the claim: they have been delivered."""
        with self._lock:
            self._delivered += len(self._settle(self._claimed_entries(claim, indexes)))

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Let the next claim of the endpoint return these first."""
        with self._lock:
            self._release_entries(self._claimed_entries(claim, indexes))

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside in the dead letters, each with its reason."""
        time_ms = int(self._clock() * 1000)
        with self._lock:
            for index, reason in reasons.items():
                for entry in self._settle(self._claimed_entries(claim, [index])):
                    self._dead += 1
                    dead_letter = DeadLetter(
                        time_ms=time_ms, endpoint=entry.endpoint, reason=reason, body=entry.body
                    )
                    self._dead_letters.append((dead_letter, owners(entry.body)))

    def withdraw(self, people: Iterable[str]) -> None:
        """Withdraw the waiting records of these people, given by `subject_digest.digests`."""
        with self._lock:
            for person in people:
                self._withdrawn.pop(person, None)  # so that the oldest stay first
                self._withdrawn[person] = self._written
                self._opted_out_ms.pop(person, None)
                self._opted_out_ms[person] = int(self._clock() * 1000)
            self._revision += 1
            opted_out = self._withdrawn.keys()
            remaining = [each for each in self._dead_letters if opted_out.isdisjoint(each[1])]
            self._dead_letters = deque(remaining, maxlen=self._max_dead)
            self._forget_withdrawn()
            self._forget_opted_out()

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people, given as digests, has opted out since then, in this process."""
        with self._lock:
            return any(self._opted_out_ms.get(person, -1) >= since_ms for person in people)

    def revision(self) -> int:
        """Return the count of withdrawals."""
        return self._revision

    def counts(self) -> SpoolCounts:
        """Return current counts; the whole store is this object."""
        now_ms = self._clock() * 1000
        with self._lock:
            oldest = next(iter(self._unsettled.values()), None)
            return SpoolCounts(
                written=self._written,
                delivered=self._delivered,
                dead_lettered=self._dead,
                pending=len(self._unsettled),
                store_pending=len(self._unsettled),
                store_dead=len(self._dead_letters),
                store_bytes=self._bytes,
                oldest_age_s=max(0.0, (now_ms - oldest.time_ms) / 1000) if oldest else 0.0,
                leader=True,
            )

    def close(self) -> None:
        """Forget all claims; their records can be claimed again."""
        with self._lock:
            self._release_entries([entry for entry in self._unsettled.values() if entry.claim_id])

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters, oldest first."""
        with self._lock:
            return [dead_letter for dead_letter, _ in self._dead_letters]

    # --- inside --------------------------------------------------------------------------------

    def _claimed_entries(self, claim: Claim, indexes: Iterable[int]) -> list[_Entry]:
        """Return the entries that still belong to this claim, each once."""
        positions = [cast("tuple[int, _Entry]", claim.positions[index]) for index in indexes]
        return [
            entry
            for claim_id, entry in dict.fromkeys(positions)
            if entry.claim_id == claim_id and self._unsettled.get(entry.sequence) is entry
        ]

    def _is_withdrawn(self, entry: _Entry) -> bool:
        if self._withdrawn and not entry.is_withdrawn:
            last_withdrawn = max((self._withdrawn.get(each, -1) for each in owners(entry.body)), default=-1)
            entry.is_withdrawn = entry.sequence <= last_withdrawn
        return entry.is_withdrawn

    def _forget_withdrawn(self) -> None:
        """Forget opt-outs older than all waiting records; if too many, mark the records and forget all."""
        if len(self._withdrawn) > self._max_withdrawn:
            for entry in self._unsettled.values():
                self._is_withdrawn(entry)
            self._withdrawn.clear()
        oldest = next(iter(self._unsettled), self._written + 1)
        while self._withdrawn and self._withdrawn[person := next(iter(self._withdrawn))] < oldest:
            del self._withdrawn[person]

    def _forget_opted_out(self) -> None:
        """Forget opt-outs that are too old for any job, and the oldest where there are too many."""
        old_ms = (self._clock() - OPT_OUTS_KEPT_S) * 1000
        while self._opted_out_ms:
            person = next(iter(self._opted_out_ms))
            if self._opted_out_ms[person] >= old_ms and len(self._opted_out_ms) <= self._max_withdrawn:
                break
            del self._opted_out_ms[person]

    def _settle(self, entries: list[_Entry]) -> list[_Entry]:
        for entry in entries:
            del self._unsettled[entry.sequence]
            entry.claim_id = 0
            self._bytes -= len(entry.body)
        return entries

    def _release_entries(self, entries: list[_Entry]) -> None:
        for entry in entries:
            entry.claim_id = 0
        for endpoint, waiting in self._waiting.items():
            returned = sorted(
                (entry for entry in entries if entry.endpoint == endpoint), key=lambda entry: entry.sequence
            )
            if not returned:
                continue
            # Released ones are in front, and older than all that were never claimed.
            while waiting and waiting[0].sequence < returned[-1].sequence:
                returned.append(waiting.popleft())
            waiting.extendleft(sorted(returned, key=lambda entry: entry.sequence, reverse=True))

    # --- forks ---------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Do nothing: the child starts with an empty one."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Become empty: the records and claims are the parent's."""
        self._reset()
