"""SendQueue: how large a request may be, and which records go into the next one.

`Limits` learns the size from Mixpanel's responses; `SendQueue` has the records of claims that are still to be
sent, in order, and divides them into batches that fit. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mixpanel_visitor.delivery.spool import Claim

MAX_RECORDS = 2_000
"""Records in one request, the same for `/import`, `/engage` and `/groups` (Mixpanel's documentation)."""

START_BYTES = 9_500_000
"""Where the byte limit starts: Mixpanel's documentation says 10 MB uncompressed for a request."""

FLOOR_BYTES = 1_024
"""The limit never falls below this, whatever a server says."""

PROBE_AFTER = 50
"""Large requests in a row that must be accepted before a guessed limit is raised by a quarter."""


def request_bytes(bodies: Sequence[bytes]) -> int:
    """Return the size in bytes of the JSON array of `bodies`: with brackets and commas, uncompressed."""
    return sum(map(len, bodies)) + max(0, len(bodies) - 1) + 2


class Limits:
    """The size one request to one endpoint may have.

    A limit that the server has named counts until the process ends; one that was found by halving is a guess,
    and is raised slowly.
    """

    def __init__(self, *, max_records: int = MAX_RECORDS, max_bytes: int = START_BYTES) -> None:
        self.max_records = max_records
        self.max_bytes = max_bytes
        self._ceiling_bytes = max_bytes
        self._accepted = 0

    @property
    def claim_bytes(self) -> int:
        """Bytes of bodies to claim, so that with brackets and commas the request still fits."""
        return max(1, self.max_bytes - self.max_records - 1)

    def learn(self, limit_bytes: int) -> None:
        """Use the limit that the server has named."""
        self.max_bytes = self._ceiling_bytes = max(FLOOR_BYTES, min(self.max_bytes, limit_bytes))
        self._accepted = 0

    def halve(self, sent_bytes: int) -> None:
        """Halve the limit: `sent_bytes` were too large, and the server has not named its limit."""
        self.max_bytes = max(FLOOR_BYTES, min(self.max_bytes, sent_bytes) // 2)
        self._accepted = 0

    def too_large(self, sent_bytes: int, limit_bytes: int | None) -> None:
        """Note a 413: use the limit that it names, unless that was not exceeded."""
        if limit_bytes is not None and limit_bytes < sent_bytes:
            self.learn(limit_bytes)
        else:
            self.halve(sent_bytes)

    def accepted(self, sent_bytes: int) -> None:
        """Note that a request was taken; only large ones say anything about the limit."""
        if self.max_bytes == self._ceiling_bytes or sent_bytes < self.max_bytes // 2:
            return
        self._accepted += 1
        if self._accepted >= PROBE_AFTER:
            self._accepted = 0
            raised_bytes = self.max_bytes + max(1, self.max_bytes // 4)
            self.max_bytes = min(self._ceiling_bytes, raised_bytes)


class Batch(NamedTuple):
    """Some records of one claim, to be sent in one request.

    `is_second_half`: the second half of a refused batch. `has_bad_record`: the first half was delivered, so
    the refused record must be in this one, and it would be refused as a whole.
    """

    claim: Claim
    indexes: Sequence[int]
    is_second_half: bool = False
    has_bad_record: bool = False

    @property
    def bodies(self) -> list[bytes]:
        """The records themselves, in order."""
        return [self.claim.bodies[index] for index in self.indexes]

    def split(self) -> tuple[Batch, Batch]:
        """Return both halves, the older records first."""
        middle = len(self.indexes) // 2
        return (
            Batch(claim=self.claim, indexes=self.indexes[:middle]),
            Batch(claim=self.claim, indexes=self.indexes[middle:], is_second_half=True),
        )

    def split_to_fit(self, max_bytes: int) -> list[Batch]:
        """Return the batch in parts that fit, in order; a record that does not fit is alone in its part."""
        lengths = [len(self.claim.bodies[index]) for index in self.indexes]
        if sum(lengths) + len(lengths) + 1 <= max_bytes:
            return [self]
        parts: list[Batch] = []
        start, size = 0, 2
        for index, length in enumerate(lengths):
            added_bytes = length + (index > start)
            if index > start and size + added_bytes > max_bytes:
                parts.append(Batch(claim=self.claim, indexes=self.indexes[start:index]))
                start, size, added_bytes = index, 2, length
            size += added_bytes
        parts.append(Batch(claim=self.claim, indexes=self.indexes[start:]))
        return parts


class SendQueue:
    """The records of a worker's claims that are still to be sent, oldest first.

    One poison record among n costs at most 2*log2(n)+1 requests: halves are sent in order, and if the whole
    first half is delivered, the second must have the record and is divided without being sent.
    """

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._records = 0
        self._deferred: list[tuple[float, Batch]] = []

    def __len__(self) -> int:
        return self._records  # no sum: other threads ask while the sender changes the batches

    @property
    def deferred(self) -> int:
        """Records that wait for their time; they are not part of the length."""
        return sum(len(batch.indexes) for _, batch in self._deferred)

    @property
    def due_s(self) -> float | None:
        """When the first deferred batch is due; None: there is none."""
        return min((due_s for due_s, _ in self._deferred), default=None)

    def add(self, batch: Batch) -> None:
        """Add a batch behind everything that waits."""
        self._records += len(batch.indexes)
        self._batches.append(batch)

    def put_first(self, batch: Batch) -> None:
        """Add a batch before everything that waits."""
        self._records += len(batch.indexes)
        self._forget_second_half()
        self._batches.appendleft(batch)

    def first(self, max_bytes: int) -> Batch | None:
        """Return the batch to send now; it stays first until `done`, `bisect` or `shrink` is called."""
        while self._batches:
            batch = self._batches[0]
            if batch.has_bad_record and len(batch.indexes) > 1:
                self.bisect()
                continue
            parts = batch.split_to_fit(max_bytes)
            if len(parts) > 1:
                self._replace_first(parts)
            return self._batches[0]
        return None

    def done(self, *, whole: bool) -> None:
        """Remove the first batch; `whole`: every record of it was delivered."""
        self._records -= len(self._batches.popleft().indexes)
        if whole and self._batches and self._batches[0].is_second_half:
            half = self._batches[0]
            self._batches[0] = Batch(claim=half.claim, indexes=half.indexes, has_bad_record=True)
        else:
            self._forget_second_half()

    def bisect(self) -> None:
        """Divide the first batch in halves: it was refused as a whole."""
        self._replace_first(self._batches[0].split())

    def cut(self, count: int) -> Batch:
        """Cut `count` records off the first batch and return them as the first; the others follow."""
        batch = self._batches[0]
        parts = [batch.indexes[:count], batch.indexes[count:]]
        self._replace_first([Batch(claim=batch.claim, indexes=indexes) for indexes in parts if indexes])
        return self._batches[0]

    def shrink(self, max_bytes: int) -> None:
        """Divide the first batch, which was too large, into at least two of at most `max_bytes`."""
        batch = self._batches[0]
        parts = batch.split_to_fit(max_bytes)
        if len(parts) == 1:
            # The second half of a batch that was too large need not have a bad record.
            parts = [Batch(claim=batch.claim, indexes=half.indexes) for half in batch.split()]
        self._replace_first(parts)

    def defer(self, batch: Batch, due_s: float) -> None:
        """Keep a batch until `resume` is called with a time from `due_s` on."""
        self._deferred.append((due_s, batch))

    def resume(self, now_s: float) -> None:
        """Put deferred batches that are due first."""
        for deferred in [each for each in self._deferred if each[0] <= now_s]:
            self._deferred.remove(deferred)
            self.put_first(deferred[1])

    def drain(self) -> list[Batch]:
        """Remove and return all batches, the deferred ones last."""
        batches = [*self._batches, *(batch for _, batch in self._deferred)]
        self._batches.clear()
        self._records = 0
        self._deferred.clear()
        return batches

    def _replace_first(self, parts: Sequence[Batch]) -> None:
        self._batches.popleft()
        # The next batch may be the second half of the removed one, which has no meaning any more.
        self._forget_second_half()
        self._batches.extendleft(reversed(parts))

    def _forget_second_half(self) -> None:
        if self._batches and self._batches[0].is_second_half:
            batch = self._batches[0]
            self._batches[0] = Batch(claim=batch.claim, indexes=batch.indexes)
