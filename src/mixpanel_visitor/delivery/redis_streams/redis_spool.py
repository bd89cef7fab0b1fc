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
"""On all machines: Mixpanel advises 10 to 20 connections for a project, and each sender has one."""

MAX_IN_FLIGHT_BYTES = 64 * 2**20
"""Bodies of one endpoint in memory; at this size no more entries are claimed."""

_FIRST_ENTRIES = 4
"""Enough for a batch where a journal has forwarded them; smaller ones are read in larger and larger steps."""

_READ_ENTRIES = 100
_ORDERED: frozenset[Endpoint] = frozenset({"engage", "groups"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewEntry:
    """An entry to be added; this process has put `own_records` of its records."""

    endpoint: Endpoint
    stream: str
    fields: Mapping[bytes, bytes]
    own_records: int


class RedisSpool(BoundedSpool, OptOutSpool, OptOutHistorySpool, FlagSharingSpool):
    """A `Spool` in Redis Streams, shared by all machines that name the same address and project.

    `max_bytes` bounds the compressed bytes that may wait in it. Its counts of written, delivered and pending
    records are of those that were put through this object; the deliveries of other workers are known a second
    late. Connects at its first use. Raises MissingExtraError without the extra `redis`.
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
        self._reset()
        fork.watch(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # for what is in flight
        self._stats = RedisSpoolStats(self._max_bytes, clock=self._clock, monotonic=self._monotonic)
        # One for all events of this process, so that they stay in order; many processes use all partitions.
        self._partition = secrets.randbelow(self.address.partitions)
        self._last_claim_id = 0
        self._reset_consumer()

    def _reset_consumer(self) -> None:
        """Become a new consumer, with nothing in flight."""
        consumer = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._streams = Streams(self._connect, self.address, project=self._project, consumer=consumer)
        self._in_flight = {endpoint: InFlight() for endpoint in ENDPOINTS}
        self._leased: set[str] = set()
        self._incomplete_takeovers: frozenset[str] = frozenset()
        self._last_takeover_s: dict[Endpoint, float] = {}
        self._tombstones = RedisTombstones(self._streams, self._monotonic)
        self._dead_letters = RedisDeadLetters(self._streams, self._clock)
        self._flags = RedisFlags(self._streams)
        self._heartbeat = Heartbeat(self, every_s=min(LEASE_S, self.address.idle_s) / 3)

    # --- put ------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records`, or none and raise SpoolError; after a time-out it may be either.

        Each endpoint and partition has an entry, or several. All are added in one step, except in a cluster:
        there each partition is one step, and to repeat a failed `put` stores twice what it had stored.
        """
        self._put(records, None, "")

    def forward(self, records: Sequence[Record], writers: Sequence[str], own_writer: str) -> None:
        """Store the records of a journal, which names the writer of each; `own_writer` is this process.

        Each writer's records have entries of their own, so that dead letters are counted for their writer.
        """
        self._put(records, writers, own_writer)

    def _put(self, records: Sequence[Record], writers: Sequence[str] | None, own_writer: str) -> None:
        if not records:
            return
        if self._pid != os.getpid():
            self._reset()
        self._stats.check_space(self._streams, sum(len(record.body) for record in records))
        time_ms = int(self._clock() * 1000)
        steps: dict[int, list[_NewEntry]] = {}
        for (endpoint, partition, writer), bodies in codec.by_partition(
            records, self.address.partitions, self._partition, writers
        ).items():
            stream = self._streams.key(endpoint, partition)
            is_own = writer == own_writer
            step = steps.setdefault(partition if self.address.is_cluster else 0, [])
            step += [
                _NewEntry(
                    endpoint=endpoint,
                    stream=stream,
                    fields=codec.encode(group, time_ms, writer="" if is_own else writer),
                    own_records=len(group) if is_own else 0,
                )
                for group in codec.split(bodies)
            ]
        for step in steps.values():
            self._add(step, forwarded=writers is not None)

    def _add(self, entries: Sequence[_NewEntry], *, forwarded: bool) -> None:
        added = self._streams.add([(entry.stream, entry.fields) for entry in entries])
        for entry, (entry_id, is_new_stream) in zip(entries, added, strict=True):
            if is_new_stream:
                claimed = self._entry_ids(self._in_flight[entry.endpoint], entry.stream)
                self._stats.note_flushed(entry.stream, claimed, before=entry_id)
            size = len(entry.fields[codec.BODIES])
            self._stats.put(entry.stream, entry_id, entry.own_records, size, forwarded=forwarded)

    def fill(self) -> float:
        """Return how much of the space is used, from 0.0 to 1.0, as of the last `put`."""
        return self._stats.fill()

    # --- claim and settle -----------------------------------------------------------------------

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Claim the oldest unclaimed records of an endpoint."""
        if self._pid != os.getpid():
            self._reset()  # a fork that Python has not seen, such as uWSGI's
        with self._lock:
            in_flight = self._in_flight[endpoint]
            self._tombstones.refresh()
            if self._allow(0) < 0:
                self._release_all()  # for other senders
                return None
            self._fetch(endpoint, in_flight, max_records)
            # For profiles Mixpanel documents no rate.
            if len(in_flight) and endpoint == "import":
                max_records = self._allow(min(max_records, len(in_flight)))
            self._last_claim_id += 1
            claim, withdrawn = in_flight.take(
                self._last_claim_id, endpoint, (max_records, max_bytes), is_withdrawn=self._tombstones.covers
            )
            if withdrawn:
                self._settle(withdrawn, dead=True)
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
                is_leased, is_new = self._streams.lease(stream)
                if not is_leased:
                    self._leased.discard(stream)
                    continue
                self._leased.add(stream)
                # The last owner has died: newer records must not overtake those that it had in flight.
                may_inherit = is_new or stream in self._incomplete_takeovers
                if may_inherit and self._take_over(endpoint, in_flight, stream, ordered=True):
                    continue
            elif self._takeover_is_due(endpoint):
                self._take_over(endpoint, in_flight, stream, ordered=False)
            count = _FIRST_ENTRIES
            while len(in_flight) < max_records and in_flight.size < MAX_IN_FLIGHT_BYTES:
                claimed = self._streams.read(stream, count)
                self._add_claimed(endpoint, in_flight, claimed)
                if len(claimed) < count:
                    break
                count = min(2 * count, _READ_ENTRIES)
        if self._takeover_is_due(endpoint):
            self._last_takeover_s[endpoint] = self._monotonic()

    def _take_over(self, endpoint: Endpoint, in_flight: InFlight, stream: str, *, ordered: bool) -> bool:
        """Claim entries of silent consumers; return whether some remain that nothing may overtake."""
        holds_suspects = any(is_suspect(entry.crashes) for entry in list(in_flight.entries.values()))
        claimed, some_remain = self._streams.take_over(
            stream,
            self._entry_ids(in_flight, stream),
            idle_s=LEASE_S if ordered else None,
            holds_suspects=holds_suspects,
            ordered=ordered,
        )
        incomplete = self._incomplete_takeovers
        self._incomplete_takeovers = incomplete | {stream} if some_remain else incomplete - {stream}
        self._add_claimed(endpoint, in_flight, claimed)
        return ordered and some_remain

    def _takeover_is_due(self, endpoint: Endpoint) -> bool:
        last_s = self._last_takeover_s.get(endpoint)
        return last_s is None or self._monotonic() - last_s >= self.address.idle_s / 10

    def _entry_ids(self, in_flight: InFlight, stream: str) -> set[bytes]:
        # A copy in one step: `put` runs in other threads than `claim`.
        return {entry_id for name, entry_id in list(in_flight.entries) if name == stream}

    def _add_claimed(self, endpoint: Endpoint, in_flight: InFlight, claimed: Sequence[ClaimedEntry]) -> None:
        entries: list[Entry] = []
        unreadable: list[tuple[ClaimedEntry, str]] = []
        size = in_flight.size
        for index, raw in enumerate(claimed):
            if entries and size > MAX_IN_FLIGHT_BYTES:
                self._streams.release(raw.stream, [later.entry_id for later in claimed[index:]])
                break
            if raw.crashes > CRASH_LIMIT:  # one more than those of which each record was sent alone
                unreadable.append((raw, f"poison: the process that takes it has died {raw.crashes} times"))
                continue
            try:
                bundle = codec.decode(raw.fields)
            except codec.UnreadableError as error:
                unreadable.append((raw, str(error)))
                continue
            size += bundle.size
            entries.append(
                Entry(
                    endpoint=endpoint,
                    stream=raw.stream,
                    entry_id=raw.entry_id,
                    bundle=bundle,
                    size=len(raw.fields[codec.BODIES]),
                    crashes=raw.crashes,
                    from_dead=raw.from_dead,
                    open=set(range(len(bundle.bodies))) - raw.settled,
                )
            )
        # First, so that they are in flight whatever fails below.
        in_flight.add(entries)
        for raw, reason in unreadable:
            self._dead_letters.write_unreadable(endpoint, raw, reason)
            self._streams.settle(raw.stream, [(raw.entry_id, 0, 0)])
        self._delete([entry for entry in entries if not entry.open])

    def _with_ambiguous(self, claim: Claim) -> Claim:
        ambiguous = [
            claim_index
            for claim_index, (_, entry, index) in enumerate(cast("Sequence[Position]", claim.positions))
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
            for claim_index, reason in reasons.items():
                for position in still_claimed(claim, [claim_index]):
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
        # Counted once Redis has it: if that fails, they are settled again.
        complete = [each for each in by_entry.values() if len(each[0].open) == len(each[1])]
        self._delete([entry for entry, _ in complete])
        for entry, indexes in complete:
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
        for stream, settled in by_stream.items():
            self._streams.settle(
                stream, [(entry.entry_id, len(entry.bundle.bodies), entry.size) for entry in settled]
            )
            for entry in settled:
                self._in_flight[entry.endpoint].forget(entry)

    # --- opt-outs -------------------------------------------------------------------------------

    def withdraw(self, people: Iterable[str]) -> None:
        """Withdraw the waiting records of these people, given by `subject_digest.digests`."""
        people = set(people)
        self._tombstones.add(people)
        self._dead_letters.withdraw(people)

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people, given as digests, has opted out since then, on any machine.

        Redis is asked each time, because the result has to be current.
        """
        return self._tombstones.opted_out_since(people, since_ms)

    def revision(self) -> int:
        """Return the count of withdrawals; those of other processes are known a second late."""
        return self._tombstones.revision()

    # --- feature flags --------------------------------------------------------------------------

    def leads(self) -> bool:
        """Return whether this process fetches the definitions of feature flags for all others."""
        return self._flags.leads()

    def share_flags(self, document: bytes) -> None:
        """Replace the definitions that all processes share."""
        self._flags.write(document)

    def shared_flags(self) -> bytes | None:
        """Return these definitions where they have changed since the last call."""
        return self._flags.read_if_changed()

    # --- counts ---------------------------------------------------------------------------------

    def counts(self, journal: SpoolCounts | None = None, writer: str = "") -> SpoolCounts:
        """Return current counts; those of the store are a second old, or older while Redis is unreachable.

        With the counts of the `journal` whose records are forwarded, those of both as one spool: records that
        the journal has delivered wait in Redis. `writer` names this process in the journal.
        """
        if journal is not None:
            self._stats.note_forwarded(journal.delivered)
        entry_ids = {entry_id for queue in self._in_flight.values() for _, entry_id in list(queue.entries)}
        with contextlib.suppress(SpoolUnavailableError):
            self._stats.refresh(self._streams, entry_ids, writer)
        return self._stats.counts(SpoolCounts() if journal is None else journal)

    @property
    def dead_letters(self) -> RedisDeadLetters:
        """The dead letters of the project."""
        return self._dead_letters

    def preflight(self) -> list[ConfigProblem]:
        """Return the settings of this Redis that would lose records; raise SpoolUnavailableError."""
        problems: dict[str, ConfigProblem] = {}
        for info in self._streams.infos():
            problems |= {each.problem: each for each in judge(info, wait=self.address.wait)}
        return list(problems.values())

    # --- life cycle -----------------------------------------------------------------------------

    def close(self) -> None:
        """Release what is in flight and close the connections; raise nothing: others take over in time."""
        with self._lock:
            self._heartbeat.stop()
            try:
                self._release_all()
                self._streams.end_sending()
            except SpoolUnavailableError as error:
                logger.info("What was in hand is taken over by others in a while: %s", error)
            self._streams.close()
            self._reset_consumer()

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
        """Report to Redis that this consumer is alive, and drop the entries that others have taken over."""
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
        """Do nothing: the child becomes a new consumer."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Become a new consumer: the entries in flight are the parent's."""
        self._reset()
