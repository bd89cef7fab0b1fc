"""Codec: writes and reads the entries of a stream, and finds the partition of a record. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mixpanel_visitor.records import Endpoint, Record

LEVEL = 1
"""The level of zlib: a third of the memory in Redis, for about 10 us more a request."""

TIME, COUNT, BODIES, WRITER = b"t", b"n", b"z", b"w"
"""The fields of an entry: its producer's clock in milliseconds, the count of records, their compressed
bodies, and the process that has put them, if another process has forwarded them. 0.1 does not know that one.
"""

MAX_BYTES = 16 * 2**20
"""Of the bodies of one entry; an entry with more was not written here, and is not read."""

ENTRY_BYTES = 4 * 2**20
"""Of the bodies of an entry that is written, unless a single record is larger."""


class UnreadableError(ValueError):
    """An entry was not written by this package, or is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Records of one endpoint in one entry, oldest first; `time_ms` is the clock of its producer.

    `writer` is the process that has put them, if another process has forwarded them.
    """

    time_ms: int
    bodies: tuple[bytes, ...]
    writer: bytes = b""
    size: int = 0
    """Bytes that the bodies take in memory."""


def split(bodies: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Divide bodies into groups, one for each entry; raise ValueError for a body that no entry can hold."""
    group: list[bytes] = []
    size = 0
    for body in bodies:
        if len(body) > MAX_BYTES:
            raise ValueError(f"a record of {len(body):,} bytes is too large: at most {MAX_BYTES:,} are kept")
        if group and size + len(body) > ENTRY_BYTES:
            yield group
            group, size = [], 0
        group.append(body)
        size += len(body) + 1
    if group:
        yield group


def encode(bodies: Sequence[bytes], time_ms: int, *, writer: str = "") -> dict[bytes, bytes]:
    """Return a bundle as the fields of an entry; no body may contain a newline byte."""
    return {
        WRITER: writer.encode(),
        TIME: b"%d" % time_ms,
        COUNT: b"%d" % len(bodies),
        BODIES: zlib.compress(b"\n".join(bodies), LEVEL),
    }


def decode(fields: Mapping[bytes, bytes]) -> Bundle:
    """Read a bundle; raise UnreadableError for fields that `encode` has not written."""
    decompressor = zlib.decompressobj()
    try:
        # Bounded: a few kilobytes can expand to gigabytes, and to all of the memory.
        data = decompressor.decompress(fields[BODIES], MAX_BYTES + 1)
        count, time_ms = int(fields[COUNT]), int(fields[TIME])
    except (KeyError, ValueError, zlib.error) as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from None
    if len(data) > MAX_BYTES:
        raise UnreadableError(f"more than {MAX_BYTES:,} bytes in {len(fields[BODIES]):,}")
    if not decompressor.eof or decompressor.unused_data:
        raise UnreadableError("it is cut off" if not decompressor.eof else "something stands behind it")
    actual_count = data.count(b"\n") + 1
    if actual_count != count:
        raise UnreadableError(f"{actual_count} records instead of {count}")
    writer = fields.get(WRITER, b"")
    return Bundle(time_ms=time_ms, bodies=tuple(data.split(b"\n")), writer=writer, size=len(data))


def by_partition(
    records: Sequence[Record], partitions: int, own_partition: int, writers: Sequence[str] | None = None
) -> dict[tuple[Endpoint, int, str], list[bytes]]:
    """Group bodies by endpoint, partition and writer; raise ValueError for a body with a newline byte."""
    groups: dict[tuple[Endpoint, int, str], list[bytes]] = {}
    for record, writer in zip(records, repeat("") if writers is None else writers, strict=False):
        if b"\n" in record.body:
            raise ValueError(f"the body of a record must not contain a newline byte: {record.body[:80]!r}...")
        partition = partition_of(record, partitions)
        key = record.endpoint, own_partition if partition is None else partition, writer
        groups.setdefault(key, []).append(record.body)
    return groups


def partition_of(record: Record, partitions: int) -> int | None:
    """Return the partition of a profile update, the same for all of one profile; None: any, for an event."""
    if record.endpoint == "import":
        return None
    return zlib.crc32(_profile_key(record.endpoint, record.body)) % partitions


def _profile_key(endpoint: Endpoint, body: bytes) -> bytes:
    try:
        update = orjson.loads(body)
    except ValueError:
        return b""
    if not isinstance(update, dict):
        return b""
    names = ("$distinct_id",) if endpoint == "engage" else ("$group_key", "$group_id")
    return "\0".join(str(update.get(name, "")) for name in names).encode()
