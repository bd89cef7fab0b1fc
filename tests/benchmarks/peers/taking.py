"""A server that takes whatever an SDK sends, and counts it: `python taking.py`.

Prints its port, then, for each line of its standard input, what has come since the line before, as JSON:
requests, bytes as they were on the wire (heads included), events by the marker in each, and how many
of them were different. The bodies are only looked at then, so that counting costs nobody's time.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
import zlib

MARKER = re.compile(rb"marker-(\d{8})")
ANSWER = b'{"code":200,"status":1,"success":true,"error":null}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class ClaimedEntry:
    """What has come."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.wire_bytes = 0

    def figures(self) -> str:
        """Return what has come since the last time, as JSON."""
        bodies, self.bodies = self.bodies, []
        wire_bytes, self.wire_bytes = self.wire_bytes, 0
        markers = [marker for body in bodies for marker in MARKER.findall(plain(body))]
        return json.dumps(
            {
                "requests": len(bodies),
                "wire_bytes": wire_bytes,
                "events": len(markers),
                "different": len(set(markers)),
            }
        )


def plain(body: bytes) -> bytes:
    """Undo gzip and deflate."""
    if body[:2] == b"\x1f\x8b":
        return gzip.decompress(body)
    if body[:1] == b"\x78":
        return zlib.decompress(body)
    return body


class Connection(asyncio.Protocol):
    """One connection; requests with a Content-Length or in chunks, one after another."""

    def __init__(self, taken: ClaimedEntry) -> None:
        self._taken = taken
        self._buffer = b""
        self._pieces: list[bytes] = []
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._taken.wire_bytes += len(data)
        while data:
            if self._missing:
                self._pieces.append(data[: self._missing])
                data, self._missing = data[self._missing :], max(0, self._missing - len(data))
                if not self._missing:
                    self._answer(b"".join(self._pieces))
                continue
            head, end, data = (self._buffer + data).partition(b"\r\n\r\n")
            if not end:
                self._buffer = head
                return
            self._buffer = b""
            self._read_head(head)

    def _read_head(self, head: bytes) -> None:
        lower = head.lower()
        assert b"transfer-encoding: chunked" not in lower, head
        length = re.search(rb"content-length: *(\d+)", lower)
        self._missing = int(length[1]) if length else 0
        self._pieces = []
        if b"expect: 100-continue" in lower:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # type: ignore[attr-defined]
        if not self._missing:
            self._answer(b"")

    def _answer(self, body: bytes) -> None:
        if body:
            self._taken.bodies.append(body)
        self._transport.write(HEAD % len(ANSWER) + ANSWER)  # type: ignore[attr-defined]


async def main() -> None:
    """Serve until the standard input ends."""
    taken = ClaimedEntry()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(taken), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(taken.figures(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
