"""Bodies: the body of an HTTP/1.1 request read from its connection (RFC 9112, 6 and 7.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import Message
    from io import BufferedIOBase

DRAIN_MAX_BYTES = 256 * 1024 * 1024
"""A too large body is read to its end up to this size, so that its sender receives the 413."""

_PIECE_BYTES = 64 * 1024
_MAX_LINE = 8 * 1024
_MAX_TRAILERS = 100
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class UnreadableBodyError(ValueError):
    """The end of the body is unknown or too far away: answer with `status`, then close the connection."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def read_body(source: BufferedIOBase, headers: Message, max_bytes: int) -> tuple[bytes, bool]:
    """Read the body; return it, and whether it was truncated because it is longer than `max_bytes`.

    Raise ConnectionResetError where the client leaves before the end, UnreadableBodyError for a malformed
    body.
    """
    sink = _Sink(max_bytes)
    encoding = headers.get("transfer-encoding")
    lengths = set(headers.get_all("content-length", []))
    if encoding is not None:
        # Both at once is how requests are smuggled past proxies.
        if lengths or encoding.strip().lower() != "chunked":
            raise UnreadableBodyError(400, "a body is sent with either Content-Length or chunked")
        _read_chunks(source, sink)
    elif lengths:
        length = lengths.pop()
        if lengths or not (length.isascii() and length.isdigit() and len(length) <= 15):
            raise UnreadableBodyError(400, "malformed Content-Length")
        _read_into(source, sink, int(length))
    return b"".join(sink.pieces), sink.truncated


def _read_chunks(source: BufferedIOBase, sink: _Sink) -> None:
    while True:
        size = _line(source).partition(b";")[0].strip()
        if not _SIZE.fullmatch(size):
            raise UnreadableBodyError(400, "malformed chunk")
        length = int(size, 16)
        if length == 0:
            break
        _read_into(source, sink, length)
        if _line(source):
            raise UnreadableBodyError(400, "malformed chunk")
    for _ in range(_MAX_TRAILERS):
        if not _line(source):
            return
    raise UnreadableBodyError(400, "too many trailers")


def _read_into(source: BufferedIOBase, sink: _Sink, length: int) -> None:
    if sink.total + length > DRAIN_MAX_BYTES:
        raise UnreadableBodyError(413, f"request exceeds max limit of {sink.max_bytes} bytes")
    while length:
        piece = source.read(min(length, _PIECE_BYTES))
        if not piece:
            raise ConnectionResetError("the client left in the middle of its request")
        sink.add(piece)
        length -= len(piece)


def _line(source: BufferedIOBase) -> bytes:
    line = source.readline(_MAX_LINE)
    if len(line) >= _MAX_LINE:
        raise UnreadableBodyError(400, "malformed chunk")
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the client left in the middle of its request")
    return line.rstrip(b"\r\n")


class _Sink:
    """Collects a body; bytes beyond the limit are counted and dropped."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.pieces: list[bytes] = []
        self.total = 0

    @property
    def truncated(self) -> bool:
        return self.total > self.max_bytes

    def add(self, piece: bytes) -> None:
        if self.total < self.max_bytes:
            self.pieces.append(piece)
        self.total += len(piece)
