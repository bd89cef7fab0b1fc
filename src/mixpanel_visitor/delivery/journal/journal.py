"""Journal: the spool on a local disk, shared by all processes that name the same directory.

```
VERSION            1
leader.lock        the process that holds the lock on it delivers, for all, and touches it regularly
sending            what the leader is sending at this moment
withdrawn/         whose records are not to be sent, and until when
opted-out/         who has opted out in the last days, for jobs
flags.json         definitions of feature flags, where these are used
acks.json          how far each segment has been delivered
*.seg              segments: records as lines of text, each file written by one process
dead/*.jsonl       dead letters
```

A record is in the page cache when `put` returns: it survives the death of the process in any form, and a
power failure once `sync` has run. Of a `put` that is killed before it returns, none, some or all records may
be stored. Records are claimed in the order of their segments, oldest first.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.spool import (
    BoundedSpool,
    CrashTrackingSpool,
    DirectorySpool,
    FlagSharingSpool,
    OptOutHistorySpool,
    OptOutSpool,
    SpoolCounts,
    SyncableSpool,
)
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
from mixpanel_visitor.process.imports import import_at_exit, importing

from .per_process import PerProcess
from .segments import sync_path
from .shared_flags import SharedFlagsFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from mixpanel_visitor.delivery.spool import Claim, DeadReason
    from mixpanel_visitor.records import Endpoint, Record

    from .consumer import JournalConsumer
    from .producer import JournalProducer

SEGMENT_BYTES = 8 * 2**20
SEGMENT_AGE_S = 600.0
MAINTAIN_EVERY_S = 1.0
REFRESH_EVERY_S = 0.25


class Journal(
    SyncableSpool,
    BoundedSpool,
    OptOutSpool,
    OptOutHistorySpool,
    CrashTrackingSpool,
    FlagSharingSpool,
    DirectorySpool,
):
    """A `Spool` in a directory. Nothing is opened or created before the first `put`.

    `max_bytes` bounds the segments (None: 1 GB, or 10 % of the volume if that is less), `dead_bytes` the
    dead letters (None: 64 MiB). A segment is closed at `segment_bytes`, or when it is `segment_age_s` seconds
    old. Every `refresh_every_s` seconds the leader looks for records of other processes.

    `sync_path` makes a file or a directory survive a power failure; tests pass their own.

    Writing is done by the producer of this process, reading by its consumer.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        max_bytes: int | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        segment_age_s: float = SEGMENT_AGE_S,
        dead_bytes: int | None = None,
        refresh_every_s: float = REFRESH_EVERY_S,
        sync_path: Callable[[Path], None] = sync_path,
    ) -> None:
        # Absolute, because a daemon may change its working directory.
        self.directory = directory = Path(directory).absolute()
        self._clock = clock
        self._flags_file = SharedFlagsFile(directory)

        def make_pair() -> tuple[JournalProducer, JournalConsumer]:
            producer_type, consumer_type, max_dead_bytes = _import_late()
            log = RateLimitedLog(monotonic)
            producer = producer_type(
                directory,
                clock=clock,
                monotonic=monotonic,
                max_bytes=max_bytes,
                segment_bytes=segment_bytes,
                segment_age_s=segment_age_s,
                log=log,
                sync_path=sync_path,
            )
            consumer = consumer_type(
                directory,
                clock=clock,
                monotonic=monotonic,
                dead_bytes=max_dead_bytes if dead_bytes is None else dead_bytes,
                refresh_every_s=refresh_every_s,
                log=log,
            )
            return producer, consumer

        self._per_process = PerProcess(make_pair)
        import_at_exit(_import_late)

    @property
    def _producer(self) -> JournalProducer:
        return self._per_process.producer

    @property
    def _consumer(self) -> JournalConsumer:
        return self._per_process.consumer

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records` with one write, or none and raise `SpoolError`."""
        self._producer.put(records)

    def fill(self) -> float:
        """Return the used share of what the spool may hold, measured at most a second ago."""
        return self._producer.fill()

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Take the oldest unclaimed records of an endpoint; None: nothing waits, or another process leads.

        It checks at most once a second who leads.
        """
        producer, consumer = self._producer, self._consumer
        producer.maintain(every_s=MAINTAIN_EVERY_S)
        # Cleared first: a record that is put during this claim is read at the next.
        has_new_records, producer.has_new_records = producer.has_new_records, False
        return consumer.claim(endpoint, max_records, max_bytes, has_new_records=has_new_records)

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Forget these records of the claim: they have been delivered."""
        self._consumer.ack(claim, indexes)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Let the next claim of the endpoint return these first."""
        self._consumer.release(claim, indexes)

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Write these records to the dead letters; where that fails, release them."""
        self._consumer.bury(claim, reasons)

    def withdraw(self, people: Iterable[str]) -> None:
        """Withdraw all records of these people, given by `subject_digest.digests`, that were put until now.

        Every process that delivers applies it. Where it cannot be written, that is logged.
        """
        self._consumer.withdraw(people)

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people, given as digests, has opted out here since `since_ms`."""
        return self._consumer.opted_out_since(people, since_ms)

    def revision(self) -> int:
        """Return how often records were withdrawn; claims from before a change should be released."""
        return self._consumer.revision()

    @property
    def writer(self) -> str:
        """The ID of this process among those that put records here."""
        return self._producer.writer_id

    def writers(self, claim: Claim, indexes: Iterable[int]) -> list[str]:
        """Return the ID of the process that has put each of these records of a claim."""
        return self._consumer.writers(claim, indexes)

    def note_sending(self, claim: Claim, indexes: Iterable[int], *, once: bool = False) -> None:
        """Note that these records are about to be sent, in case this process dies of it."""
        self._consumer.note_sending(claim, indexes, once=once)

    def note_sent(self) -> None:
        """Note that the request was sent or has failed."""
        self._consumer.note_sent()

    def note_settled(self) -> None:
        """Note that the outcome of a request that was sent with `once` is settled."""
        self._consumer.note_settled()

    def leads(self) -> bool:
        """Return whether this process delivers for all, and so fetches feature flags."""
        return self._consumer.leads()

    def share_flags(self, document: bytes) -> None:
        """Replace the definitions of feature flags that all processes share."""
        self._flags_file.write(document)

    def shared_flags(self) -> bytes | None:
        """Return the shared definitions; None where they have not changed since the last call."""
        return self._flags_file.read_if_changed()

    def counts(self) -> SpoolCounts:
        """Return current counts; those of the store are estimates until all segments have been scanned."""
        producer = self._producer
        # First the names, then the status: a segment opened in between does not count as deleted.
        names = producer.names()
        store_status = self._consumer.store_status()
        totals = producer.reconcile(names, store_status)
        age_s = 0.0 if store_status.oldest_ms is None else self._clock() - store_status.oldest_ms / 1000
        return SpoolCounts(
            written=totals.written,
            delivered=totals.delivered,
            dead_lettered=totals.dead,
            pending=totals.pending,
            lost=totals.lost,
            store_pending=store_status.pending,
            store_dead=store_status.dead,
            store_bytes=store_status.bytes,
            oldest_age_s=max(0.0, age_s),
            corrupt_bytes=store_status.corrupt_bytes,
            torn_tails=store_status.torn_tails,
            leader=store_status.leader,
        )

    def sync(self) -> None:
        """Make all records that were put survive a power failure, and close a segment that is old.

        The sender's thread calls it every round, also while Mixpanel is unreachable and nothing is claimed.
        """
        self._producer.maintain()
        self._consumer.renew_leadership()

    def close(self) -> None:
        """Sync, close the segment, forget all claims and let another process lead; needs no thread."""
        self._producer.seal()
        self._consumer.close()


@cache
def _import_late() -> tuple[type[JournalProducer], type[JournalConsumer], int]:
    """Import the classes at first use: a process that stores and delivers nothing starts without them."""
    with importing:
        from .consumer import JournalConsumer  # noqa: PLC0415
        from .dead_letters import MAX_BYTES  # noqa: PLC0415
        from .producer import JournalProducer  # noqa: PLC0415

    return JournalProducer, JournalConsumer, MAX_BYTES
