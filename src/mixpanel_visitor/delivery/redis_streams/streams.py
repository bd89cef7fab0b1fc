"""Streams: the commands to Redis; one stream for each endpoint and partition, one consumer group for all.

Keys of one partition share a hash tag, so that each script and transaction stays in one slot of a cluster:

- `PREFIX:{PROJECT-P}:import` (engage, groups): the stream, an entry for each bundle;
- `...:sizes`: how many records and bytes of bodies are in it; `...:settled`: the settled records of entries
  that have unsettled ones too; `...:dead`: how many records of an entry, or of a writer, are dead letters;
  `...:lease`: the consumer that may read a stream in which the order counts.

Entries are deleted when they are settled, and only then: a MAXLEN would remove unread ones. An entry that is
released belongs to the consumer `returned`, from which every consumer may claim it at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.records import ENDPOINTS

from . import codec, replies, scripts
from .client import unavailable
from .takeover import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from mixpanel_visitor.records import Endpoint
    from mixpanel_visitor.settings.redis_address import RedisAddress

GROUP = "senders"
RETURNED = "returned"
LEASE_S = 30.0
MAX_TAKEOVER = 200
MAX_SETTLED = 500
"""In one call: while a script runs, Redis does nothing else."""

WAIT_MS = 200
DEAD_KNOWN_S = 86_400
SENDER_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedEntry:
    """An entry that this consumer owns now; `crashes` is how many consumers have died with it."""

    stream: str
    entry_id: bytes
    fields: Mapping[bytes, bytes]
    settled: frozenset[int] = frozenset()
    crashes: int = 0
    from_dead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is in all streams, and the time of the oldest entry of each that is not empty."""

    records: int
    stored_bytes: int
    oldest_times_ms: Mapping[str, bytes]


class Streams:
    """The streams of one project, for one consumer; every call may raise SpoolUnavailableError."""

    def __init__(
        self, connect: Callable[[], Any], address: RedisAddress, *, project: str, consumer: str
    ) -> None:
        self._connect = connect
        self._client: Any = None
        self._root = f"{address.prefix}:{{{project or 'all'}"
        self._idle_ms = int(address.idle_s * 1000)
        self._replicas = address.wait
        self.partitions = address.partitions
        self.consumer = consumer
        self.dead_key = f"{self._root}}}:dead"
        self.withdrawn_key = f"{self._root}}}:withdrawn"
        self.flags_key = f"{self._root}}}:flags"
        self.flags_lease_key = f"{self._root}}}:flags-lease"

    def key(self, endpoint: Endpoint, partition: int) -> str:
        """Return the name of a stream."""
        return f"{self._root}-{partition}}}:{endpoint}"

    def keys(self, endpoint: Endpoint) -> list[str]:
        """Return the names of all streams of an endpoint."""
        return [self.key(endpoint, partition) for partition in range(self.partitions)]

    def do(self, call: Callable[[Any], Any]) -> Any:
        """Return what `call` returns for the client; raise our error for one of the library's."""
        try:
            if self._client is None:
                self._client = self._connect()
            return call(self._client)
        except Exception as error:
            spool_error = unavailable(error)
            if spool_error is None:
                raise
            raise spool_error from error

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # --- writing --------------------------------------------------------------------------------

    def add(self, entries: Sequence[tuple[str, Mapping[bytes, bytes]]]) -> list[tuple[bytes, bool]]:
        """Add entries in one step; return the ID of each, and whether its stream is new.

        In a cluster all must be of one partition.
        """
        keys = [key for stream, _ in entries for key in (stream, f"{stream}:sizes")]
        names = (codec.COUNT, codec.BODIES, codec.WRITER)
        values = [fields[name] for _, fields in entries for name in names]
        time_ms = entries[0][1][codec.TIME]
        arguments = (scripts.ADD, len(keys), *keys, GROUP, time_ms, *values)
        if not self._replicas:
            reply = self.do(lambda client: client.eval(*arguments))
            return [(entry_id, bool(new)) for entry_id, new in reply]

        def call(client: Any) -> tuple[Any, int]:
            # On one connection: WAIT counts replicas for what was written on it.
            pipeline = client.pipeline(transaction=False)
            pipeline.eval(*arguments)
            pipeline.execute_command("WAIT", self._replicas, WAIT_MS)
            reply, replicas = pipeline.execute()
            return reply, replicas

        reply, replicas = self.do(call)
        if replicas < self._replicas:
            raise SpoolUnavailableError(
                f"{replicas} replicas have the records, and {self._replicas} are asked for (wait)"
            )
        return [(entry_id, bool(new)) for entry_id, new in reply]

    # --- claiming -------------------------------------------------------------------------------

    def read(self, stream: str, count: int) -> list[ClaimedEntry]:
        """Claim entries that were released, and then unread ones; at most `count` of each."""

        def call(client: Any) -> list[ClaimedEntry]:
            pending = client.xpending_range(stream, GROUP, "-", "+", count, consumername=RETURNED)
            released = self._claim(client, stream, pending, idle_ms=0)
            reply = client.xreadgroup(GROUP, self.consumer, {stream: ">"}, count=count)
            return released + [
                ClaimedEntry(stream=stream, entry_id=entry_id, fields=fields)
                for entry_id, fields in replies.entries_of(reply)
                if fields
            ]

        return self._with_group(stream, call)

    def take_over(
        self,
        stream: str,
        in_flight: Collection[bytes],
        *,
        idle_s: float | None = None,
        holds_suspects: bool = False,
        ordered: bool = False,
    ) -> tuple[list[ClaimedEntry], bool]:
        """Claim the entries of consumers that were silent for too long; return whether some remain there.

        Entries of this consumer that are not `in_flight` are claimed too: the reply of their `read` was lost.
        Some remain where consumers died again and again, while `takeover.choose` searches the cause.
        """
        idle_ms = self._idle_ms if idle_s is None else int(idle_s * 1000)
        some_remain = False

        def call(client: Any) -> list[ClaimedEntry]:
            nonlocal some_remain
            pending = client.xpending_range(stream, GROUP, "-", "+", MAX_TAKEOVER, idle=idle_ms)
            silent = [
                each
                for each in pending
                if each["consumer"] != RETURNED.encode() and each["message_id"] not in in_flight
            ]
            chosen, some_remain = choose(silent, holds_suspects=holds_suspects, ordered=ordered)
            return self._claim(client, stream, chosen, idle_ms=idle_ms)

        return self._with_group(stream, call), some_remain

    def _claim(
        self, client: Any, stream: str, pending: Iterable[Mapping[str, Any]], *, idle_ms: int
    ) -> list[ClaimedEntry]:
        claimed = []
        for entry in pending:
            entry_id, deliveries = entry["message_id"], entry["times_delivered"]
            from_dead = entry["consumer"] not in (RETURNED.encode(), self.consumer.encode())
            reply = client.xclaim(
                stream,
                GROUP,
                self.consumer,
                idle_ms,
                [entry_id],
                retrycount=deliveries + 1 if from_dead else deliveries,
            )
            # Empty where another consumer was faster, or the entry was deleted meanwhile.
            for claimed_id, fields in reply:
                if fields:
                    crashes = deliveries if from_dead else max(0, deliveries - 1)
                    settled = replies.parse_indexes(client.hget(f"{stream}:settled", claimed_id))
                    claimed.append(
                        ClaimedEntry(
                            stream=stream,
                            entry_id=claimed_id,
                            fields=fields,
                            settled=settled,
                            crashes=crashes,
                            from_dead=from_dead,
                        )
                    )
        return claimed

    def _with_group(self, stream: str, call: Callable[[Any], list[ClaimedEntry]]) -> list[ClaimedEntry]:
        def call_with_group(client: Any) -> list[ClaimedEntry]:
            try:
                return call(client)
            except Exception as error:
                if "NOGROUP" not in str(error):
                    raise
            # Nothing was put yet, or Redis was flushed: the new group reads the stream from its beginning.
            if not client.exists(stream):
                return []
            try:
                client.xgroup_create(stream, GROUP, "0")
            except Exception as error:
                if "BUSYGROUP" not in str(error):  # another process was faster
                    raise
            return call(client)

        reply: list[ClaimedEntry] = self.do(call_with_group)
        return reply

    # --- settling -------------------------------------------------------------------------------

    def settle(self, stream: str, entries: Iterable[tuple[bytes, int, int]]) -> None:
        """Delete settled entries, each given with the counts of its records and compressed bytes."""
        keys = (stream, f"{stream}:sizes", f"{stream}:settled")
        arguments = [value for entry in entries for value in entry]

        def call(client: Any) -> None:
            for start in range(0, len(arguments), 3 * MAX_SETTLED):
                client.eval(scripts.SETTLE, 3, *keys, GROUP, *arguments[start : start + 3 * MAX_SETTLED])

        self.do(call)

    def note_settled(self, stream: str, entry_id: bytes, indexes: Iterable[int]) -> None:
        """Note which records of an entry are settled, for a consumer that takes it over."""
        text = ",".join(map(str, sorted(indexes)))
        self.do(lambda client: client.hset(f"{stream}:settled", entry_id, text))

    def note_dead(self, stream: str, entry_id: bytes, writer: bytes, records: int) -> None:
        """Count dead letters among the records of an entry, for the process that has put them."""

        def call(client: Any) -> None:
            client.hincrby(f"{stream}:dead", entry_id, records)
            if writer:
                client.hincrby(f"{stream}:dead", writer, records)
            client.expire(f"{stream}:dead", DEAD_KNOWN_S)

        self.do(call)

    def dead_of(self, entries: Iterable[tuple[str, bytes]]) -> dict[tuple[str, bytes], int]:
        """Return how many records of these entries, or writers, are dead letters; zeros are left out.

        Entries and writers are given with their streams.
        """
        by_stream: dict[str, list[bytes]] = {}
        for stream, entry_id in entries:
            by_stream.setdefault(stream, []).append(entry_id)
        dead: dict[tuple[str, bytes], int] = {}
        for stream, entry_ids in by_stream.items():
            counts = self.do(partial(replies.hmget, key=f"{stream}:dead", fields=entry_ids))
            dead |= {
                (stream, entry_id): int(count)
                for entry_id, count in zip(entry_ids, counts, strict=True)
                if count is not None
            }
        return dead

    def release(self, stream: str, entry_ids: Sequence[bytes]) -> None:
        """Release entries: every consumer may claim them at once, in their old order."""
        self.do(lambda client: client.xclaim(stream, GROUP, RETURNED, 0, list(entry_ids), justid=True))

    def keep(self, stream: str, entry_ids: Sequence[bytes]) -> set[bytes]:
        """Report to Redis that this consumer still works on these; return those that are still its own."""

        def call(client: Any) -> set[bytes]:
            pending = client.xpending_range(
                stream, GROUP, "-", "+", max(1, 2 * len(entry_ids)), consumername=self.consumer
            )
            own = {each["message_id"] for each in pending} & set(entry_ids)
            if own:
                client.xclaim(stream, GROUP, self.consumer, 0, sorted(own), justid=True)
            return own

        own: set[bytes] = self.do(call)
        return own

    # --- leases ---------------------------------------------------------------------------------

    def lease(self, stream: str) -> tuple[bool, bool]:
        """Lease a stream for `LEASE_S` seconds; return whether it is leased, and whether that is new."""
        milliseconds = int(LEASE_S * 1000)
        reply = self.do(
            lambda client: client.eval(scripts.LEASE, 1, f"{stream}:lease", self.consumer, milliseconds)
        )
        return reply > 0, reply == 2

    def end_lease(self, stream: str) -> None:
        """End the lease of a stream."""
        self.do(lambda client: client.eval(scripts.RELEASE_LEASE, 1, f"{stream}:lease", self.consumer))

    # --- rate -----------------------------------------------------------------------------------

    def allow(self, records: int, *, per_second: int, senders: int) -> int:
        """Reserve records of the shared rate limit; return how many may be sent now, -1: too many senders."""
        keys = (f"{self._root}}}:rate", f"{self._root}}}:sending")
        arguments = (records, per_second, self.consumer, senders, SENDER_MS)
        granted: int = self.do(lambda client: client.eval(scripts.ALLOW, 2, *keys, *arguments))
        return granted

    def end_sending(self) -> None:
        """Stop counting this consumer among the senders."""
        self.do(lambda client: client.zrem(f"{self._root}}}:sending", self.consumer))

    # --- inspecting -----------------------------------------------------------------------------

    def count_dead(self) -> int:
        """Return how many dead letters there are."""
        reply: int = self.do(lambda client: client.xlen(self.dead_key))
        return reply

    def sizes(self) -> Sizes:
        """Return how much is in all streams."""
        streams = [stream for endpoint in ENDPOINTS for stream in self.keys(endpoint)]

        def call(client: Any) -> Sizes:
            records = stored_bytes = 0
            oldest_times_ms: dict[str, bytes] = {}
            for stream in streams:
                counts = client.hmget(f"{stream}:sizes", "records", "bytes")
                # Entries that other programs have added are not counted: each is one record at least.
                stream_records = max(int(counts[0] or 0), client.xlen(stream))
                if not stream_records:
                    continue
                records += stream_records
                stored_bytes += max(0, int(counts[1] or 0))
                if oldest := _edge(client, stream, *_FIRST):
                    oldest_times_ms[stream] = oldest[1]
            return Sizes(records=records, stored_bytes=stored_bytes, oldest_times_ms=oldest_times_ms)

        reply: Sizes = self.do(call)
        return reply

    def first_id(self, stream: str) -> tuple[bool, bytes | None]:
        """Return whether a stream exists, and the ID of its oldest entry."""

        def call(client: Any) -> tuple[bool, bytes | None]:
            oldest = _edge(client, stream, *_FIRST)
            return bool(oldest) or bool(client.exists(stream)), oldest[0] if oldest else None

        reply: tuple[bool, bytes | None] = self.do(call)
        return reply

    def dead_of_writer(self, writer: str) -> int:
        """Return how many records are dead letters that others have forwarded for this writer."""
        streams = [stream for endpoint in ENDPOINTS for stream in self.keys(endpoint)]
        return sum(self.dead_of((stream, writer.encode()) for stream in streams).values())

    def last_ids(self) -> dict[str, bytes]:
        """Return the ID of the newest entry of each stream that is not empty."""
        streams = [stream for endpoint in ENDPOINTS for stream in self.keys(endpoint)]

        def call(client: Any) -> dict[str, bytes]:
            edges = {stream: _edge(client, stream, "XREVRANGE", "+", "-") for stream in streams}
            return {stream: newest[0] for stream, newest in edges.items() if newest}

        ids: dict[str, bytes] = self.do(call)
        return ids

    def has(self, stream: str, entry_id: bytes) -> bool:
        """Return whether an entry exists."""
        return bool(self.do(lambda client: _edge(client, stream, "XRANGE", entry_id, entry_id)))

    def memory_share(self) -> float:
        """Return how much of its `maxmemory` Redis uses, from 0.0 to 1.0; 0.0 where that is not set."""
        nodes = [node for node in self.infos("memory") if node.get("maxmemory")]
        return max((node["used_memory"] / node["maxmemory"] for node in nodes), default=0.0)

    def infos(self, *sections: str) -> list[Mapping[str, Any]]:
        """Return the reply to INFO, of each primary of a cluster."""

        def call(client: Any) -> Any:
            options = {"target_nodes": "primaries"} if hasattr(client, "get_primaries") else {}
            return client.info(*sections, **options)

        info = self.do(call)
        return [info] if "used_memory" in info else list(info.values())


_FIRST = ("XRANGE", "-", "+")


def _edge(client: Any, stream: str, command: str, start: str | bytes, end: str | bytes) -> list[bytes]:
    """Return ID and time of the first entry of a range, without its records; an empty list: there is none."""
    reply: list[bytes] = client.eval(scripts.EDGE, 1, stream, command, start, end)
    return reply
