"""JournalConsumer: the reading side of a journal; while this process leads, it claims and settles records."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from mixpanel_visitor.delivery.spool import Claim

from .backlog_estimate import BacklogEstimator
from .corruption import CorruptionStats
from .dead_letters import DeadLetter, DeadLetters
from .directory import distrust, fix_for
from .in_flight_log import InFlightLog
from .leader_lock import LeaderLock
from .offsets import CommittedOffsets
from .segment_index import SegmentIndex
from .segment_reader import Outcome, read_time_ms
from .segments import list_segments
from .tombstones import OptOutTombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mixpanel_visitor.delivery.spool import DeadReason
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.records import Endpoint

    from .segment_index import Position

REFRESH_EVERY_S = 0.25
PRUNE_EVERY_S = 60
SCAN_BYTES = 4 * 2**20
"""So much is scanned in one call: about ten milliseconds, most of them with the interpreter's lock held."""


@dataclass(slots=True, kw_only=True)
class StoreStatus:
    """What is in the store; `names` is None where the directory could not be listed."""

    names: set[str] | None = None
    pending: int = 0
    dead: int = 0
    bytes: int = 0
    oldest_ms: int | None = None
    corrupt_bytes: int = 0
    torn_tails: int = 0
    leader: bool = False
    known: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


class JournalConsumer:
    """One process's access to what all processes have written.

    Methods survive trouble with the disk: they log it, do what they can, and raise nothing. `lock` is held
    by every method; it is public for the sake of forks.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        dead_bytes: int,
        log: RateLimitedLog,
    ) -> None:
        # Reentrant: a signal handler may ask for the counts in the middle of a claim.
        self.lock = threading.RLock()
        self._directory = directory
        self._clock = clock
        self._monotonic = monotonic
        self._log = log
        self._acks = CommittedOffsets(directory / "acks.json", log)
        self._diary = InFlightLog(directory / "sending")
        self._withdrawals = OptOutTombstones(directory / "withdrawn")
        self._prune_again_s = float("-inf")
        self._damage = CorruptionStats(log)
        self._dead_letters = DeadLetters(directory / "dead", max_bytes=dead_bytes, clock=clock, log=log)
        self._leadership = LeaderLock(directory / "leader.lock", monotonic=monotonic, log=log)
        self._index: SegmentIndex | None = None
        self._term = 0
        self._look_again_s = float("-inf")
        self._census = BacklogEstimator(directory)
        self._surveyed = StoreStatus()

    def claim(
        self, endpoint: Endpoint, max_records: int, max_bytes: int, *, has_new_records: bool
    ) -> Claim | None:
        """Claim the oldest unclaimed records; with `has_new_records` the directory is always looked at."""
        with self.lock:
            index = self._lead()
            if index is None:
                return None
            now_s = self._monotonic()
            if has_new_records or now_s >= self._look_again_s:
                self._look_again_s = now_s + REFRESH_EVERY_S
                index.refresh()
                index.scan(SCAN_BYTES)
                self._collect_garbage(index)
            else:
                index.scan(SCAN_BYTES)
            bodies, positions = self._take(index, endpoint, max_records, max_bytes)
            if not bodies:
                return None
            diary = self._diary
            crash_counts = {}
            if diary.has_deaths:
                for at, (reader, offset) in enumerate(positions):
                    if number := diary.crashes(endpoint, reader.name, offset):
                        crash_counts[at] = number
            ambiguous: frozenset[int] = frozenset()
            if diary.has_doubts:
                ambiguous = frozenset(
                    at
                    for at, (reader, offset) in enumerate(positions)
                    if diary.in_doubt(endpoint, reader.name, offset)
                )
            return Claim(
                endpoint=endpoint,
                bodies=tuple(bodies),
                positions=tuple(positions),
                crash_counts=crash_counts,
                ambiguous=ambiguous,
            )

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """These have been delivered."""
        with self.lock:
            index = self._index
            if index is not None:
                index.settle(claim.endpoint, _positions(claim, indexes), Outcome.DELIVERED)
                self._settled(index)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """These are to be claimed again."""
        with self.lock:
            if self._index is not None:
                self._index.give_back(claim.endpoint, _positions(claim, indexes))

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Write these to the dead letters; where that fails they are released, not forgotten."""
        with self.lock:
            index = self._index
            if index is None:
                return
            positions = _positions(claim, reasons)
            held = set(index.held(claim.endpoint, positions))
            time_ms = int(self._clock() * 1000)
            letters = [
                DeadLetter(time_ms=time_ms, endpoint=claim.endpoint, reason=reasons[i], body=claim.bodies[i])
                for i, position in zip(reasons, positions, strict=True)
                if position in held
            ]
            try:
                self._dead_letters.add(letters)
            except OSError as error:
                index.give_back(claim.endpoint, positions)
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
            self._settled(index)

    def withdraw(self, people: Iterable[str]) -> None:
        """What was put until now of these people, given as digests, is not to be sent."""
        try:
            self._withdrawals.add(people, until_ms=int(self._clock() * 1000))
        except OSError as error:
            self._log(
                logging.ERROR,
                f"withdrawn {self._directory}",
                "What waits of a person who has opted out will be sent all the same: it could not be noted "
                "(%s). Mend %s.",
                error,
                self._directory / "withdrawn",
            )

    def revision(self) -> int:
        """Count how often something was withdrawn: what was claimed before should be given back."""
        with self.lock:
            if self._index is not None:
                self._heed_withdrawals()
            return self._withdrawals.revision

    def note_sending(self, claim: Claim, indexes: Iterable[int], *, once: bool = False) -> None:
        """A request is about to be made of these: write it down, should it end this process."""
        with self.lock:
            if self._index is not None:
                places = ((reader.name, offset) for reader, offset in _positions(claim, indexes))
                self._diary.begin(claim.endpoint, places, once=once)

    def note_sent(self) -> None:
        """The request has left."""
        with self.lock:
            if self._index is not None:
                self._diary.end()

    def note_settled(self) -> None:
        """What became of the request is noted."""
        with self.lock:
            if self._index is not None:
                self._diary.settled()

    def store_status(self) -> StoreStatus:
        """What all processes together have in the store, and how far each segment is dealt with."""
        with self.lock:
            store_status = self._survey_as_leader() if self._index is not None else self._survey_as_follower()
            if store_status.names is None:  # what was known last still holds, as far as anybody knows
                last = self._surveyed
                store_status = replace(
                    last, names=None, known=store_status.known or last.known, leader=store_status.leader
                )
            store_status.corrupt_bytes = self._damage.corrupt_bytes
            store_status.torn_tails = self._damage.torn_tails
            try:
                store_status.dead = self._dead_letters.count()
            except OSError as error:
                store_status.dead = self._surveyed.dead
                self._trouble(error)
            self._surveyed = store_status
            return store_status

    def close(self) -> None:
        """Save how far delivery has come, forget all claims, and let another process lead."""
        with self.lock:
            index, self._index = self._index, None
            if index is not None:
                self._collect_garbage(index, at_once=True)
            self._leadership.drop()
            self._look_again_s = float("-inf")

    def renew_leadership(self) -> None:
        """Show that this process is well, if it leads; for when nothing can be claimed for long."""
        with self.lock:
            self._leadership.renew()

    def close_inherited(self) -> None:
        """In a forked child: the lead and all claims are the parent's."""
        self._index = None
        self._leadership.close_inherited()

    # --- inside --------------------------------------------------------------------------------

    def _lead(self) -> SegmentIndex | None:
        if not self._leadership.claim():
            self._index = None
            return None
        if self._index is None or self._term != self._leadership.term:
            try:
                distrust(self._directory)
            except OSError as error:
                message = "Nothing of %s is delivered: %s. %s"
                args = (self._directory, error, fix_for(error))
                self._log(logging.ERROR, f"distrust {self._directory}", message, *args)
                self._leadership.drop()
                return None
            # What an earlier index knows may be out of date: another process may have led in between.
            if not self._acks.load():
                return None  # or all that was delivered would be once more
            self._term = self._leadership.term
            self._diary.load()
            self._index = SegmentIndex(self._directory, acks=self._acks, damage=self._damage, log=self._log)
            self._look_again_s = float("-inf")
        return self._index

    def _take(
        self, index: SegmentIndex, endpoint: Endpoint, max_records: int, max_bytes: int
    ) -> tuple[list[bytes], list[Position]]:
        """Take from the index, but for what was withdrawn: that is settled, and leaves nothing behind."""
        self._heed_withdrawals()
        while True:
            bodies, positions = index.take(endpoint, max_records, max_bytes)
            if not bodies or not self._withdrawals:
                return bodies, positions
            gone = {
                position
                for body, position in zip(bodies, positions, strict=True)
                if self._withdrawals.covers(body, partial(read_time_ms, position[0].path, position[1]))
            }
            if not gone:
                return bodies, positions
            index.settle(endpoint, gone, Outcome.DEAD)
            self._settled(index)
            kept = [pair for pair in zip(bodies, positions, strict=True) if pair[1] not in gone]
            if kept:
                return [body for body, _ in kept], [position for _, position in kept]

    def _heed_withdrawals(self) -> None:
        try:
            if not self._withdrawals.refresh():
                return
            if not self._dead_letters.may_have(self._withdrawals.newly_added):
                return
            letters = [
                letter.number
                for letter in self._dead_letters.entries()
                if self._withdrawals.covers(letter.body, partial(getattr, letter, "time_ms"))
            ]
            if letters:
                for _ in self._dead_letters.take(frozenset(letters)):
                    pass
        except OSError as error:
            self._log(
                logging.ERROR,
                f"withdraw {self._directory}",
                "%s cannot be looked at (%s): records of people who have opted out may be sent. Mend it.",
                self._directory / "withdrawn",
                error,
            )

    def _settled(self, index: SegmentIndex) -> None:
        self._acks.save()
        self._collect_garbage(index)

    def _collect_garbage(self, index: SegmentIndex, *, at_once: bool = False) -> None:
        now_s = float("inf") if at_once else self._monotonic()
        now_ms = int(self._clock() * 1000)
        index.tidy(now_s=now_s, now_ms=now_ms)
        if self._withdrawals and now_s >= self._prune_again_s:
            self._prune_again_s = self._monotonic() + PRUNE_EVERY_S
            oldest_ms = index.oldest_ms()
            before_ms = now_ms if oldest_ms is None else min(oldest_ms, now_ms)
            self._withdrawals.prune(before_ms - PRUNE_EVERY_S * 1000)

    def _survey_as_leader(self) -> StoreStatus:
        index = cast("SegmentIndex", self._index)
        listed = index.refresh()
        index.scan(SCAN_BYTES)
        return StoreStatus(
            names=index.names() if listed else None,
            pending=index.pending(),
            bytes=index.size_bytes(),
            oldest_ms=index.oldest_ms(),
            leader=True,
            known=self._acks.figures() | index.figures(),
        )

    def _survey_as_follower(self) -> StoreStatus:
        try:
            sizes, _ = list_segments(self._directory)
        except OSError as error:
            self._trouble(error)
            return StoreStatus()
        # After the list: of a segment that is missing there, the leader has written the last figures before.
        self._acks.load()
        self._census.take(sizes, self._acks.segments)
        return StoreStatus(
            names=set(sizes),
            pending=self._census.pending,
            bytes=sum(sizes.values()),
            oldest_ms=self._census.oldest_ms,
            known=self._acks.figures(),
        )

    def _trouble(self, error: OSError) -> None:
        message = "%s cannot be looked at (%s): its figures are those of before. %s"
        args = (self._directory, error, fix_for(error))
        self._log(logging.WARNING, f"survey {self._directory}", message, *args)


def _positions(claim: Claim, indexes: Iterable[int]) -> list[Position]:
    return [cast("Position", claim.positions[index]) for index in indexes]
