"""RedisSpool: the seven methods of a spool, over Redis Streams."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from mixpanel_visitor.delivery.sending.crash_isolation import CRASH_LIMIT
from mixpanel_visitor.delivery.sending.idempotency import is_repeatable
from mixpanel_visitor.delivery.spool import (
    BoundedSpool,
    FlagSharingSpool,
    OptOutHistorySpool,
    OptOutSpool,
    SpoolCounts,
)
from mixpanel_visitor.errors import SettingsError, SpoolUnavailableError
from mixpanel_visitor.observability.rate_limited_log import logger
from mixpanel_visitor.process import fork
from mixpanel_visitor.records import ENDPOINTS
from mixpanel_visitor.settings import redis_address

from . import client, codec
from .config_check import judge
from .dead_letters import RedisDeadLetters
from .heartbeat import Heartbeat
from .in_flight import Entry, InFlight, still_claimed
from .shared_flags import RedisFlags
from .stats import RedisSpoolStats
from .streams import LEASE_S, Streams
from .takeover import is_suspect
from .tombstones import RedisTombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from mixpanel_visitor.delivery.spool import Claim, DeadReason
    from mixpanel_visitor.records import Endpoint, Record

    from .config_check import ConfigProblem
    from .in_flight import Position
    from .streams import ClaimedEntry

MAX_BYTES = 1 << 30
RATE_PER_S = 30_000
"""What Mixpanel admits for a project (its documentation of /import)."""

MAX_SENDERS = 16
"""Of all machines: Mixpanel advises 10 to 20 connections for a project, and each sender has one."""

MAX_IN_FLIGHT_BYTES = 64 * 2**20
"""With so much of an endpoint in memory nothing more of it is taken."""

_FIRST_ENTRIES = 4
"""Of a journal's bundles that is enough for a batch; small ones are read in larger and larger steps."""

_READ_ENTRIES = 100
_ORDERED: frozenset[Endpoint] = frozenset({"engage", "groups"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewEntry:
    """An entry to be added; `own` of its records count as put by this process."""

    endpoint: Endpoint
    stream: str
    fields: Mapping[bytes, bytes]
    own: int


class RedisSpool(BoundedSpool, OptOutSpool, OptOutHistorySpool, FlagSharingSpool):
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
        self._lock = threading.RLock()  # of what is in flight
        self._stats = RedisSpoolStats(self._max_bytes, clock=self._clock, monotonic=self._monotonic)
        # One for all events of this process: they stay in order. Many processes use all partitions.
        self._partition = secrets.randbelow(self.address.partitions)
        self._claims = 0
        self._reset_after_fork()

    def _reset_after_fork(self) -> None:
        """Be another consumer, with nothing in flight."""
        consumer = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._streams = Streams(self._connect, self.address, project=self._project, consumer=consumer)
        self._in_flight = {endpoint: InFlight() for endpoint in ENDPOINTS}
        self._leased: set[str] = set()
        self._not_taken_over: frozenset[str] = frozenset()
        self._last_takeover_s: dict[Endpoint, float] = {}
        self._tombstones = RedisTombstones(self._streams, self._monotonic)
        self._dead_letters = RedisDeadLetters(self._streams, self._clock)
        self._flags = RedisFlags(self._streams)
        self._heartbeat = Heartbeat(self, every_s=min(LEASE_S, self.address.idle_s) / 3)

    # --- put ------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records`, or none and raise SpoolError; without an answer in time it may be either.

        One entry for each endpoint and partition, several where it is much. All are added in one step, but in
        a cluster: there it is one step for each partition, and a second try delivers twice what the first one
        had stored.
        """
        self._put(records, None, "")

    def forward(self, records: Sequence[Record], writers: Sequence[str], own: str) -> None:
        """Do the same for a journal, which names the writer of each record; this process is the writer `own`.

        Records of each writer have entries of their own, so that it is known whose the dead letters are.
        """
        self._put(records, writers, own)

    def _put(self, records: Sequence[Record], writers: Sequence[str] | None, own: str) -> None:
        if not records:
            return
        if self._pid != os.getpid():
            self._begin()
        self._stats.check_space(self._streams, sum(len(record.body) for record in records))
        time_ms = int(self._clock() * 1000)
        steps: dict[int, list[_NewEntry]] = {}
        for (endpoint, partition, writer), bodies in codec.by_partition(
            records, self.address.partitions, self._partition, writers
        ).items():
            stream = self._streams.key(endpoint, partition)
            is_own = writer == own
            step = steps.setdefault(partition if self.address.is_cluster else 0, [])
            step += [
                _NewEntry(
                    endpoint=endpoint,
                    stream=stream,
                    fields=codec.encode(together, time_ms, writer="" if is_own else writer),
                    own=len(together) if is_own else 0,
                )
                for together in codec.split(bodies)
            ]
        for step in steps.values():
            self._add(step, forwarded=writers is not None)

    def _add(self, entries: Sequence[_NewEntry], *, forwarded: bool) -> None:
        added = self._streams.add([(entry.stream, entry.fields) for entry in entries])
        for entry, (entry_id, new) in zip(entries, added, strict=True):
            if new:
                claimed = self._ids(self._in_flight[entry.endpoint], entry.stream)
                self._stats.note_flushed(entry.stream, claimed, before=entry_id)
            size = len(entry.fields[codec.BODIES])
            self._stats.put(entry.stream, entry_id, entry.own, size, forwarded=forwarded)

    def fill(self) -> float:
        """Return how much of what may wait is used, by figures of the last `put`."""
        return self._stats.fill()

    # --- claim and settle -----------------------------------------------------------------------

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Take the oldest unclaimed records of an endpoint."""
        if self._pid != os.getpid():
            self._begin()  # a fork that Python has not seen, such as uWSGI's
        with self._lock:
            in_flight = self._in_flight[endpoint]
            self._tombstones.refresh()
            if self._allow(0) < 0:
                self._release_all()  # others may send it
                return None
            self._fetch(endpoint, in_flight, max_records)
            # Of profiles no rate is known.
            if len(in_flight) and endpoint == "import":
                max_records = self._allow(min(max_records, len(in_flight)))
            self._claims += 1
            claim, left_out = in_flight.take(
                self._claims, endpoint, (max_records, max_bytes), leave_out=self._tombstones.covers
            )
            if left_out:
                self._settle(left_out, dead=True)
                if claim is None:
                    return self.claim(endpoint, max_records, max_bytes)
            if claim is not None:
                self._heartbeat.start()
                return self._with_ambiguous(claim)
            return None

    def _allow(self, records: int) -> int:
        return self._streams.allow(records, per_second=self._rate_per_s, senders=MAX_SENDERS)

    def _fetch(self, endpoint: Endpoint, in_flight: InFlight, max_records: int) -> None:
        for stream in self._streams.keys(endpoint):
            if endpoint in _ORDERED:
                is_leased, new = self._streams.lease(stream)
                if not is_leased:
                    self._leased.discard(stream)
                    continue
                self._leased.add(stream)
                # The last owner is silent: what is newer must not overtake what that one has in flight.
                inherits = new or stream in self._not_taken_over
                if inherits and self._take_over(endpoint, in_flight, stream, ordered=True):
                    continue
            elif self._takeover_is_due(endpoint):
                self._take_over(endpoint, in_flight, stream, ordered=False)
            count = _FIRST_ENTRIES
            while len(in_flight) < max_records and in_flight.size < MAX_IN_FLIGHT_BYTES:
                taken = self._streams.read(stream, count)
                self._take_in(endpoint, in_flight, taken)
                if len(taken) < count:
                    break
                count = min(2 * count, _READ_ENTRIES)
        if self._takeover_is_due(endpoint):
            self._last_takeover_s[endpoint] = self._monotonic()

    def _take_over(self, endpoint: Endpoint, in_flight: InFlight, stream: str, *, ordered: bool) -> bool:
        """Take what silent consumers have; return whether something is left that none may overtake."""
        suspects = any(is_suspect(entry.crashes) for entry in list(in_flight.entries.values()))
        taken, is_left = self._streams.take_over(
            stream,
            self._ids(in_flight, stream),
            idle_s=LEASE_S if ordered else None,
            holds_suspects=suspects,
            ordered=ordered,
        )
        self._not_taken_over = self._not_taken_over | {stream} if is_left else self._not_taken_over - {stream}
        self._take_in(endpoint, in_flight, taken)
        return ordered and is_left

    def _takeover_is_due(self, endpoint: Endpoint) -> bool:
        last_s = self._last_takeover_s.get(endpoint)
        return last_s is None or self._monotonic() - last_s >= self.address.idle_s / 10

    def _ids(self, in_flight: InFlight, stream: str) -> set[bytes]:
        # A copy in one step: `put` asks in other threads than the one that claims.
        return {entry_id for name, entry_id in list(in_flight.entries) if name == stream}

    def _take_in(self, endpoint: Endpoint, in_flight: InFlight, taken: Sequence[ClaimedEntry]) -> None:
        entries: list[Entry] = []
        unreadable: list[tuple[ClaimedEntry, str]] = []
        size = in_flight.size
        for at, each in enumerate(taken):
            if entries and size > MAX_IN_FLIGHT_BYTES:
                self._streams.release(each.stream, [later.entry_id for later in taken[at:]])
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
        # First: whatever fails below, these are in flight.
        in_flight.add(entries)
        for each, reason in unreadable:
            self._dead_letters.write_unreadable(endpoint, each, reason)
            self._streams.settle(each.stream, [(each.entry_id, 0, 0)])
        self._delete([entry for entry in entries if not entry.open])

    def _with_ambiguous(self, claim: Claim) -> Claim:
        ambiguous = [
            at
            for at, (_, entry, index) in enumerate(cast("Sequence[Position]", claim.positions))
            if entry.from_dead and not is_repeatable(claim.endpoint, entry.bundle.bodies[index])
        ]
        return replace(claim, ambiguous=ambiguous) if ambiguous else claim

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Forget these records of the claim: they have been delivered."""
        with self._lock:
            self._settle(still_claimed(claim, indexes), dead=False)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Let the next claim of the endpoint return these first."""
        with self._lock:
            self._in_flight[claim.endpoint].release(still_claimed(claim, indexes))

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside in the dead letters, each with its reason."""
        with self._lock:
            for at, reason in reasons.items():
                for position in still_claimed(claim, [at]):
                    _, entry, index = position
                    self._dead_letters.write(claim.endpoint, entry.bundle.bodies[index], reason)
                    self._settle([position], dead=True)

    def _settle(self, positions: Sequence[Position], *, dead: bool) -> None:
        by_entry: dict[int, tuple[Entry, list[int]]] = {}
        for _, entry, index in positions:
            by_entry.setdefault(id(entry), (entry, []))[1].append(index)
        if dead:
            for entry, indexes in by_entry.values():
                self._streams.note_dead(entry.stream, entry.entry_id, entry.bundle.writer, len(indexes))
        # Noted here after Redis has it: what fails is settled again.
        done = [(entry, indexes) for entry, indexes in by_entry.values() if len(entry.open) == len(indexes)]
        self._delete([entry for entry, _ in done])
        for entry, indexes in done:
            self._stats.note_settled(entry.stream, entry.entry_id, len(indexes), entry.size, dead=dead)
        for entry, indexes in by_entry.values():
            unsettled = entry.open.difference(indexes)
            if unsettled:
                settled = set(range(len(entry.bundle.bodies))) - unsettled
                self._streams.note_settled(entry.stream, entry.entry_id, settled)
                self._stats.note_settled(entry.stream, entry.entry_id, len(indexes), 0, dead=dead)
                entry.open = unsettled
                for index in indexes:
                    entry.claims.pop(index, None)

    def _delete(self, entries: Sequence[Entry]) -> None:
        by_stream: dict[str, list[Entry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        for stream, ours in by_stream.items():
            self._streams.settle(
                stream, [(entry.entry_id, len(entry.bundle.bodies), entry.size) for entry in ours]
            )
            for entry in ours:
                self._in_flight[entry.endpoint].forget(entry)

    # --- opt-outs -------------------------------------------------------------------------------

    def withdraw(self, people: Iterable[str]) -> None:
        """Have nothing sent that was put until now of these people, given by `subject_digest.digests`."""
        people = set(people)
        self._tombstones.add(people)
        self._dead_letters.withdraw(people)

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people, given as digests, has opted out since then, on any machine.

        Redis is asked each time, because the answer has to be that of this moment.
        """
        return self._tombstones.opted_out_since(people, since_ms)

    def revision(self) -> int:
        """Return how often something was withdrawn; known a second late where another process did it."""
        return self._tombstones.revision()

    # --- feature flags --------------------------------------------------------------------------

    def leads(self) -> bool:
        """Return whether this process fetches the definitions of feature flags for all."""
        return self._flags.leads()

    def share_flags(self, document: bytes) -> None:
        """Replace the definitions that all processes share."""
        self._flags.write(document)

    def shared_flags(self) -> bytes | None:
        """Return these definitions where they have changed since the last call."""
        return self._flags.read_if_changed()

    # --- figures --------------------------------------------------------------------------------

    def counts(self, journal: SpoolCounts | None = None, writer: str = "") -> SpoolCounts:
        """Return current counts; those of the store are up to a second old, and older while Redis is away.

        With the counts of the `journal` whose records are forwarded, those of both as one spool: what the
        journal has delivered, Redis has still to deliver. `writer` stands for this process in the journal.
        """
        if journal is not None:
            self._stats.note_forwarded(journal.delivered)
        entry_ids = {entry_id for each in self._in_flight.values() for _, entry_id in list(each.entries)}
        with contextlib.suppress(SpoolUnavailableError):
            self._stats.refresh(self._streams, entry_ids, writer)
        return self._stats.counts(SpoolCounts() if journal is None else journal)

    @property
    def dead_letters(self) -> RedisDeadLetters:
        """The dead letters of the project."""
        return self._dead_letters

    def preflight(self) -> list[ConfigProblem]:
        """Return what in the settings of this Redis would lose records; raises SpoolUnavailableError."""
        problems: dict[str, ConfigProblem] = {}
        for info in self._streams.infos():
            problems |= {each.problem: each for each in judge(info, wait=self.address.wait)}
        return list(problems.values())

    # --- life -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Release what is in flight and close the connections; raises nothing: others take it in time."""
        with self._lock:
            self._heartbeat.stop()
            try:
                self._release_all()
                self._streams.end_sending()
            except SpoolUnavailableError as error:
                logger.info("What was in hand is taken over by others in a while: %s", error)
            self._streams.close()
            self._reset_after_fork()

    def _release_all(self) -> None:
        by_stream: dict[str, list[bytes]] = {}
        for in_flight in self._in_flight.values():
            for stream, entry_id in in_flight.entries:
                by_stream.setdefault(stream, []).append(entry_id)
        for stream, entry_ids in by_stream.items():
            self._streams.release(stream, entry_ids)
        for in_flight in self._in_flight.values():
            for entry in list(in_flight.entries.values()):
                in_flight.forget(entry)
        for stream in self._leased:
            self._streams.end_lease(stream)
        self._leased.clear()

    def send_heartbeat(self) -> None:
        """Report to Redis that this consumer is alive, and drop what others have taken over meanwhile."""
        with self._lock:
            for in_flight in self._in_flight.values():
                by_stream: dict[str, list[bytes]] = {}
                for stream, entry_id in in_flight.entries:
                    by_stream.setdefault(stream, []).append(entry_id)
                for stream, entry_ids in by_stream.items():
                    own = self._streams.keep(stream, entry_ids)
                    for entry_id in set(entry_ids) - own:
                        in_flight.forget(in_flight.entries[stream, entry_id])
            for stream in list(self._leased):
                is_leased, _ = self._streams.lease(stream)
                if not is_leased:
                    self._leased.discard(stream)

    def before_fork(self) -> None:
        """Do nothing: the child begins anew."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Be another consumer: what is in flight is the parent's."""
        self._begin()
