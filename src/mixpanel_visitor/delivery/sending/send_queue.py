"""SendQueue: how large a request may be, and which records go into the next one.

`Limits` learns the size from Mixpanel's answers; `SendQueue` holds the records of claims that are still to be
sent, in order, and cuts them into pieces that fit. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """Size in bytes of the JSON array that holds `bodies`: with brackets and commas, uncompressed."""
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
        """The server has named its limit."""
        self.max_bytes = self._ceiling_bytes = max(FLOOR_BYTES, min(self.max_bytes, limit_bytes))
        self._accepted = 0

    def halve(self, sent_bytes: int) -> None:
        """A request of `sent_bytes` was too large, and the server did not say what it takes."""
        self.max_bytes = max(FLOOR_BYTES, min(self.max_bytes, sent_bytes) // 2)
        self._accepted = 0

    def too_large(self, sent_bytes: int, limit_bytes: int | None) -> None:
        """Answer to a 413: believe the server's figure unless it contradicts what was sent."""
        if limit_bytes is not None and limit_bytes < sent_bytes:
            self.learn(limit_bytes)
        else:
            self.halve(sent_bytes)

    def accepted(self, sent_bytes: int) -> None:
        """A request was taken; only large ones say anything about the limit."""
        if self.max_bytes == self._ceiling_bytes or sent_bytes < self.max_bytes // 2:
            return
        self._accepted += 1
        if self._accepted >= PROBE_AFTER:
            self._accepted = 0
            raised_bytes = self.max_bytes + max(1, self.max_bytes // 4)
            self.max_bytes = min(self._ceiling_bytes, raised_bytes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """Some records of one claim, to be sent in one request.

    `twin`: the second half of a refused piece. `guilty`: its first half was delivered whole, so the record
    that Mixpanel refuses must be in here and sending it whole would be in vain.
    """

    claim: Claim
    indexes: Sequence[int]
    twin: bool = False
    guilty: bool = False

    @property
    def bodies(self) -> list[bytes]:
        """The records themselves, in order."""
        return [self.claim.bodies[index] for index in self.indexes]

    def halves(self) -> tuple[Piece, Piece]:
        """Both halves, the older records first."""
        middle = len(self.indexes) // 2
        return (
            Piece(claim=self.claim, indexes=self.indexes[:middle]),
            Piece(claim=self.claim, indexes=self.indexes[middle:], twin=True),
        )

    def fitting(self, max_bytes: int) -> list[Piece]:
        """The piece cut so that each part fits, in order; a record that never fits stands alone."""
        lengths = [len(self.claim.bodies[index]) for index in self.indexes]
        if sum(lengths) + len(lengths) + 1 <= max_bytes:
            return [self]
        parts: list[Piece] = []
        start, size = 0, 2
        for at, length in enumerate(lengths):
            added = length + (at > start)
            if at > start and size + added > max_bytes:
                parts.append(Piece(claim=self.claim, indexes=self.indexes[start:at]))
                start, size, added = at, 2, length
            size += added
        parts.append(Piece(claim=self.claim, indexes=self.indexes[start:]))
        return parts


class SendQueue:
    """What is left to send of the claims a lane holds, oldest first.

    One poison record among n costs at most 2*log2(n)+1 requests: halves are sent in order, and when the
    first half is delivered whole the second is known to be guilty and is cut without being sent.
    """

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._records = 0
        self._deferred: list[tuple[float, Piece]] = []

    def __len__(self) -> int:
        return self._records  # not added up: others ask while the sender changes the pieces

    @property
    def deferred(self) -> int:
        """Records that wait for their time; they are not part of the length."""
        return sum(len(piece.indexes) for _, piece in self._deferred)

    @property
    def due_s(self) -> float | None:
        """When the first deferred piece is due; None: there is none."""
        return min((due_s for due_s, _ in self._deferred), default=None)

    def add(self, piece: Piece) -> None:
        """Behind everything that waits."""
        self._records += len(piece.indexes)
        self._pieces.append(piece)

    def put_first(self, piece: Piece) -> None:
        """Before everything that waits."""
        self._records += len(piece.indexes)
        self._forget_twin()
        self._pieces.appendleft(piece)

    def first(self, max_bytes: int) -> Piece | None:
        """The piece to send now; it stays first until `done`, `bisect` or `shrink` is called."""
        while self._pieces:
            piece = self._pieces[0]
            if piece.guilty and len(piece.indexes) > 1:
                self.bisect()
                continue
            parts = piece.fitting(max_bytes)
            if len(parts) > 1:
                self._replace_first(parts)
            return self._pieces[0]
        return None

    def done(self, *, whole: bool) -> None:
        """The first piece is settled; `whole`: every record of it was delivered."""
        self._records -= len(self._pieces.popleft().indexes)
        if whole and self._pieces and self._pieces[0].twin:
            twin = self._pieces[0]
            self._pieces[0] = Piece(claim=twin.claim, indexes=twin.indexes, guilty=True)
        else:
            self._forget_twin()

    def bisect(self) -> None:
        """The first piece was refused as a whole: send its halves instead."""
        self._replace_first(self._pieces[0].halves())

    def cut(self, count: int) -> Piece:
        """Send only so many records of the first piece now; the others follow."""
        piece = self._pieces[0]
        parts = [piece.indexes[:count], piece.indexes[count:]]
        self._replace_first([Piece(claim=piece.claim, indexes=indexes) for indexes in parts if indexes])
        return self._pieces[0]

    def shrink(self, max_bytes: int) -> None:
        """The first piece was too large: cut it to `max_bytes`, and in any case at least in two."""
        piece = self._pieces[0]
        parts = piece.fitting(max_bytes)
        if len(parts) == 1:
            # The refusal of size says nothing about who is guilty: no half is a twin.
            parts = [Piece(claim=piece.claim, indexes=half.indexes) for half in piece.halves()]
        self._replace_first(parts)

    def defer(self, piece: Piece, due_s: float) -> None:
        """Keep a piece until `resume` is called with a time from `due_s` on."""
        self._deferred.append((due_s, piece))

    def resume(self, now_s: float) -> None:
        """Put deferred pieces that are due first."""
        for due in [deferred for deferred in self._deferred if deferred[0] <= now_s]:
            self._deferred.remove(due)
            self.put_first(due[1])

    def drain(self) -> list[Piece]:
        """Take everything out, the deferred pieces last."""
        pieces = [*self._pieces, *(piece for _, piece in self._deferred)]
        self._pieces.clear()
        self._records = 0
        self._deferred.clear()
        return pieces

    def _replace_first(self, parts: Sequence[Piece]) -> None:
        self._pieces.popleft()
        # The piece that follows may be the twin of the one just cut: its guilt is no longer implied.
        self._forget_twin()
        self._pieces.extendleft(reversed(parts))

    def _forget_twin(self) -> None:
        if self._pieces and self._pieces[0].twin:
            piece = self._pieces[0]
            self._pieces[0] = Piece(claim=piece.claim, indexes=piece.indexes)
