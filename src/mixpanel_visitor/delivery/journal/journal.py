"""Journal: the spool on a local disk, shared by all processes that name the same directory.

```
VERSION            1
leader.lock        the process that holds the lock on it delivers, for all, and touches it regularly
sending            what the leader is sending at this moment
withdrawn/         of whom nothing more is to be sent, and until when
opted-out/         who has opted out in the last days, for jobs
flags.json         definitions of feature flags, where these are used
acks.json          how far each segment has been delivered
*.seg              segments: records as lines of text, each file written by one process
dead/*.jsonl       dead letters
```

A record is in the page cache when `put` returns: it survives the death of the process in any form, and a
power failure once `sync` has run. Of a `put` that is killed before it returns, none, some or all records may
be stored. Records leave in the order of their segments, oldest first.
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
    old. Every `refresh_every_s` seconds the leader looks for what other processes have put.

    `sync_path` makes a file or a directory survive a power failure; tests watch it.

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

        def make() -> tuple[JournalProducer, JournalConsumer]:
            producer_type, consumer_type, max_dead_bytes = _parts()
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

        self._per_process = PerProcess(make)
        import_at_exit(_parts)

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
        """Return how much of what it may hold is used, by figures of a second ago at most."""
        return self._producer.fill()

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Take the oldest unclaimed records of an endpoint; None: nothing waits, or another process leads.

        Looks for the lead once a second.
        """
        producer, consumer = self._producer, self._consumer
        producer.maintain(every_s=MAINTAIN_EVERY_S)
        # Cleared first: what is put during the look is seen at the next one.
        has_new_records, producer.has_new_records = producer.has_new_records, False
        return consumer.claim(endpoint, max_records, max_bytes, has_new_records=has_new_records)

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Forget these records of the claim: they have been delivered."""
        self._consumer.ack(claim, indexes)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Let the next claim of the endpoint return these first."""
        self._consumer.release(claim, indexes)

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside; where the dead letters cannot be written, release them instead."""
        self._consumer.bury(claim, reasons)

    def withdraw(self, people: Iterable[str]) -> None:
        """Have nothing sent that was put until now of these people, given by `subject_digest.digests`.

        It holds for every process that delivers. Where it cannot be written, that is logged.
        """
        self._consumer.withdraw(people)

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people, given as digests, has opted out since then, on this disk."""
        return self._consumer.opted_out_since(people, since_ms)

    def revision(self) -> int:
        """Return how often something was withdrawn: what was claimed before should be released."""
        return self._consumer.revision()

    @property
    def writer(self) -> str:
        """What stands for this process among those that put here."""
        return self._producer.writer

    def writers(self, claim: Claim, indexes: Iterable[int]) -> list[str]:
        """Return which process has put each of these records of a claim."""
        return self._consumer.writers(claim, indexes)

    def note_sending(self, claim: Claim, indexes: Iterable[int], *, once: bool = False) -> None:
        """Note that a request is about to be made of these, in case this process dies of it."""
        self._consumer.note_sending(claim, indexes, once=once)

    def note_sent(self) -> None:
        """Note that the request has left, or has failed."""
        self._consumer.note_sent()

    def note_settled(self) -> None:
        """Note that the outcome of a request that was sent with `once` is settled."""
        self._consumer.note_settled()

    def leads(self) -> bool:
        """Return whether this process delivers what all have put there, and so fetches feature flags."""
        return self._consumer.leads()

    def share_flags(self, document: bytes) -> None:
        """Replace the definitions of feature flags that all processes share."""
        self._flags_file.write(document)

    def shared_flags(self) -> bytes | None:
        """Return these definitions where they have changed since the last call."""
        return self._flags_file.read_if_changed()

    def counts(self) -> SpoolCounts:
        """Return current counts. Those of the store are estimates until all segments were scanned once."""
        producer = self._producer
        # First the names, then the status: a segment begun in between is not taken for one that is gone.
        names = producer.names()
        store = self._consumer.store_status()
        own = producer.reconcile(names, store)
        age_s = 0.0 if store.oldest_ms is None else self._clock() - store.oldest_ms / 1000
        return SpoolCounts(
            written=own.written,
            delivered=own.delivered,
            dead_lettered=own.dead,
            pending=own.pending,
            lost=own.lost,
            store_pending=store.pending,
            store_dead=store.dead,
            store_bytes=store.bytes,
            oldest_age_s=max(0.0, age_s),
            corrupt_bytes=store.corrupt_bytes,
            torn_tails=store.torn_tails,
            leader=store.leader,
        )

    def sync(self) -> None:
        """Make all that was put survive a power failure, and close a segment that is old.

        The sender's thread calls it every round, also while Mixpanel is away and nothing is claimed.
        """
        self._producer.maintain()
        self._consumer.renew_leadership()

    def close(self) -> None:
        """Sync, close the segment, forget all claims and let another process lead; needs no thread."""
        self._producer.seal()
        self._consumer.close()


@cache
def _parts() -> tuple[type[JournalProducer], type[JournalConsumer], int]:
    """Import late: a process that stores and delivers nothing yet starts without them."""
    with importing:
        from .consumer import JournalConsumer  # noqa: PLC0415
        from .dead_letters import MAX_BYTES  # noqa: PLC0415
        from .producer import JournalProducer  # noqa: PLC0415

    return JournalProducer, JournalConsumer, MAX_BYTES
