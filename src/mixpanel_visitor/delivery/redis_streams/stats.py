"""RedisSpoolStats: what one process knows of the counts of a spool in Redis, and of its free space."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.spool import SpoolCounts
from mixpanel_visitor.errors import SpoolFullError

from .forwarded import Forwarded
from .producer_stats import RedisProducerStats

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .streams import Streams

FULL_SHARE = 0.8
"""Of Redis' `maxmemory`: the rest is for its other users."""

_REFRESH_EVERY_S = 1.0


class RedisSpoolStats:
    """Thread-safe; the lock is never held during a call to Redis, so that `put` does not wait for that."""

    def __init__(self, max_bytes: int, *, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._own = RedisProducerStats()
        self._forwarded_by_self = 0
        self._forwarded_by_others = Forwarded()
        self._store = SpoolCounts(leader=True)
        self._waiting_bytes = 0
        self._memory_share = 0.0
        self._measured_s: float | None = None
        self._refreshed_s: float | None = None
        self._changed = False

    def put(self, stream: str, entry_id: bytes, own: int, size: int, *, forwarded: bool) -> None:
        """Count an added entry of `size` compressed bytes; this process has put `own` of its records.

        `forwarded`: they come from the journal of this machine.
        """
        with self._lock:
            if own:
                self._own.put(stream, entry_id, own)
            if forwarded:
                self._forwarded_by_self += own
            self._waiting_bytes += size
            self._changed = True

    def note_settled(self, stream: str, entry_id: bytes, records: int, size: int, *, dead: bool) -> None:
        """Count records that this process has settled; `size` is 0 while others of their entry are not."""
        with self._lock:
            for _ in range(records):
                self._own.note_settled(stream, entry_id, dead=dead)
            self._waiting_bytes = max(0, self._waiting_bytes - size)
            self._changed = True

    def note_flushed(self, stream: str, in_flight: Collection[bytes], before: bytes) -> None:
        """Count the records lost with a deleted stream; see `RedisProducerStats.note_flushed`."""
        with self._lock:
            self._own.note_flushed(stream, in_flight, before)

    def note_forwarded(self, total: int) -> None:
        """Note how many of this process' records have been forwarded, by this and by other processes."""
        with self._lock:
            forwarded = self._forwarded_by_others
            forwarded.total = max(forwarded.total, total - self._forwarded_by_self)
            self._changed = self._changed or forwarded.has_unbatched

    def check_space(self, streams: Streams, size: int) -> None:
        """Raise SpoolFullError where there is no space for `size` bytes, measured a second ago at most."""
        now_s = self._monotonic()
        if self._measured_s is None or now_s - self._measured_s >= _REFRESH_EVERY_S:
            memory_share, waiting_bytes = streams.memory_share(), streams.sizes().stored_bytes
            with self._lock:
                self._memory_share, self._waiting_bytes = memory_share, waiting_bytes
                self._measured_s = now_s
        if self._memory_share > FULL_SHARE:
            raise SpoolFullError(
                f"Redis uses {self._memory_share:.0%} of its maxmemory; over {FULL_SHARE:.0%} nothing is "
                "added. Give it more memory, or see why workers do not deliver."
            )
        if self._waiting_bytes + size > self._max_bytes:
            raise SpoolFullError(
                f"The spool in Redis is full: it may hold {self._max_bytes:,} bytes and holds "
                f"{self._waiting_bytes:,}. New records are refused until some are delivered; what is stored "
                "is kept. Check that Mixpanel is reachable, and that workers run."
            )

    def fill(self) -> float:
        """Return how much of the space is used, from 0.0 to 1.0, as of the last `check_space`."""
        return max(self._waiting_bytes / self._max_bytes, self._memory_share / FULL_SHARE)

    def refresh(self, streams: Streams, in_flight: Collection[bytes], writer: str) -> None:
        """Ask Redis for its counts, unless they are less than a second old and nothing has changed here.

        `writer` names this process in the entries that others have forwarded.
        """
        now_s = self._monotonic()
        if (
            not self._changed
            and self._refreshed_s is not None
            and now_s - self._refreshed_s < _REFRESH_EVERY_S
        ):
            return
        self._changed, self._refreshed_s = False, now_s
        sizes, dead = streams.sizes(), streams.count_dead()
        times_ms = [int(time_ms) for time_ms in sizes.oldest_times_ms.values() if time_ms.isdigit()]
        age_s = max(0.0, self._clock() - min(times_ms) / 1000) if times_ms else 0.0
        with self._lock:
            self._store = SpoolCounts(
                store_pending=sizes.records,
                store_dead=dead,
                store_bytes=sizes.stored_bytes,
                oldest_age_s=age_s,
                leader=True,
            )
            waiting = {stream: dict(entries) for stream, entries in self._own.waiting.items() if entries}
            forwarded = self._forwarded_by_others
            total, batches = forwarded.total, list(forwarded.batches)
        newest_ids = streams.last_ids() if forwarded.has_unbatched else {}
        first_id = cache(streams.first_id)  # asked once; the next refresh finds what is settled meanwhile
        done = forwarded.find_done(batches, first_id)
        deleted, settled = RedisProducerStats(waiting=waiting).find_settled(first_id, streams.has)
        settled = [each for each in settled if each[1] not in in_flight]
        dead_counts = streams.dead_of(settled)
        forwarded_dead = streams.dead_of_writer(writer) if total else 0
        with self._lock:
            for stream in deleted:
                self._own.note_flushed(stream, in_flight)
            self._own.note_settled_elsewhere((*each, dead_counts.get(each, 0)) for each in settled)
            forwarded.note_done(done)
            forwarded.note_dead(forwarded_dead)
            forwarded.add_batch(total, newest_ids)

    def counts(self, journal: SpoolCounts) -> SpoolCounts:
        """Return the counts that are known, added to those of the journal that is forwarded."""
        with self._lock:
            own, forwarded = self._own, self._forwarded_by_others
            # The journal's own count of them is updated a moment after Redis has them.
            all_forwarded = self._forwarded_by_self + forwarded.total
            store = self._store
            return replace(
                store,
                written=journal.written - all_forwarded + own.written + forwarded.total,
                delivered=own.delivered + forwarded.settled - forwarded.dead,
                dead_lettered=journal.dead_lettered + own.dead_lettered + forwarded.dead,
                pending=journal.written
                - journal.dead_lettered
                - journal.lost
                - all_forwarded
                + own.pending
                + forwarded.pending,
                lost=journal.lost + own.lost + forwarded.lost,
                store_pending=journal.store_pending + store.store_pending,
                store_dead=journal.store_dead + store.store_dead,
                store_bytes=journal.store_bytes + store.store_bytes,
                oldest_age_s=max(journal.oldest_age_s, store.oldest_age_s),
                corrupt_bytes=journal.corrupt_bytes,
                torn_tails=journal.torn_tails,
            )
