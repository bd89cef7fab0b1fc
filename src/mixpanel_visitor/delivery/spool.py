"""The spool: where accepted records wait until Mixpanel has acknowledged them.

A storage is a class with the seven methods of `Spool`. Writers (`put`) may be many threads and many
processes; the reading side (`claim` and what settles a claim) is called by one thread, the sender.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mixpanel_visitor.records import Endpoint, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadReason:
    """Why a record was set aside: Mixpanel's own words, and the HTTP status they came with (0: none)."""

    message: str
    field: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claim:
    """Records of one endpoint taken for sending, oldest first; held until every one of them is settled.

    `positions` is the storage's own: one opaque entry for each body. `crash_counts` says of which records, by
    index, how many processes have died that handled them. `ambiguous` are those that were sent `once` by a
    process which died before their outcome was noted.
    """

    endpoint: Endpoint
    bodies: tuple[bytes, ...]
    positions: tuple[object, ...] = field(repr=False)
    crash_counts: Mapping[int, int] = field(default_factory=dict)
    ambiguous: Collection[int] = ()

    def __len__(self) -> int:
        return len(self.bodies)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolCounts:
    """What this spool object knows: first the records that were put through it, then the whole store.

    `written == delivered + dead_lettered + pending + lost`, always; `lost` ones were damaged on the disk, or
    somebody has deleted them there. The `store_` figures count what every process that shares the store has
    left waiting there; `store_bytes` is in bytes, `oldest_age_s` in seconds.
    """

    written: int = 0
    delivered: int = 0
    dead_lettered: int = 0
    pending: int = 0
    lost: int = 0
    store_pending: int = 0
    store_dead: int = 0
    store_bytes: int = 0
    oldest_age_s: float = 0.0
    corrupt_bytes: int = 0
    torn_tails: int = 0
    leader: bool = False


class Spool(Protocol):
    """A durable queue of records, one lane for each endpoint."""

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records`, or none and raise `SpoolError`. Never waits for the network."""
        ...

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Take the oldest unclaimed records of a lane, at most so many and so many bytes of bodies.

        A single record over `max_bytes` is returned alone. None: nothing waits, or another process leads.
        """
        ...

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """These records of the claim have been delivered: forget them."""
        ...

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """These were not sent or must be sent again: the next `claim` of the lane returns them first."""
        ...

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside in the dead letters, each with its reason; they will not be sent again."""
        ...

    def counts(self) -> SpoolCounts:
        """The figures of now; cheap enough for a health check."""
        ...

    def close(self) -> None:
        """Let go of files, locks and connections. A later `put` or `claim` opens them anew."""
        ...


class OptOutSpool(Protocol):
    """What a spool may offer besides: to take back what people have left who do not want to be tracked."""

    def withdraw(self, people: Iterable[str]) -> None:
        """What was put until now of these people, by their digests (`subject_digest.py`), is not sent."""
        ...

    def revision(self) -> int:
        """Count how often something was withdrawn: what was claimed before should be given back."""
        ...


class Handling(Protocol):
    """What a spool may offer besides: to remember what is in hand, should that end the process."""

    def begin(self, claim: Claim, indexes: Iterable[int], *, once: bool = False) -> None:
        """A request is about to be made of these; `once`: they must not be sent a second time in doubt."""
        ...

    def end(self) -> None:
        """It has left, or has failed: from here on nothing is the records' doing."""
        ...

    def settled(self) -> None:
        """What became of a request that was begun with `once` is known, and noted in the spool."""
        ...
