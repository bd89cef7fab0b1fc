"""RedisSpool: the seven methods of a spool, over Redis Streams."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mixpanel_visitor.delivery.sending.crash_isolation import CRASH_LIMIT
from mixpanel_visitor.delivery.sending.idempotency import is_repeatable
from mixpanel_visitor.delivery.spool import OptOutSpool
from mixpanel_visitor.errors import SettingsError, SpoolUnavailableError
from mixpanel_visitor.observability.rate_limited_log import logger
from mixpanel_visitor.process import fork
from mixpanel_visitor.records import ENDPOINTS, Record
from mixpanel_visitor.settings import redis_address

from . import client, codec
from .config_check import judge
from .dead_letters import RedisDeadLetters
from .heartbeat import Heartbeat
from .in_flight import Entry, InFlight, held
from .stats import RedisSpoolStats
from .streams import LEASE_S, Streams
from .takeover import is_suspect
from .tombstones import RedisTombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mixpanel_visitor.delivery.spool import Claim, DeadReason, SpoolCounts
    from mixpanel_visitor.records import Endpoint

    from .config_check import ConfigProblem
    from .in_flight import Position
    from .streams import ClaimedEntry

MAX_BYTES = 1 << 30
RATE_PER_S = 30_000
"""What Mixpanel admits for a project (its documentation of /import)."""

MAX_SENDERS = 16
"""Of all machines: Mixpanel advises 10 to 20 connections for a project, and each sender has one."""

MAX_HAND_BYTES = 64 * 2**20
"""With so much of an endpoint in memory nothing more of it is taken."""

_READ_ENTRIES = 100
_ORDERED: frozenset[Endpoint] = frozenset({"engage", "groups"})


class RedisSpool(OptOutSpool):
    """A `Spool` in Redis Streams, shared by all machines that name the same address and project.

    `max_bytes` bounds the compressed bytes that may wait in it. Counted as written, delivered and pending are
    the records that were put through this object; what was delivered elsewhere is found out by looking, a
    second late. Connects at its first use. Raises MissingExtraError without the extra `redis`.
    """

    def __init__(
        self,
        location: str,
        *,
        project: str = "",
        max_bytes: int | None = None,
        rate_per_s: int = RATE_PER_S,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            self.address = redis_address.parse(location)
        except ValueError as error:
            raise SettingsError([f"spool: {error}"]) from None
        self._connect = client.connector(self.address)
        self._project = project
        self._max_bytes = MAX_BYTES if max_bytes is None else max_bytes
        self._rate_per_s = rate_per_s
        self._clock = clock
        self._monotonic = monotonic
        self._begin()
        fork.watch(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # of what is in hand
        self._books = RedisSpoolStats(self._max_bytes, clock=self._clock, monotonic=self._monotonic)
        # One for all events of this process: they stay in order. Many processes use all partitions.
        self._partition = secrets.randbelow(self.address.partitions)
        self._claims = 0
        self._reset_after_fork()

    def _reset_after_fork(self) -> None:
        """Be another consumer, with empty hands."""
        consumer = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._streams = Streams(self._connect, self.address, project=self._project, consumer=consumer)
        self._hands = {endpoint: InFlight() for endpoint in ENDPOINTS}
        self._leased: set[str] = set()
        self._left: frozenset[str] = frozenset()
        self._tended_s: dict[Endpoint, float] = {}
        self._withdrawn = RedisTombstones(self._streams, self._monotonic)
        self._letters = RedisDeadLetters(self._streams, self._clock)
        self._heart = Heartbeat(self, every_s=min(LEASE_S, self.address.idle_s) / 3)

    # --- put ------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record], *, own: bool = True) -> None:
        """Store all of `records`, or raise SpoolError; without `own` they do not count as put here.

        One entry for each endpoint and partition, several where it is much. That is not one step: where the
        second of two entries fails, the first one is there, and a second try delivers it twice.
        """
        if not records:
            return
        if self._pid != os.getpid():
            self._begin()
        placed = codec.placed(records, self.address.partitions, self._partition)
        self._books.check_space(self._streams, sum(len(record.body) for record in records))
        time_ms = int(self._clock() * 1000)
        for (endpoint, partition), bodies in placed.items():
            stream = self._streams.key(endpoint, partition)
            for together in codec.split(bodies):
                fields = codec.encode(together, time_ms)
                entry_id, new = self._streams.add(stream, fields)
                if new:
                    self._books.flushed(stream, self._ids(self._hands[endpoint], stream), before=entry_id)
                size = len(fields[codec.BODIES])
                self._books.put(stream, entry_id, len(together) if own else 0, size)

    # --- claim and settle -----------------------------------------------------------------------

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Take the oldest unclaimed records of a lane."""
        if self._pid != os.getpid():
            self._begin()  # a fork that Python was not told of, such as uWSGI's
        with self._lock:
            hand = self._hands[endpoint]
            self._withdrawn.learn()
            if self._allowed(0) < 0:
                self._give_all_back()  # others may send it
                return None
            self._fill(endpoint, hand, max_records)
            # Of profiles no rate is known.
            if len(hand) and endpoint == "import":
                max_records = self._allowed(min(max_records, len(hand)))
            self._claims += 1
            claim, left_out = hand.take(
                self._claims, endpoint, (max_records, max_bytes), leave_out=self._withdrawn.covers
            )
            if left_out:
                self._settle(left_out, dead=True)
                if claim is None:
                    return self.claim(endpoint, max_records, max_bytes)
            if claim is not None:
                self._heart.start()
                return self._with_doubts(claim)
            return None

    def _allowed(self, records: int) -> int:
        return self._streams.allow(records, per_second=self._rate_per_s, senders=MAX_SENDERS)

    def _fill(self, endpoint: Endpoint, hand: InFlight, max_records: int) -> None:
        for stream in self._streams.keys(endpoint):
            if endpoint in _ORDERED:
                mine, new = self._streams.lease(stream)
                if not mine:
                    self._leased.discard(stream)
                    continue
                self._leased.add(stream)
                # Whoever had it before is silent: what is newer must not overtake what he has in hand.
                if (new or stream in self._left) and self._take_over(endpoint, hand, stream, ordered=True):
                    continue
            elif self._is_time_to_tend(endpoint):
                self._take_over(endpoint, hand, stream, ordered=False)
            while len(hand) < max_records and hand.size < MAX_HAND_BYTES:
                taken = self._streams.read(stream, _READ_ENTRIES)
                self._take_in(endpoint, hand, taken)
                if len(taken) < _READ_ENTRIES:
                    break
        if self._is_time_to_tend(endpoint):
            self._tended_s[endpoint] = self._monotonic()

    def _take_over(self, endpoint: Endpoint, hand: InFlight, stream: str, *, ordered: bool) -> bool:
        """Take what silent consumers have; returns whether something is left that none may overtake."""
        suspects = any(is_suspect(entry.crashes) for entry in list(hand.entries.values()))
        taken, left = self._streams.take_over(
            stream,
            self._ids(hand, stream),
            idle_s=LEASE_S if ordered else None,
            holds_suspects=suspects,
            ordered=ordered,
        )
        self._left = self._left | {stream} if left else self._left - {stream}
        self._take_in(endpoint, hand, taken)
        return ordered and left

    def _is_time_to_tend(self, endpoint: Endpoint) -> bool:
        last_s = self._tended_s.get(endpoint)
        return last_s is None or self._monotonic() - last_s >= self.address.idle_s / 10

    def _ids(self, hand: InFlight, stream: str) -> set[bytes]:
        # A copy in one step: `put` asks in other threads than the one that claims.
        return {entry_id for name, entry_id in list(hand.entries) if name == stream}

    def _take_in(self, endpoint: Endpoint, hand: InFlight, taken: Sequence[ClaimedEntry]) -> None:
        entries: list[Entry] = []
        unreadable: list[tuple[ClaimedEntry, str]] = []
        size = hand.size
        for at, each in enumerate(taken):
            if entries and size > MAX_HAND_BYTES:
                self._streams.give_back(each.stream, [later.entry_id for later in taken[at:]])
                break
            if each.crashes > CRASH_LIMIT:  # once more than what is read and then set aside, record by record
                unreadable.append((each, f"poison: the process that takes it has died {each.crashes} times"))
                continue
            try:
                bundle = codec.decode(each.fields)
            except codec.UnreadableError as error:
                unreadable.append((each, str(error)))
                continue
            size += bundle.size
            entries.append(
                Entry(
                    endpoint=endpoint,
                    stream=each.stream,
                    entry_id=each.entry_id,
                    bundle=bundle,
                    size=len(each.fields[codec.BODIES]),
                    crashes=each.crashes,
                    from_dead=each.from_dead,
                    open=set(range(len(bundle.bodies))) - each.settled,
                )
            )
        # First: whatever fails below, these are in hand.
        hand.add(entries)
        for each, why in unreadable:
            self._letters.write_unreadable(endpoint, each, why)
            self._streams.settle(each.stream, [(each.entry_id, 0, 0)])
        self._delete([entry for entry in entries if not entry.open])

    def _with_doubts(self, claim: Claim) -> Claim:
        ambiguous = [
            at
            for at, (_, entry, index) in enumerate(cast("Sequence[Position]", claim.positions))
            if entry.from_dead and not is_repeatable(claim.endpoint, entry.bundle.bodies[index])
        ]
        return replace(claim, ambiguous=ambiguous) if ambiguous else claim

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """These records of the claim have been delivered: forget them."""
        with self._lock:
            self._settle(held(claim, indexes), dead=False)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """The next claim of the lane returns these first."""
        with self._lock:
            self._hands[claim.endpoint].give_back(held(claim, indexes))

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside, each with its reason."""
        with self._lock:
            for at, reason in reasons.items():
                for position in held(claim, [at]):
                    _, entry, index = position
                    self._letters.write(claim.endpoint, entry.bundle.bodies[index], reason)
                    self._settle([position], dead=True)

    def _settle(self, positions: Sequence[Position], *, dead: bool) -> None:
        by_entry: dict[int, tuple[Entry, list[int]]] = {}
        for _, entry, index in positions:
            by_entry.setdefault(id(entry), (entry, []))[1].append(index)
        if dead:
            for entry, indexes in by_entry.values():
                self._streams.note_dead(entry.stream, entry.entry_id, len(indexes))
        # Noted here after Redis has it: what fails is settled again.
        done = [(entry, indexes) for entry, indexes in by_entry.values() if len(entry.open) == len(indexes)]
        self._delete([entry for entry, _ in done])
        for entry, indexes in done:
            self._books.settled(entry.stream, entry.entry_id, len(indexes), entry.size, dead=dead)
        for entry, indexes in by_entry.values():
            left = entry.open.difference(indexes)
            if left:
                settled = set(range(len(entry.bundle.bodies))) - left
                self._streams.note_settled(entry.stream, entry.entry_id, settled)
                self._books.settled(entry.stream, entry.entry_id, len(indexes), 0, dead=dead)
                entry.open = left
                for index in indexes:
                    entry.claims.pop(index, None)

    def _delete(self, entries: Sequence[Entry]) -> None:
        by_stream: dict[str, list[Entry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        for stream, ours in by_stream.items():
            told = [(entry.entry_id, len(entry.bundle.bodies), entry.size) for entry in ours]
            self._streams.settle(stream, told)
            for entry in ours:
                self._hands[entry.endpoint].forget(entry)

    # --- opt-outs -------------------------------------------------------------------------------

    def withdraw(self, people: Iterable[str]) -> None:
        """What was put until now of these people, by their digests (`subject_digest.py`), is not sent."""
        people = set(people)
        self._withdrawn.add(people)
        self._letters.withdraw(people)

    def revision(self) -> int:
        """Count how often something was withdrawn; known a second late where another process did it."""
        return self._withdrawn.revision()

    # --- figures --------------------------------------------------------------------------------

    def counts(self, *, forwarded: int = 0) -> SpoolCounts:
        """The figures of now; those of the store are of a second ago at most, and old while Redis is away.

        So many records of this process, `forwarded`, were put here by a journal: they count as put here.
        """
        self._books.forwarded(forwarded)
        in_hand = {entry_id for hand in self._hands.values() for _, entry_id in list(hand.entries)}
        with contextlib.suppress(SpoolUnavailableError):
            self._books.look(self._streams, in_hand)
        return self._books.counts()

    @property
    def letters(self) -> RedisDeadLetters:
        """What was set aside."""
        return self._letters

    def preflight(self) -> list[ConfigProblem]:
        """What in the settings of this Redis would lose records; raises SpoolUnavailableError."""
        found: dict[str, ConfigProblem] = {}
        for info in self._streams.infos():
            found |= {each.problem: each for each in judge(info, wait=self.address.wait)}
        return list(found.values())

    # --- life -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Release what is in flight and close the connections; raises nothing: others take it in time."""
        with self._lock:
            self._heart.stop()
            try:
                self._give_all_back()
                self._streams.end_sending()
            except SpoolUnavailableError as error:
                logger.info("What was in hand is taken over by others in a while: %s", error)
            self._streams.close()
            self._reset_after_fork()

    def _give_all_back(self) -> None:
        by_stream: dict[str, list[bytes]] = {}
        for hand in self._hands.values():
            for stream, entry_id in hand.entries:
                by_stream.setdefault(stream, []).append(entry_id)
        for stream, entry_ids in by_stream.items():
            self._streams.give_back(stream, entry_ids)
        for hand in self._hands.values():
            for entry in list(hand.entries.values()):
                hand.forget(entry)
        for stream in self._leased:
            self._streams.end_lease(stream)
        self._leased.clear()

    def beat(self) -> None:
        """Say that this consumer is alive; what others have taken over meanwhile is let go of."""
        with self._lock:
            for hand in self._hands.values():
                by_stream: dict[str, list[bytes]] = {}
                for stream, entry_id in hand.entries:
                    by_stream.setdefault(stream, []).append(entry_id)
                for stream, entry_ids in by_stream.items():
                    own = self._streams.keep(stream, entry_ids)
                    for entry_id in set(entry_ids) - own:
                        hand.forget(hand.entries[stream, entry_id])
            for stream in list(self._leased):
                mine, _ = self._streams.lease(stream)
                if not mine:
                    self._leased.discard(stream)

    def before_fork(self) -> None:
        """Nothing to wait for: the child begins anew."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Be another consumer: what is in hand is the parent's."""
        self._begin()
