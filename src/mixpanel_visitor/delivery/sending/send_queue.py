"""SendQueue: how large a request may be, and which records go into the next one.

`Limits` learns the size from Mixpanel's answers; `SendQueue` holds the records of claims that are still to be
sent, in order, and cuts them into batches that fit. Pure: no I/O, no clock.
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
"""So many large requests in a row must be accepted before a guessed limit is raised by a quarter."""


def request_bytes(bodies: Sequence[bytes]) -> int:
    """Return the size in bytes of the JSON array of `bodies`: with brackets and commas, uncompressed."""
    return sum(map(len, bodies)) + max(0, len(bodies) - 1) + 2


class Limits:
    """The size one request to one endpoint may have.

    A limit that the server named is believed until the process ends; a limit that was found by halving is
    a guess, and is probed upward slowly.
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
        """Take over the limit that the server has named."""
        self.max_bytes = self._ceiling_bytes = max(FLOOR_BYTES, min(self.max_bytes, limit_bytes))
        self._accepted = 0

    def halve(self, sent_bytes: int) -> None:
        """Halve the limit: `sent_bytes` were too large, and the server did not say what it takes."""
        self.max_bytes = max(FLOOR_BYTES, min(self.max_bytes, sent_bytes) // 2)
        self._accepted = 0

    def too_large(self, sent_bytes: int, limit_bytes: int | None) -> None:
        """Note a 413: believe the server's figure unless it contradicts what was sent."""
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

    `is_second_half`: the second half of a refused batch. `has_bad_record`: its first half was delivered, so
    the record that Mixpanel refuses must be in this one, and sending it whole would be in vain.
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
        """Return the batch cut so that each part fits, in order; a record that never fits stands alone."""
        lengths = [len(self.claim.bodies[index]) for index in self.indexes]
        if sum(lengths) + len(lengths) + 1 <= max_bytes:
            return [self]
        parts: list[Batch] = []
        start, size = 0, 2
        for at, length in enumerate(lengths):
            added = length + (at > start)
            if at > start and size + added > max_bytes:
                parts.append(Batch(claim=self.claim, indexes=self.indexes[start:at]))
                start, size, added = at, 2, length
            size += added
        parts.append(Batch(claim=self.claim, indexes=self.indexes[start:]))
        return parts


class SendQueue:
    """What is left to send of the claims that a worker holds, oldest first.

    One poison record among n costs at most 2*log2(n)+1 requests: halves are sent in order, and when the
    first half is delivered whole the second is known to hold the record and is cut without being sent.
    """

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._records = 0
        self._deferred: list[tuple[float, Batch]] = []

    def __len__(self) -> int:
        return self._records  # not added up: others ask while the sender changes the batches

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
            second = self._batches[0]
            self._batches[0] = Batch(claim=second.claim, indexes=second.indexes, has_bad_record=True)
        else:
            self._forget_second_half()

    def bisect(self) -> None:
        """Cut the first batch in halves: it was refused as a whole."""
        self._replace_first(self._batches[0].split())

    def cut(self, count: int) -> Batch:
        """Cut `count` records off the first batch and return them as the first; the others follow."""
        batch = self._batches[0]
        parts = [batch.indexes[:count], batch.indexes[count:]]
        self._replace_first([Batch(claim=batch.claim, indexes=indexes) for indexes in parts if indexes])
        return self._batches[0]

    def shrink(self, max_bytes: int) -> None:
        """Cut the first batch, which was too large, to `max_bytes`, and in any case at least in two."""
        batch = self._batches[0]
        parts = batch.split_to_fit(max_bytes)
        if len(parts) == 1:
            # The refusal of size says nothing about which half is to blame.
            parts = [Batch(claim=batch.claim, indexes=half.indexes) for half in batch.split()]
        self._replace_first(parts)

    def defer(self, batch: Batch, due_s: float) -> None:
        """Keep a batch until `resume` is called with a time from `due_s` on."""
        self._deferred.append((due_s, batch))

    def resume(self, now_s: float) -> None:
        """Put deferred batches that are due first."""
        for due in [deferred for deferred in self._deferred if deferred[0] <= now_s]:
            self._deferred.remove(due)
            self.put_first(due[1])

    def drain(self) -> list[Batch]:
        """Take everything out, the deferred batches last."""
        batches = [*self._batches, *(batch for _, batch in self._deferred)]
        self._batches.clear()
        self._records = 0
        self._deferred.clear()
        return batches

    def _replace_first(self, parts: Sequence[Batch]) -> None:
        self._batches.popleft()
        # The batch that follows may be the second half of the one just cut: nothing follows for it any more.
        self._forget_second_half()
        self._batches.extendleft(reversed(parts))

    def _forget_second_half(self) -> None:
        if self._batches and self._batches[0].is_second_half:
            batch = self._batches[0]
            self._batches[0] = Batch(claim=batch.claim, indexes=batch.indexes)
