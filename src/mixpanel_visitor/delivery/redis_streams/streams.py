"""Streams: what is said to Redis; one stream for each endpoint and partition, one consumer group for all.

Keys of one partition share a hash tag, so that each script and transaction stays in one slot of a cluster:

- `PREFIX:{PROJECT-P}:import` (engage, groups): the stream, an entry for each bundle;
- `...:sizes`: how many records and bytes of bodies are in it; `...:settled`: for entries of which a part is
  done, which records those are; `...:dead`: how many of an entry, or of a writer, are dead letters;
  `...:lease`: who may read a stream in which the order counts.

Entries are deleted once they are settled, and by nothing else: a MAXLEN would remove what nobody has read.
What is given back unsettled belongs to the consumer `returned`, from which everybody may take at once.
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
MAX_TAKEN = 200
MAX_SETTLED = 500
"""In one call: while a script runs, Redis does nothing else."""

WAIT_MS = 200
DEAD_KNOWN_S = 86_400
SENDER_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedEntry:
    """An entry that this consumer owns from now on; `crashes` are consumers that died with it."""

    stream: str
    entry_id: bytes
    fields: Mapping[bytes, bytes]
    settled: frozenset[int] = frozenset()
    crashes: int = 0
    from_dead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is in all streams: `first` is the time that the oldest entry has, by stream."""

    records: int
    stored_bytes: int
    first: Mapping[str, bytes]


class Streams:
    """One project's streams as one consumer sees them; every call raises SpoolUnavailableError."""

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
        """Call `call` with the client and return its result; the library's errors become ours."""
        try:
            if self._client is None:
                self._client = self._connect()
            return call(self._client)
        except Exception as error:
            ours = unavailable(error)
            if ours is None:
                raise
            raise ours from error

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # --- writing --------------------------------------------------------------------------------

    def add(self, entries: Sequence[tuple[str, Mapping[bytes, bytes]]]) -> list[tuple[bytes, bool]]:
        """Add entries in one step; return the ID of each, and whether its stream was not there before.

        In a cluster all must be of one partition.
        """
        keys = [key for stream, _ in entries for key in (stream, f"{stream}:sizes")]
        names = (codec.COUNT, codec.BODIES, codec.WRITER)
        bundles = [fields[name] for _, fields in entries for name in names]
        time_ms = entries[0][1][codec.TIME]
        arguments = (scripts.ADD, len(keys), *keys, GROUP, time_ms, *bundles)
        if not self._replicas:
            reply = self.do(lambda client: client.eval(*arguments))
            return [(entry_id, bool(new)) for entry_id, new in reply]

        def call(client: Any) -> tuple[Any, int]:
            # In one connection: WAIT is about what that has written.
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

    # --- taking ---------------------------------------------------------------------------------

    def read(self, stream: str, count: int) -> list[ClaimedEntry]:
        """Take what was released, and then what nobody has read yet; at most `count` entries of each."""

        def call(client: Any) -> list[ClaimedEntry]:
            given_back = client.xpending_range(stream, GROUP, "-", "+", count, consumername=RETURNED)
            back = self._claim(client, stream, given_back, idle_ms=0)
            reply = client.xreadgroup(GROUP, self.consumer, {stream: ">"}, count=count)
            entries = replies.entries_of(reply)
            return back + [
                ClaimedEntry(stream=stream, entry_id=entry_id, fields=fields)
                for entry_id, fields in entries
                if fields
            ]

        return self._with_group(stream, call)

    def take_over(
        self,
        stream: str,
        in_hand: Collection[bytes],
        *,
        idle_s: float | None = None,
        holds_suspects: bool = False,
        ordered: bool = False,
    ) -> tuple[list[ClaimedEntry], bool]:
        """Take what consumers have that have been silent for too long, and what is ours and not `in_hand`.

        That is so when the answer of a `read` was lost on its way. Of those whose consumers have died again
        and again some are left, for `takeover.choose` searches; the second of the two says whether.
        """
        idle_ms = self._idle_ms if idle_s is None else int(idle_s * 1000)
        left = False

        def call(client: Any) -> list[ClaimedEntry]:
            nonlocal left
            pending = client.xpending_range(stream, GROUP, "-", "+", MAX_TAKEN, idle=idle_ms)
            silent = [
                each
                for each in pending
                if each["consumer"] != RETURNED.encode() and each["message_id"] not in in_hand
            ]
            chosen, left = choose(silent, holds_suspects=holds_suspects, ordered=ordered)
            return self._claim(client, stream, chosen, idle_ms=idle_ms)

        return self._with_group(stream, call), left

    def _claim(
        self, client: Any, stream: str, pending: Iterable[Mapping[str, Any]], *, idle_ms: int
    ) -> list[ClaimedEntry]:
        taken = []
        for each in pending:
            entry_id, deliveries = each["message_id"], each["times_delivered"]
            dead = each["consumer"] not in (RETURNED.encode(), self.consumer.encode())
            reply = client.xclaim(
                stream,
                GROUP,
                self.consumer,
                idle_ms,
                [entry_id],
                retrycount=deliveries + 1 if dead else deliveries,
            )
            # Nothing: another one was faster, or it was deleted meanwhile.
            for claimed_id, fields in reply:
                if fields:
                    crashes = deliveries if dead else max(0, deliveries - 1)
                    settled = replies.numbers(client.hget(f"{stream}:settled", claimed_id))
                    taken.append(
                        ClaimedEntry(
                            stream=stream,
                            entry_id=claimed_id,
                            fields=fields,
                            settled=settled,
                            crashes=crashes,
                            from_dead=dead,
                        )
                    )
        return taken

    def _with_group(self, stream: str, call: Callable[[Any], list[ClaimedEntry]]) -> list[ClaimedEntry]:
        def again(client: Any) -> list[ClaimedEntry]:
            try:
                return call(client)
            except Exception as error:
                if "NOGROUP" not in str(error):
                    raise
            # Nobody has put anything yet, or all was flushed: what comes is read from its beginning.
            if not client.exists(stream):
                return []
            try:
                client.xgroup_create(stream, GROUP, "0")
            except Exception as error:
                if "BUSYGROUP" not in str(error):  # another one was faster
                    raise
            return call(client)

        reply: list[ClaimedEntry] = self.do(again)
        return reply

    # --- settling -------------------------------------------------------------------------------

    def settle(self, stream: str, entries: Iterable[tuple[bytes, int, int]]) -> None:
        """Delete entries that are settled, each given with its number of records and compressed bytes."""
        keys = (stream, f"{stream}:sizes", f"{stream}:settled")
        arguments = [each for entry in entries for each in entry]

        def call(client: Any) -> None:
            for at in range(0, len(arguments), 3 * MAX_SETTLED):
                client.eval(scripts.SETTLE, 3, *keys, GROUP, *arguments[at : at + 3 * MAX_SETTLED])

        self.do(call)

    def note_settled(self, stream: str, entry_id: bytes, indexes: Iterable[int]) -> None:
        """Note which records of an entry are settled: a consumer that takes it over leaves them out."""
        text = ",".join(map(str, sorted(indexes)))
        self.do(lambda client: client.hset(f"{stream}:settled", entry_id, text))

    def note_dead(self, stream: str, entry_id: bytes, writer: bytes, records: int) -> None:
        """Note how many records of an entry are dead letters, for the process that has put them."""

        def call(client: Any) -> None:
            client.hincrby(f"{stream}:dead", entry_id, records)
            if writer:
                client.hincrby(f"{stream}:dead", writer, records)
            client.expire(f"{stream}:dead", DEAD_KNOWN_S)

        self.do(call)

    def dead_of(self, entries: Iterable[tuple[str, bytes]]) -> dict[tuple[str, bytes], int]:
        """Return how many records of these entries, or writers, are dead letters; without zeros.

        They are given with their streams.
        """
        by_stream: dict[str, list[bytes]] = {}
        for stream, entry_id in entries:
            by_stream.setdefault(stream, []).append(entry_id)
        reply: dict[tuple[str, bytes], int] = {}
        for stream, entry_ids in by_stream.items():
            known = self.do(partial(replies.hmget, key=f"{stream}:dead", fields=entry_ids))
            reply |= {
                (stream, each): int(number)
                for each, number in zip(entry_ids, known, strict=True)
                if number is not None
            }
        return reply

    def release(self, stream: str, entry_ids: Sequence[bytes]) -> None:
        """Release entries: every consumer may take them at once, in their old places."""
        self.do(lambda client: client.xclaim(stream, GROUP, RETURNED, 0, list(entry_ids), justid=True))

    def keep(self, stream: str, entry_ids: Sequence[bytes]) -> set[bytes]:
        """Report to Redis that this consumer works on these. Return those that are still its own."""

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
        """Lease a stream for `LEASE_S` seconds; return whether we have it, and whether that is new."""
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
        """Release the place among the senders."""
        self.do(lambda client: client.zrem(f"{self._root}}}:sending", self.consumer))

    # --- looking --------------------------------------------------------------------------------

    def count_dead(self) -> int:
        """Return how many dead letters there are."""
        reply: int = self.do(lambda client: client.xlen(self.dead_key))
        return reply

    def sizes(self) -> Sizes:
        """Return what is in all streams."""
        streams = [stream for endpoint in ENDPOINTS for stream in self.keys(endpoint)]

        def call(client: Any) -> Sizes:
            records = size = 0
            first: dict[str, bytes] = {}
            for stream in streams:
                counted = client.hmget(f"{stream}:sizes", "records", "bytes")
                # What others have added there, nobody has counted: each entry is one record at least.
                records_there = max(int(counted[0] or 0), client.xlen(stream))
                if not records_there:
                    continue
                records += records_there
                size += max(0, int(counted[1] or 0))
                if oldest := _edge(client, stream, *_FIRST):
                    first[stream] = oldest[1]
            return Sizes(records=records, stored_bytes=size, first=first)

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
        """Return how many dead letters there were of a process whose records another one has forwarded."""
        streams = [stream for endpoint in ENDPOINTS for stream in self.keys(endpoint)]
        return sum(self.dead_of((stream, writer.encode()) for stream in streams).values())

    def last_ids(self) -> dict[str, bytes]:
        """Return the ID of the newest entry of each stream that holds any."""
        streams = [stream for endpoint in ENDPOINTS for stream in self.keys(endpoint)]

        def call(client: Any) -> dict[str, bytes]:
            reply = {stream: _edge(client, stream, "XREVRANGE", "+", "-") for stream in streams}
            return {stream: newest[0] for stream, newest in reply.items() if newest}

        ids: dict[str, bytes] = self.do(call)
        return ids

    def has(self, stream: str, entry_id: bytes) -> bool:
        """Return whether an entry exists."""
        return bool(self.do(lambda client: _edge(client, stream, "XRANGE", entry_id, entry_id)))

    def memory_share(self) -> float:
        """Return how much of its `maxmemory` Redis uses, from 0 to 1; 0 where it has none."""
        nodes = [node for node in self.infos("memory") if node.get("maxmemory")]
        return max((node["used_memory"] / node["maxmemory"] for node in nodes), default=0.0)

    def infos(self, *sections: str) -> list[Mapping[str, Any]]:
        """Return the reply to INFO, of each primary of a cluster."""

        def call(client: Any) -> Any:
            of_all = {"target_nodes": "primaries"} if hasattr(client, "get_primaries") else {}
            return client.info(*sections, **of_all)

        info = self.do(call)
        return [info] if "used_memory" in info else list(info.values())


_FIRST = ("XRANGE", "-", "+")


def _edge(client: Any, stream: str, command: str, begin: str | bytes, end: str | bytes) -> list[bytes]:
    """Return ID and time of the first entry of a range, without its records; an empty list: there is none."""
    reply: list[bytes] = client.eval(scripts.EDGE, 1, stream, command, begin, end)
    return reply
