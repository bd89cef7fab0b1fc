r"""Frame: a record as one line of text, so that a journal can be read with `less`.

```
1 i 5f3a9c01 00001042 0001763934567890 {"event":...}\n
│ │ │        │        │                └ body: one JSON object without a newline byte
│ │ │        │        └ when it was put: milliseconds since 1970
│ │ │        └ length of the body in bytes
│ │ └ CRC-32 of everything else in the line, in hexadecimal
│ └ lane: i import, e engage, g groups
└ version of the format
```

Pure: bytes in, bytes and offsets out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from mixpanel_visitor.records import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mixpanel_visitor.records import Endpoint, Record

HEADER_BYTES = 39
MAX_BODY_BYTES = 99_999_999

_VERSION = b"1"
_LATER_VERSIONS = tuple(b"%d " % version for version in range(2, 10))
_MAX_TIME_MS = 10**16 - 1

# For each lane: the bytes before the CRC, and their CRC, from which that of the rest of the line goes on.
_PREFIXES: dict[Endpoint, tuple[bytes, int]] = {
    endpoint: (prefix, crc32(prefix))
    for endpoint in ENDPOINTS
    for prefix in [b"%b %b " % (_VERSION, endpoint[:1].encode())]
}
_LANES: dict[bytes, tuple[Endpoint, int]] = {
    prefix: (endpoint, seed) for endpoint, (prefix, seed) in _PREFIXES.items()
}


def encode(records: Iterable[Record], time_ms: int) -> bytes:
    """Frame all of `records` as put at `time_ms`; ValueError for a body that no frame can hold."""
    stamp = min(max(time_ms, 0), _MAX_TIME_MS)
    lines = []
    for record in records:
        body = record.body
        if b"\n" in body:
            raise ValueError(f"the body of a record must not contain a newline byte: {body[:80]!r}...")
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"the body of a record has {len(body)} bytes; {MAX_BODY_BYTES} is the most")
        prefix, seed = _PREFIXES[record.endpoint]
        rest = b"%08d %016d %b" % (len(body), stamp, body)
        lines.append(b"%b%08x %b\n" % (prefix, crc32(rest, seed), rest))
    return lines[0] if len(lines) == 1 else b"".join(lines)


def frame_end(data: bytes, start: int) -> int:
    """Where the whole and undamaged frame at `start` ends, its newline included; 0 where there is none."""
    lane = _LANES.get(data[start : start + 4])
    if lane is None:
        return 0
    end = span_end(data, start) - 1
    if end < 0 or data[end : end + 1] != b"\n":
        return 0
    crc = crc32(memoryview(data)[start + 13 : end], lane[1])
    return end + 1 if data[start + 4 : start + 13] == b"%08x " % crc else 0


def span_end(data: bytes, start: int) -> int:
    """Where the frame at `start` ends by its own account, which may be damaged; 0 where it gives none."""
    length = data[start + 13 : start + 21]
    return start + HEADER_BYTES + int(length) + 1 if len(length) == 8 and length.isdigit() else 0


def lane_of(data: bytes, start: int) -> Endpoint:
    """Give the lane of an undamaged frame."""
    return _LANES[data[start : start + 4]][0]


def time_ms_of(header: bytes) -> int | None:
    """When the frame with this header was put, in milliseconds; None where that cannot be read."""
    stamp = header[22:38]
    return int(stamp) if len(stamp) == 16 and stamp.isdigit() else None


class Damage(NamedTuple):
    """Bytes that are no frame; `later` where they look like lines of a later version of this format."""

    start: int
    end: int
    later: bool


class Scan(NamedTuple):
    """What a stretch of a segment holds.

    `starts` are the offsets of the good frames of each lane. From `consumed` on there is no newline:
    a frame of which the rest is still to come, or never will.
    """

    starts: dict[Endpoint, list[int]]
    damages: list[Damage]
    consumed: int


def scan(data: bytes) -> Scan:
    """Find all good frames in `data`, which begins at the start of a frame.

    Damage ends where the next good frame begins: behind the next newline, or, where the newline itself is
    what was damaged, where the length says.
    """
    starts: dict[Endpoint, list[int]] = {endpoint: [] for endpoint in ENDPOINTS}
    damages: list[Damage] = []
    position, size = 0, len(data)
    while position < size:
        end = frame_end(data, position)
        if end:
            starts[lane_of(data, position)].append(position)
            position = end
            continue
        line_end = data.find(b"\n", position) + 1
        if not line_end:
            break
        claimed_end = span_end(data, position)
        end = claimed_end if position < claimed_end < line_end and frame_end(data, claimed_end) else line_end
        later = is_later(data[position:end])
        if damages and damages[-1].end == position and damages[-1].later == later:
            damages[-1] = damages[-1]._replace(end=end)
        else:
            damages.append(Damage(position, end, later))
        position = end
    return Scan(starts, damages, position)


def is_later(line: bytes) -> bool:
    """Whether a line, or the beginning of one, looks as if a later version of this format had made it."""
    # With our own version in its place the line would be good: then only that byte was hit.
    return line.startswith(_LATER_VERSIONS) and not frame_end(_VERSION + line[1:], 0)
