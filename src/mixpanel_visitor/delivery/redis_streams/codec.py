"""Codec: what one entry of a stream holds, and in which partition a record belongs. Pure."""

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
"""Of zlib: a third of the memory in Redis, for about 10 us more a request."""

TIME, COUNT, BODIES, WRITER = b"t", b"n", b"z", b"w"
"""The fields of an entry: the producer's clock in milliseconds, how many records, these compressed, and which
process of a machine has put them, where another one has forwarded them. 0.1 does not know that one.
"""


MAX_BYTES = 16 * 2**20
"""Of the bodies of one entry; what takes more room is no entry of ours, or one that shall not be read."""

PUT_TOGETHER_BYTES = 4 * 2**20
"""So much is put into one entry, but for a single record that is larger."""


class UnreadableError(ValueError):
    """An entry is not one of ours, or damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Records of one endpoint that were put together, oldest first; `time_ms` is their producer's clock.

    `writer` is the process that has put them, where another one has forwarded them.
    """

    time_ms: int
    bodies: tuple[bytes, ...]
    writer: bytes = b""
    size: int = 0
    """In bytes, as they are kept in memory."""


def split(bodies: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cut what is put together into entries; raises ValueError for a body that none can hold."""
    together: list[bytes] = []
    size = 0
    for body in bodies:
        if len(body) > MAX_BYTES:
            raise ValueError(f"a record of {len(body):,} bytes is too large: at most {MAX_BYTES:,} are kept")
        if together and size + len(body) > PUT_TOGETHER_BYTES:
            yield together
            together, size = [], 0
        together.append(body)
        size += len(body) + 1
    if together:
        yield together


def encode(bodies: Sequence[bytes], time_ms: int, *, writer: str = "") -> dict[bytes, bytes]:
    """Write a bundle as the fields of an entry; no body holds a newline byte."""
    return {
        WRITER: writer.encode(),
        TIME: b"%d" % time_ms,
        COUNT: b"%d" % len(bodies),
        BODIES: zlib.compress(b"\n".join(bodies), LEVEL),
    }


def decode(fields: Mapping[bytes, bytes]) -> Bundle:
    """Read a bundle; raises UnreadableError for what `encode` has not written."""
    reader = zlib.decompressobj()
    try:
        # Bounded: some kilobytes can hold gigabytes, and a process that reads them all dies of it.
        data = reader.decompress(fields[BODIES], MAX_BYTES + 1)
        count, time_ms = int(fields[COUNT]), int(fields[TIME])
    except (KeyError, ValueError, zlib.error) as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from None
    if len(data) > MAX_BYTES:
        raise UnreadableError(f"more than {MAX_BYTES:,} bytes in {len(fields[BODIES]):,}")
    if not reader.eof or reader.unused_data:
        raise UnreadableError("it is cut off" if not reader.eof else "something stands behind it")
    actual = data.count(b"\n") + 1
    if actual != count:
        raise UnreadableError(f"{actual} records instead of {count}")
    writer = fields.get(WRITER, b"")
    return Bundle(time_ms=time_ms, bodies=tuple(data.split(b"\n")), writer=writer, size=len(data))


def by_partition(
    records: Sequence[Record], partitions: int, own_partition: int, writers: Sequence[str] | None = None
) -> dict[tuple[Endpoint, int, str], list[bytes]]:
    """Sort bodies by endpoint, partition and writer; raises ValueError for a body with a newline byte."""
    bodies_by_place: dict[tuple[Endpoint, int, str], list[bytes]] = {}
    for record, writer in zip(records, repeat("") if writers is None else writers, strict=False):
        if b"\n" in record.body:
            raise ValueError(f"the body of a record must not contain a newline byte: {record.body[:80]!r}...")
        partition = partition_of(record, partitions)
        place = record.endpoint, own_partition if partition is None else partition, writer
        bodies_by_place.setdefault(place, []).append(record.body)
    return bodies_by_place


def partition_of(record: Record, partitions: int) -> int | None:
    """Return the partition of a profile update, the same for all of one profile; None: any will do."""
    if record.endpoint == "import":
        return None
    return zlib.crc32(_profile(record.endpoint, record.body)) % partitions


def _profile(endpoint: Endpoint, body: bytes) -> bytes:
    try:
        update = orjson.loads(body)
    except ValueError:
        return b""
    if not isinstance(update, dict):
        return b""
    names = ("$distinct_id",) if endpoint == "engage" else ("$group_key", "$group_id")
    return "\0".join(str(update.get(name, "")) for name in names).encode()
