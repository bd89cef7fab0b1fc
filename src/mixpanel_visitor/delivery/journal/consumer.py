"""JournalConsumer: the reading side of a journal; while this process leads, it claims and settles records."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from mixpanel_visitor.delivery.dead_letter import DeadLetter
from mixpanel_visitor.delivery.spool import Claim
from mixpanel_visitor.errors import SpoolUnavailableError

from .backlog_estimate import BacklogEstimator
from .corruption import CorruptionStats
from .dead_letters import DeadLetters
from .directory import check_private, fix_for
from .in_flight_log import InFlightLog
from .leader_lock import LeaderLock
from .offsets import CommittedOffsets
from .opt_out_history import OptOutHistory
from .segment_index import SegmentIndex
from .segment_reader import Outcome, read_time_ms
from .segments import list_segments, writer_id_of
from .tombstones import OptOutTombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from mixpanel_visitor.delivery.spool import DeadReason
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.records import Endpoint

    from .offsets import SegmentCounts
    from .segment_index import Position

PRUNE_EVERY_S = 60
SCAN_BYTES = 4 * 2**20
"""The most to scan in one call: about ten milliseconds, mostly with the interpreter's lock held."""


@dataclass(slots=True, kw_only=True)
class StoreStatus:
    """The store's contents, of all processes; `names` is None where the directory could not be listed."""

    names: set[str] | None = None
    pending: int = 0
    dead: int = 0
    bytes: int = 0
    oldest_ms: int | None = None
    corrupt_bytes: int = 0
    torn_tails: int = 0
    leader: bool = False
    segment_counts: Mapping[str, SegmentCounts] = field(default_factory=dict)


class JournalConsumer:
    """One process's access to the records of all processes.

    Where the disk fails, methods log it, do what they can, and most raise nothing. `lock` guards claims and
    the lead; it is public because a fork waits for it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        dead_bytes: int,
        refresh_every_s: float,
        log: RateLimitedLog,
    ) -> None:
        # Reentrant: a signal handler may ask for the counts in the middle of a claim.
        self.lock = threading.RLock()
        self._directory = directory
        self._clock = clock
        self._monotonic = monotonic
        self._refresh_every_s = refresh_every_s
        self._log = log
        self._offsets = CommittedOffsets(directory / "acks.json", log)
        self._in_flight_log = InFlightLog(directory / "sending")
        self._tombstones = OptOutTombstones(directory / "withdrawn")
        self._opt_out_history = OptOutHistory(directory / "opted-out")
        self._prune_again_s = float("-inf")
        self._corruption = CorruptionStats(log)
        self._dead_letters = DeadLetters(directory / "dead", max_bytes=dead_bytes, clock=clock, log=log)
        self._leader_lock = LeaderLock(directory / "leader.lock", monotonic=monotonic, log=log)
        self._index: SegmentIndex | None = None
        self._term = 0
        self._refresh_again_s = float("-inf")
        self._backlog = BacklogEstimator(directory)
        self._last_status = StoreStatus()

    def claim(
        self, endpoint: Endpoint, max_records: int, max_bytes: int, *, has_new_records: bool
    ) -> Claim | None:
        """Claim the oldest unclaimed records; with `has_new_records` the directory is always listed."""
        with self.lock:
            index = self._index_if_leader()
            if index is None:
                return None
            now_s = self._monotonic()
            if has_new_records or now_s >= self._refresh_again_s:
                self._refresh_again_s = now_s + self._refresh_every_s
                index.refresh()
                index.scan(SCAN_BYTES)
                self._collect_garbage(index)
            else:
                index.scan(SCAN_BYTES)
            bodies, positions = self._take_permitted(index, endpoint, max_records, max_bytes)
            if not bodies:
                return None
            in_flight_log = self._in_flight_log
            crash_counts = {}
            if in_flight_log.has_crashes:
                for claim_index, (reader, offset) in enumerate(positions):
                    if crashes := in_flight_log.crashes(endpoint, reader.name, offset):
                        crash_counts[claim_index] = crashes
            ambiguous: frozenset[int] = frozenset()
            if in_flight_log.has_ambiguous:
                ambiguous = frozenset(
                    claim_index
                    for claim_index, (reader, offset) in enumerate(positions)
                    if in_flight_log.is_ambiguous(endpoint, reader.name, offset)
                )
            return Claim(
                endpoint=endpoint,
                bodies=tuple(bodies),
                positions=tuple(positions),
                crash_counts=crash_counts,
                ambiguous=ambiguous,
            )

    def leads(self) -> bool:
        """Become leader if possible, also before the first put; raise OSError where there is no directory."""
        with self.lock:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._index_if_leader() is not None

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Forget these records: they have been delivered."""
        with self.lock:
            index = self._index
            if index is not None:
                index.settle(claim.endpoint, _positions(claim, indexes), Outcome.DELIVERED)
                self._save_progress(index)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Let these records be claimed again."""
        with self.lock:
            if self._index is not None:
                self._index.release(claim.endpoint, _positions(claim, indexes))

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Write these records to the dead letters; where that fails, release them."""
        with self.lock:
            index = self._index
            if index is None:
                return
            positions = _positions(claim, reasons)
            claimed = set(index.still_claimed(claim.endpoint, positions))
            time_ms = int(self._clock() * 1000)
            dead_letters = [
                DeadLetter(
                    time_ms=time_ms, endpoint=claim.endpoint, reason=reason, body=claim.bodies[claim_index]
                )
                for (claim_index, reason), position in zip(reasons.items(), positions, strict=True)
                if position in claimed
            ]
            try:
                self._dead_letters.add(dead_letters)
            except OSError as error:
                index.release(claim.endpoint, positions)
                self._log(
                    logging.ERROR,
                    f"bury {self._directory}",
                    "Dead letters cannot be written to %s (%s). The records stay in the spool and are tried "
                    "again. %s",
                    self._directory / "dead",
                    error,
                    fix_for(error),
                )
                return
            index.settle(claim.endpoint, positions, Outcome.DEAD)
            self._save_progress(index)

    def withdraw(self, people: Iterable[str]) -> None:
        """Withdraw all records of these people, given as digests, that were put until now."""
        people, now_ms = list(people), int(self._clock() * 1000)
        try:
            self._tombstones.add(people, until_ms=now_ms)
            self._opt_out_history.add(people, now_ms=now_ms)
        except OSError as error:
            self._log(
                logging.ERROR,
                f"withdrawn {self._directory}",
                "What waits of a person who has opted out may be sent all the same: it could not be noted "
                "(%s). Mend %s.",
                error,
                self._directory / "withdrawn",
            )

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people, given as digests, has opted out since `since_ms`."""
        try:
            return self._opt_out_history.includes(people, since_ms)
        except OSError as error:
            raise SpoolUnavailableError(f"{self._directory / 'opted-out'} cannot be read: {error}") from error

    def revision(self) -> int:
        """Return how often records were withdrawn; claims from before a change should be released."""
        with self.lock:
            if self._index is not None:
                self._apply_opt_outs()
            return self._tombstones.revision

    @staticmethod
    def writers(claim: Claim, indexes: Iterable[int]) -> list[str]:
        """Return the ID of the process that has put each of these records of a claim."""
        return [writer_id_of(reader.name) for reader, _ in _positions(claim, indexes)]

    def note_sending(self, claim: Claim, indexes: Iterable[int], *, once: bool = False) -> None:
        """Note that these records are about to be sent, in case this process dies of it."""
        with self.lock:
            if self._index is not None:
                locations = ((reader.name, offset) for reader, offset in _positions(claim, indexes))
                self._in_flight_log.note_sending(claim.endpoint, locations, once=once)

    def note_sent(self) -> None:
        """Note that the request was sent or has failed."""
        with self.lock:
            if self._index is not None:
                self._in_flight_log.note_sent()

    def note_settled(self) -> None:
        """Note that the outcome of the request is settled."""
        with self.lock:
            if self._index is not None:
                self._in_flight_log.note_settled()

    def store_status(self) -> StoreStatus:
        """Return what is in the store, of all processes, and how far each segment is settled."""
        with self.lock:
            status = self._status_as_leader() if self._index is not None else self._status_as_follower()
            if status.names is None:  # the last status is the best there is
                last_status = self._last_status
                counts = status.segment_counts or last_status.segment_counts
                status = replace(last_status, names=None, segment_counts=counts, leader=status.leader)
            status.corrupt_bytes = self._corruption.corrupt_bytes
            status.torn_tails = self._corruption.torn_tails
            try:
                status.dead = self._dead_letters.count()
            except OSError as error:
                status.dead = self._last_status.dead
                self._log_unreadable(error)
            self._last_status = status
            return status

    def close(self) -> None:
        """Save how far records are settled, forget all claims, and let another process lead."""
        with self.lock:
            index, self._index = self._index, None
            if index is not None:
                self._collect_garbage(index, at_once=True)
            self._leader_lock.release()
            self._refresh_again_s = float("-inf")

    def renew_leadership(self) -> None:
        """Show that this process is well, if it leads; called also when nothing can be claimed for long."""
        with self.lock:
            self._leader_lock.renew()

    def close_inherited(self) -> None:
        """Close what a forked child has inherited; the parent still leads and has all claims."""
        self._index = None
        self._leader_lock.close_inherited()

    # --- inside --------------------------------------------------------------------------------

    def _index_if_leader(self) -> SegmentIndex | None:
        if not self._leader_lock.claim():
            self._index = None
            return None
        if self._index is None or self._term != self._leader_lock.term:
            try:
                check_private(self._directory)
            except OSError as error:
                message = "Nothing of %s is delivered: %s. %s"
                args = (self._directory, error, fix_for(error))
                self._log(logging.ERROR, f"distrust {self._directory}", message, *args)
                self._leader_lock.release()
                return None
            # An earlier index may be out of date: another process may have led in between.
            if not self._offsets.load():
                return None  # or all delivered records would be delivered again
            self._term = self._leader_lock.term
            self._in_flight_log.load()
            self._index = SegmentIndex(
                self._directory, offsets=self._offsets, corruption=self._corruption, log=self._log
            )
            self._refresh_again_s = float("-inf")
        return self._index

    def _take_permitted(
        self, index: SegmentIndex, endpoint: Endpoint, max_records: int, max_bytes: int
    ) -> tuple[list[bytes], list[Position]]:
        """Take records from the index, without withdrawn ones, which are settled instead."""
        self._apply_opt_outs()
        while True:
            bodies, positions = index.take(endpoint, max_records, max_bytes)
            if not bodies or not self._tombstones:
                return bodies, positions
            withdrawn = {
                position
                for body, position in zip(bodies, positions, strict=True)
                if self._tombstones.covers(body, partial(read_time_ms, position[0].path, position[1]))
            }
            if not withdrawn:
                return bodies, positions
            index.settle(endpoint, withdrawn, Outcome.DEAD)
            self._save_progress(index)
            permitted = [pair for pair in zip(bodies, positions, strict=True) if pair[1] not in withdrawn]
            if permitted:
                return [body for body, _ in permitted], [position for _, position in permitted]

    def _apply_opt_outs(self) -> None:
        try:
            if not self._tombstones.refresh():
                return
            if not self._dead_letters.may_be_of(self._tombstones.newly_added):
                return
            ids = frozenset(
                dead_letter.id
                for dead_letter in self._dead_letters.entries()
                if self._tombstones.covers(dead_letter.body, partial(getattr, dead_letter, "time_ms"))
            )
            if ids:
                for _ in self._dead_letters.take(ids):
                    pass
        except OSError as error:
            self._log(
                logging.ERROR,
                f"withdraw {self._directory}",
                "%s cannot be looked at (%s): records of people who have opted out may be sent. Mend it.",
                self._directory / "withdrawn",
                error,
            )

    def _save_progress(self, index: SegmentIndex) -> None:
        self._offsets.save()
        self._collect_garbage(index)

    def _collect_garbage(self, index: SegmentIndex, *, at_once: bool = False) -> None:
        now_s = float("inf") if at_once else self._monotonic()
        now_ms = int(self._clock() * 1000)
        index.collect_garbage(now_s=now_s, now_ms=now_ms)
        if now_s < self._prune_again_s:
            return
        self._prune_again_s = self._monotonic() + PRUNE_EVERY_S
        with suppress(OSError):
            self._opt_out_history.prune(now_ms)
        if self._tombstones:
            oldest_ms = index.oldest_ms()
            before_ms = now_ms if oldest_ms is None else min(oldest_ms, now_ms)
            self._tombstones.prune(before_ms - PRUNE_EVERY_S * 1000)

    def _status_as_leader(self) -> StoreStatus:
        index = cast("SegmentIndex", self._index)
        is_refreshed = index.refresh()
        index.scan(SCAN_BYTES)
        return StoreStatus(
            names=index.names() if is_refreshed else None,
            pending=index.pending(),
            bytes=index.size_bytes(),
            oldest_ms=index.oldest_ms(),
            leader=True,
            segment_counts=self._offsets.counts() | index.counts(),
        )

    def _status_as_follower(self) -> StoreStatus:
        try:
            sizes, _ = list_segments(self._directory)
        except OSError as error:
            self._log_unreadable(error)
            return StoreStatus()
        # After the listing: the leader saves the last counts of a segment before it deletes the segment.
        self._offsets.load()
        self._backlog.update(sizes, self._offsets.segments)
        return StoreStatus(
            names=set(sizes),
            pending=self._backlog.pending,
            bytes=sum(sizes.values()),
            oldest_ms=self._backlog.oldest_ms,
            segment_counts=self._offsets.counts(),
        )

    def _log_unreadable(self, error: OSError) -> None:
        message = "%s cannot be looked at (%s): its figures are those of before. %s"
        args = (self._directory, error, fix_for(error))
        self._log(logging.WARNING, f"survey {self._directory}", message, *args)


def _positions(claim: Claim, indexes: Iterable[int]) -> list[Position]:
    return [cast("Position", claim.positions[index]) for index in indexes]
