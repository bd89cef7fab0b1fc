"""Journal: the spool on a local disk, shared by all processes that name the same directory.

```
VERSION            1
leader.lock        whoever holds the lock on it delivers, for all, and touches it to show that it is well
sending            what the leader has in its hands at this moment
withdrawn/         of whom nothing more is to be sent, and until when
acks.json          how far each segment has been delivered
*.seg              segments: records as lines of text, each file written by one process
dead/*.jsonl       dead letters
```

A record is in the page cache when `put` returns: it survives the death of the process in any form, and a
power failure once `sync` has run. Of a `put` that is killed before it returns, none, some or all records may
be stored. Records leave in the order of their segments, oldest first.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.spool import (
    CrashTrackingSpool,
    DirectorySpool,
    OptOutSpool,
    SpoolCounts,
    SyncableSpool,
)
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
from mixpanel_visitor.process import fork

from .consumer import JournalConsumer
from .dead_letters import MAX_BYTES as MAX_DEAD_BYTES
from .producer import JournalProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mixpanel_visitor.delivery.spool import Claim, DeadReason
    from mixpanel_visitor.records import Endpoint, Record

SEGMENT_BYTES = 8 * 2**20
SEGMENT_AGE_S = 600.0
HOUSEKEEPING_EVERY_S = 1.0
FORK_PATIENCE_S = 0.5


class Journal(SyncableSpool, OptOutSpool, CrashTrackingSpool, DirectorySpool):
    """A `Spool` in a directory. Nothing is opened or created before the first `put`.

    `max_bytes` bounds the segments (None: 1 GB, or 10 % of the volume if that is less), `dead_bytes` the
    dead letters. A segment is closed at `segment_bytes`, or when it is `segment_age_s` seconds old.
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
        dead_bytes: int = MAX_DEAD_BYTES,
    ) -> None:
        # Absolute, because a daemon may change its working directory.
        self.directory = Path(directory).absolute()
        self._clock = clock
        self._monotonic = monotonic
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segment_age_s = segment_age_s
        self._dead_bytes = dead_bytes
        self._process_state = self._make_sides()
        fork.watch(self)

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records` with one write, or none and raise `SpoolError`."""
        sides = self._process_state
        if sides.pid != os.getpid():
            sides = self._here()
        sides.appender.put(records)

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Take the oldest unclaimed records of a lane; None where nothing waits, or another process leads.

        Looks for work of other processes four times a second, and for the lead once a second.
        """
        sides = self._here()
        sides.appender.maintain(every_s=HOUSEKEEPING_EVERY_S)
        # Cleared first: what is put during the look is seen at the next one.
        has_new_records, sides.appender.has_new_records = sides.appender.has_new_records, False
        return sides.desk.claim(endpoint, max_records, max_bytes, has_new_records=has_new_records)

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """These records of the claim have been delivered: forget them."""
        self._here().desk.ack(claim, indexes)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """The next claim of the lane returns these first."""
        self._here().desk.release(claim, indexes)

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside; where the dead letters cannot be written, release them instead."""
        self._here().desk.bury(claim, reasons)

    def withdraw(self, people: Iterable[str]) -> None:
        """What was put until now of these people, by their digests (`subject_digest.py`), is not sent.

        Whichever process delivers heeds it. Where that cannot be written, it is logged.
        """
        self._here().desk.withdraw(people)

    def revision(self) -> int:
        """Count how often something was withdrawn: what was claimed before should be given back."""
        return self._here().desk.revision()

    def note_sending(self, claim: Claim, indexes: Iterable[int], *, once: bool = False) -> None:
        """Note that a request is about to be made of these, in case this process dies of it."""
        self._here().desk.note_sending(claim, indexes, once=once)

    def note_sent(self) -> None:
        """Note that the request has left, or has failed."""
        self._here().desk.note_sent()

    def note_settled(self) -> None:
        """Note that the outcome of a request that was sent with `once` is settled."""
        self._here().desk.note_settled()

    def counts(self) -> SpoolCounts:
        """The figures of now; those of the store are exact unless it is large and was just come upon."""
        sides = self._here()
        # First the names, then the survey: a segment begun in between is not taken for one that is gone.
        names = sides.appender.names()
        store_status = sides.desk.store_status()
        own = sides.appender.reconcile(names, store_status)
        age_s = 0.0 if store_status.oldest_ms is None else self._clock() - store_status.oldest_ms / 1000
        return SpoolCounts(
            written=own.written,
            delivered=own.delivered,
            dead_lettered=own.dead,
            pending=own.pending,
            lost=own.lost,
            store_pending=store_status.pending,
            store_dead=store_status.dead,
            store_bytes=store_status.bytes,
            oldest_age_s=max(0.0, age_s),
            corrupt_bytes=store_status.corrupt_bytes,
            torn_tails=store_status.torn_tails,
            leader=store_status.leader,
        )

    def sync(self) -> None:
        """Make all that was put survive a power failure, and close a segment that is old.

        For about each second, in processes that only put; where records are claimed, `claim` sees to it.
        """
        sides = self._here()
        sides.appender.maintain()
        sides.desk.renew_leadership()

    def close(self) -> None:
        """Sync, close the segment, forget all claims and let another process lead; needs no thread."""
        sides = self._here()
        sides.appender.seal()
        sides.desk.close()

    # --- forks ---------------------------------------------------------------------------------
    # All that is open or locked hangs on one object, made for one process. A child makes its own, and closes
    # its copies of the parent's descriptors; it never unlocks, for the locks are the parent's too.

    def before_fork(self) -> None:
        """Wait for writes and looks in progress, so that the child gets no descriptor it does not know of."""
        self._process_state.hold(FORK_PATIENCE_S)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._process_state.release_all()

    def after_fork_in_child(self) -> None:
        """Begin anew: events and claims of before are the parent's."""
        self._process_state.close_inherited()
        self._process_state = self._make_sides()

    def _here(self) -> _ProcessState:
        sides = self._process_state
        if sides.pid != os.getpid():
            # A fork that the hooks have not seen, of a C extension. Threads may come here together.
            heir = sides.children.setdefault(os.getpid(), self._make_sides())
            if self._process_state is sides:
                self._process_state = heir
                sides.close_inherited()
            sides = heir
        return sides

    def _make_sides(self) -> _ProcessState:
        log = RateLimitedLog(self._monotonic)
        return _ProcessState(
            JournalProducer(
                self.directory,
                clock=self._clock,
                monotonic=self._monotonic,
                max_bytes=self._max_bytes,
                segment_bytes=self._segment_bytes,
                segment_age_s=self._segment_age_s,
                log=log,
            ),
            JournalConsumer(
                self.directory,
                clock=self._clock,
                monotonic=self._monotonic,
                dead_bytes=self._dead_bytes,
                log=log,
            ),
        )


class _ProcessState:
    """The writing and the reading side of a journal in one process."""

    def __init__(self, appender: JournalProducer, desk: JournalConsumer) -> None:
        self.pid = os.getpid()
        self.appender = appender
        self.desk = desk
        self.children: dict[int, _ProcessState] = {}
        self._held_by = 0
        self._holds_desk = self._holds_appender = False

    def hold(self, timeout_s: float) -> None:
        """Take both locks, or as many as can be had; forking goes on in any case."""
        holds_desk = self.desk.lock.acquire(timeout=timeout_s)
        holds_appender = self.appender.acquire(timeout_s)
        if holds_desk or holds_appender:
            self._held_by = threading.get_ident()
            self._holds_desk, self._holds_appender = holds_desk, holds_appender

    def release_all(self) -> None:
        """Release what `hold` has taken in this thread."""
        if self._held_by != threading.get_ident():
            return
        self._held_by = 0
        if self._holds_appender:
            self._holds_appender = False
            self.appender.release()
        if self._holds_desk:
            self._holds_desk = False
            self.desk.lock.release()

    def close_inherited(self) -> None:
        """Close copies of the parent's descriptors."""
        self.appender.close_inherited()
        self.desk.close_inherited()
