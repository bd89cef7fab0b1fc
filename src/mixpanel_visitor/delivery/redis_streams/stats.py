"""RedisSpoolStats: the counts of one process about a spool in Redis, and whether there is room for more."""

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
"""Of Redis' `maxmemory`: the rest is for who shares it with us."""

_REFRESH_EVERY_S = 1.0


class RedisSpoolStats:
    """Thread-safe; its lock is never held while Redis is asked, so that `put` does not wait for Redis."""

    def __init__(self, max_bytes: int, *, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._own = RedisProducerStats()
        self._forwarded_here = 0
        self._forwarded = Forwarded()
        self._store = SpoolCounts(leader=True)
        self._waiting_bytes = 0
        self._share = 0.0
        self._measured_s: float | None = None
        self._refreshed_s: float | None = None
        self._changed = False

    def put(self, stream: str, entry_id: bytes, own: int, size: int, *, forwarded: bool) -> None:
        """Count an added entry of `size` compressed bytes; `own` of its records are this process' own.

        `forwarded`: they were in the journal of this machine before.
        """
        with self._lock:
            if own:
                self._own.put(stream, entry_id, own)
            if forwarded:
                self._forwarded_here += own
            self._waiting_bytes += size
            self._changed = True

    def note_settled(self, stream: str, entry_id: bytes, records: int, size: int, *, dead: bool) -> None:
        """Count records of an entry that were settled here; `size` is 0 as long as others are left in it."""
        with self._lock:
            for _ in range(records):
                self._own.note_settled(stream, entry_id, dead=dead)
            self._waiting_bytes = max(0, self._waiting_bytes - size)
            self._changed = True

    def note_flushed(self, stream: str, in_flight: Collection[bytes], before: bytes) -> None:
        """Count what is lost with a deleted stream; see `RedisProducerStats.note_flushed`."""
        with self._lock:
            self._own.note_flushed(stream, in_flight, before)

    def note_forwarded(self, total: int) -> None:
        """Note how many of this process' records the journal has put here, in all, from whatever process."""
        with self._lock:
            self._forwarded.total = max(self._forwarded.total, total - self._forwarded_here)
            self._changed = self._changed or self._forwarded.has_unmarked

    def check_space(self, streams: Streams, size: int) -> None:
        """Raise SpoolFullError where `size` bytes more are too much, by figures of a second ago at most."""
        now_s = self._monotonic()
        if self._measured_s is None or now_s - self._measured_s >= _REFRESH_EVERY_S:
            share, waiting = streams.memory_share(), streams.sizes().stored_bytes
            with self._lock:
                self._measured_s, self._share, self._waiting_bytes = now_s, share, waiting
        if self._share > FULL_SHARE:
            raise SpoolFullError(
                f"Redis uses {self._share:.0%} of its maxmemory; over {FULL_SHARE:.0%} nothing is added. "
                "Give it more memory, or see why workers do not deliver."
            )
        if self._waiting_bytes + size > self._max_bytes:
            raise SpoolFullError(
                f"The spool in Redis is full: it may hold {self._max_bytes:,} bytes and holds "
                f"{self._waiting_bytes:,}. New records are refused until some are delivered; what is stored "
                "is kept. Check that Mixpanel is reachable, and that workers run."
            )

    def fill(self) -> float:
        """Return how much of what may wait is used, as the last `check_space` has found it."""
        return max(self._waiting_bytes / self._max_bytes, self._share / FULL_SHARE)

    def refresh(self, streams: Streams, in_flight: Collection[bytes], writer: str) -> None:
        """Ask Redis for its counts, unless that was done within a second and nothing was done here since.

        `writer` stands for this process where others have forwarded its records.
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
        stamps = [int(stamp) for stamp in sizes.first.values() if stamp.isdigit()]
        age_s = max(0.0, self._clock() - min(stamps) / 1000) if stamps else 0.0
        with self._lock:
            self._store = SpoolCounts(
                store_pending=sizes.records,
                store_dead=dead,
                store_bytes=sizes.stored_bytes,
                oldest_age_s=age_s,
                leader=True,
            )
            waiting = {stream: dict(entries) for stream, entries in self._own.waiting.items() if entries}
            total, batches = self._forwarded.total, list(self._forwarded.batches)
        marks = streams.last_ids() if self._forwarded.has_unmarked else {}
        first_id = cache(streams.first_id)  # of a moment: what is settled meanwhile is found the next time
        done = self._forwarded.find_done(batches, first_id)
        vanished, gone = RedisProducerStats(waiting=waiting).find_settled(first_id, streams.has)
        settled = [each for each in gone if each[1] not in in_flight]
        dead_counts = streams.dead_of(settled)
        dead_elsewhere = streams.dead_of_writer(writer) if total else 0
        with self._lock:
            for stream in vanished:
                self._own.note_flushed(stream, in_flight)
            self._own.note_settled_elsewhere((*each, dead_counts.get(each, 0)) for each in settled)
            self._forwarded.note_done(done)
            self._forwarded.note_dead(dead_elsewhere)
            self._forwarded.mark(total, marks)

    def counts(self, journal: SpoolCounts) -> SpoolCounts:
        """Return the counts as far as they are known, with those of the journal that is forwarded."""
        with self._lock:
            own, forwarded = self._own, self._forwarded
            # Not what the journal says is delivered: it hears of it a moment after Redis.
            left_journal = self._forwarded_here + forwarded.total
            store = self._store
            return replace(
                store,
                written=journal.written - left_journal + own.written + forwarded.total,
                delivered=own.delivered + forwarded.settled - forwarded.dead,
                dead_lettered=journal.dead_lettered + own.dead_lettered + forwarded.dead,
                pending=journal.written
                - journal.dead_lettered
                - journal.lost
                - left_journal
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
