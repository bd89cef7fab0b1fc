"""The spool: where accepted records wait until Mixpanel has acknowledged them.

A spool is any class with the seven methods of `Spool`. Writers (`put`) may be many threads and many
processes; the reading side (`claim` and what settles a claim) is called by one thread, the sender.

What a spool can do besides, it declares by the Protocols below: `SyncableSpool`, `OptOutSpool`,
`OptOutHistorySpool`, `CrashTrackingSpool`, `FlagSharingSpool`, `BoundedSpool`, `DirectorySpool`,
`VolatileSpool`. The spools of this package inherit from them, so that a type checker compares the methods;
any other spool only needs the methods. Users of a spool ask with `isinstance` and one of these Protocols.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from mixpanel_visitor.records import Endpoint, Record

OPT_OUTS_KEPT_S = 8 * 86_400
"""How long opt-outs are kept: a day longer than an exported visitor is valid."""


class DeadReason(NamedTuple):
    """Why a record was set aside: Mixpanel's message and field, and the HTTP status (0: no response)."""

    message: str
    field: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claim:
    """Records of one endpoint that were claimed for sending, oldest first; it lasts until all are settled.

    `positions` has one opaque value of the spool for each body. `crash_counts`: how many processes have died
    that handled a record, by index. `ambiguous`: the indexes of records that were sent `once` by a process
    which died before their outcome was noted.
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
    """Counts of the records that were put through this spool object, and then of the whole store.

    `written == delivered + dead_lettered + pending + lost`, always; `lost` records were damaged or deleted in
    the store. The `store_` counts are of all records that wait there, of every process that shares the store;
    `store_bytes` is in bytes, `oldest_age_s` in seconds.
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
    """A durable queue of records for each endpoint."""

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records`, or none and raise `SpoolError`. Never waits for the network."""
        ...

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Claim the oldest unclaimed records of an endpoint, within bounds of records and bytes of bodies.

        A single record over `max_bytes` is returned alone. None: nothing waits, or another process leads.
        """
        ...

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Forget these records of the claim: they have been delivered."""
        ...

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Let the next `claim` of the endpoint return these first: they are still to be sent."""
        ...

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside in the dead letters, each with its reason; they will not be sent again."""
        ...

    def counts(self) -> SpoolCounts:
        """Return current counts; cheap enough for a health check."""
        ...

    def close(self) -> None:
        """Close files, locks and connections. A later `put` or `claim` opens them again."""
        ...


@runtime_checkable
class SyncableSpool(Protocol):
    """A spool on a local disk, whose records survive a power failure once they are synced."""

    def sync(self) -> None:
        """Make all stored records survive a power failure; raise nothing. The sender calls it every round."""
        ...


@runtime_checkable
class OptOutSpool(Protocol):
    """A spool that can withdraw the waiting records of people who opt out."""

    def withdraw(self, people: Iterable[str]) -> None:
        """Withdraw the waiting records of these people, given by `subject_digest.digests`."""
        ...

    def revision(self) -> int:
        """Return the count of withdrawals; when it changes, earlier claims should be released."""
        ...


@runtime_checkable
class OptOutHistorySpool(Protocol):
    """A spool that keeps opt-outs for `OPT_OUTS_KEPT_S`, so that a job can ask for them."""

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people, given by `subject_digest.digests`, has opted out since then.

        `since_ms` is in unix milliseconds. Raise `SpoolError` where that cannot be known.
        """
        ...


@runtime_checkable
class CrashTrackingSpool(Protocol):
    """A spool that remembers which records are being sent, in case that they make the process die.

    Later claims have that in `crash_counts` and `ambiguous`.
    """

    def note_sending(self, claim: Claim, indexes: Iterable[int], *, once: bool = False) -> None:
        """Note that these are about to be sent in a request; `once`: they must not be sent a second time."""
        ...

    def note_sent(self) -> None:
        """Note that the request was sent or has failed: these records cause no crash any more."""
        ...

    def note_settled(self) -> None:
        """Note that the outcome of a request that was sent with `once` is known and settled."""
        ...


@runtime_checkable
class FlagSharingSpool(Protocol):
    """A spool through which the processes that use it share the definitions of feature flags.

    All methods may raise `SpoolError` or OSError.
    """

    def leads(self) -> bool:
        """Return whether this process fetches them for all others. The sender's thread calls it."""
        ...

    def share_flags(self, document: bytes) -> None:
        """Replace the shared document. Any thread may call it."""
        ...

    def shared_flags(self) -> bytes | None:
        """Return the shared document; None: there is none, or it has not changed since the last call."""
        ...


@runtime_checkable
class BoundedSpool(Protocol):
    """A spool that knows how full it is."""

    def fill(self) -> float:
        """Return how much of the space is used, from 0.0 to 1.0, measured a second ago at most."""
        ...


@runtime_checkable
class DirectorySpool(Protocol):
    """A spool in a directory, which other processes can inspect there."""

    directory: Path


@runtime_checkable
class VolatileSpool(Protocol):
    """A spool that ends with its process: no other process can deliver its records."""

    is_volatile: Literal[True]
