r"""Frame: a record as one line of text, so that a journal can be read with `less`.

```
1 i 5f3a9c01 00001042 0001763934567890 {"event":...}\n
│ │ │        │        │                └ body: one JSON object without a newline byte
│ │ │        │        └ when it was put: milliseconds since 1970
│ │ │        └ length of the body in bytes
│ │ └ CRC-32 of everything else in the line, in hexadecimal
│ └ endpoint: i import, e engage, g groups
└ version of the format
```

Pure: bytes in, bytes and offsets out.
"""

from __future__ import annotations

import re
from importlib import import_module
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from mixpanel_visitor.records import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zlib import crc32

    from mixpanel_visitor.records import Endpoint, Record
else:
    try:
        crc32 = import_module("isal.isal_zlib").crc32  # the same values, in a fifth of the time
    except ImportError:
        from zlib import crc32

HEADER_BYTES = 39
MAX_BODY_BYTES = 99_999_999

_NEWLINE = b"\n"[0]
_VERSION = b"1"
_LATER_VERSIONS = tuple(b"%d " % version for version in range(2, 10))
_MAX_TIME_MS = 10**16 - 1
_HEADER = re.compile(rb"(?=1 [ieg] [0-9a-f]{8} [0-9]{8} [0-9]{16} )")

# For each endpoint: the bytes before the CRC, and their CRC, with which the CRC of a line begins.
_PREFIXES: dict[Endpoint, tuple[bytes, int]] = {
    endpoint: (prefix, crc32(prefix))
    for endpoint in ENDPOINTS
    for prefix in [b"%b %b " % (_VERSION, endpoint[:1].encode())]
}
_ENDPOINTS: dict[bytes, tuple[Endpoint, int]] = {
    prefix: (endpoint, seed) for endpoint, (prefix, seed) in _PREFIXES.items()
}


def encode(records: Iterable[Record], time_ms: int) -> bytes:
    """Frame all of `records` as put at `time_ms`; ValueError for a body that no frame can hold."""
    time_field = b" %016d " % min(max(time_ms, 0), _MAX_TIME_MS)
    lines = []
    for record in records:
        body = record.body
        if b"\n" in body:
            raise ValueError(f"the body of a record must not contain a newline byte: {body[:80]!r}...")
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"the body of a record has {len(body)} bytes; {MAX_BODY_BYTES} is the most")
        prefix, seed = _PREFIXES[record.endpoint]
        fields = b"%08d%b" % (len(body), time_field)
        lines.append(b"%b%08x %b%b\n" % (prefix, crc32(body, crc32(fields, seed)), fields, body))
    return lines[0] if len(lines) == 1 else b"".join(lines)


def frame_end(data: bytes, start: int, view: memoryview | None = None) -> int:
    """Return the end of the undamaged frame at `start`, its newline included; 0 where there is none.

    `view` is a memoryview of `data`, for callers that ask often.
    """
    return _parse_frame(data, memoryview(data) if view is None else view, start)[0]


_HEADER_START = Struct("4s9s8s")
"""Version and endpoint, CRC, length; each with the spaces after it."""

_NO_FRAME: tuple[int, Endpoint] = (0, ENDPOINTS[0])


def _parse_frame(data: bytes, view: memoryview, start: int) -> tuple[int, Endpoint]:
    """Return the end of the undamaged frame at `start`, and its endpoint; 0 where there is none."""
    if start + HEADER_BYTES >= len(data):
        return _NO_FRAME
    prefix, written_crc, length = _HEADER_START.unpack_from(data, start)
    endpoint_and_seed = _ENDPOINTS.get(prefix)
    if endpoint_and_seed is None or not length.isdigit():
        return _NO_FRAME
    end = start + HEADER_BYTES + int(length)
    if end >= len(data) or data[end] != _NEWLINE:
        return _NO_FRAME
    endpoint, seed = endpoint_and_seed
    if written_crc != b"%08x " % crc32(view[start + 13 : end], seed):
        return _NO_FRAME
    return end + 1, endpoint


def declared_end(data: bytes, start: int) -> int:
    """Return where the frame at `start` ends by its header, damaged or not; 0 where it has no length."""
    length = data[start + 13 : start + 21]
    return start + HEADER_BYTES + int(length) + 1 if len(length) == 8 and length.isdigit() else 0


def time_ms_of(header: bytes) -> int | None:
    """Return when the frame with this header was put, in milliseconds; None where that is unreadable."""
    digits = header[22:38]
    return int(digits) if len(digits) == 16 and digits.isdigit() else None


class Damage(NamedTuple):
    """Bytes that are no frame; `is_newer` where they look like lines of a later version of this format."""

    start: int
    end: int
    is_newer: bool


class Scan(NamedTuple):
    """The frames and the damage in a part of a segment.

    `starts` are the offsets of the good frames of each endpoint. From `consumed` on there is no newline:
    a frame that is not complete, and may never be.
    """

    starts: dict[Endpoint, list[int]]
    damages: list[Damage]
    consumed: int


def scan(data: bytes) -> Scan:
    """Find all good frames in `data`, which begins at the start of a frame.

    Damage ends where the next good frame begins: after the next newline or, where the newline itself is
    damaged, where the header says.
    """
    starts: dict[Endpoint, list[int]] = {endpoint: [] for endpoint in ENDPOINTS}
    damages: list[Damage] = []
    position, size, view = 0, len(data), memoryview(data)
    while position < size:
        end, endpoint = _parse_frame(data, view, position)
        if end:
            starts[endpoint].append(position)
            position = end
            continue
        line_end = data.find(b"\n", position) + 1
        if not line_end:
            break
        end_by_header = declared_end(data, position)
        if position < end_by_header < line_end and frame_end(data, end_by_header):
            end = end_by_header
        else:
            end = _next_start(data, view, position + 1, line_end)
        is_newer = is_newer_version(data[position:end])
        if damages and damages[-1].end == position and damages[-1].is_newer == is_newer:
            damages[-1] = damages[-1]._replace(end=end)
        else:
            damages.append(Damage(position, end, is_newer))
        position = end
    return Scan(starts, damages, position)


def _next_start(data: bytes, view: memoryview, start: int, line_end: int) -> int:
    """Return where in a damaged line a good frame starts that ends with it, or the end of the line."""
    # Where both length and newline are damaged, the next frame is the end of this line.
    for header in _HEADER.finditer(data, start, line_end):
        if frame_end(data, header.start(), view) == line_end:
            return header.start()
    return line_end


def is_newer_version(line: bytes) -> bool:
    """Return whether a line, or the beginning of one, looks like that of a later version of this format."""
    # If the line is good with our version in it, only that byte is damaged.
    return line.startswith(_LATER_VERSIONS) and not frame_end(_VERSION + line[1:], 0)
