"""Sends one request over and over: `python flood.py PORT SECONDS PER_SECOND < REQUEST`; says how many.

Over a few connections, with several requests under way on each; with `--no-wait` a client that sends on and
never waits for answers. With PER_SECOND 0 it sends one request a byte a second over many connections instead.
Each `@@` in a request is two digits that differ from connection to connection, and from time to time.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import sys
import time

CONNECTIONS = 32
SLOW_CONNECTIONS = 100
AT_ONCE = 10
VARYING = b"@@"


class Connection:
    """Requests on one connection, of which a few are under way; a new one where the server has closed it."""

    def __init__(self, port: int, request: bytes, *, waits: bool) -> None:
        self._port = port
        self._request = request
        self._waits = waits
        self._count = max(1, min(AT_ONCE, 65_536 // len(request)))
        self.answered = 0
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setblocking(False)
        self._left = b""
        self._unanswered = 0

    def read(self) -> None:
        """Read answers."""
        with contextlib.suppress(BlockingIOError):
            try:
                answers = self.socket.recv(1 << 20)
            except ConnectionError:
                answers = b""
            if not answers:
                self.socket.close()
                self._open()
            count = answers.count(b"HTTP/1.1 ")
            self.answered += count
            self._unanswered = max(0, self._unanswered - count)

    def write(self, *, may_begin: bool) -> int:
        """Send what is left, or the next requests; return how many were begun."""
        begun = 0
        if not self._left and may_begin and not (self._waits and self._unanswered):
            varied = self._request.replace(VARYING, b"%02d" % random.randrange(100))
            self._left, self._unanswered = varied * self._count, self._count
            begun = self._count
        if self._left:
            with contextlib.suppress(OSError):
                self._left = self._left[self.socket.send(self._left) :]
        return begun


def flood(port: int, seconds: float, per_s: int, request: bytes, *, waits: bool) -> tuple[int, int]:
    """Send as many requests as asked for, or as the server takes; return how many, and how many answers."""
    connections = [Connection(port, request, waits=waits) for _ in range(CONNECTIONS)]
    sent, began_s = 0, time.monotonic()
    while (now_s := time.monotonic()) < began_s + seconds:
        by_socket = {each.socket: each for each in connections}
        readable, _, _ = select.select(list(by_socket), [], [], 0.001)
        for each in readable:
            by_socket[each].read()
        for connection in connections:
            sent += connection.write(may_begin=sent <= (now_s - began_s) * per_s)
    return sent, sum(each.answered for each in connections)


def trickle(port: int, seconds: float, request: bytes) -> tuple[int, int]:
    """Send one byte of a request a second, over many connections."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(SLOW_CONNECTIONS)]
    head = request.index(b"\r\n\r\n") + 4
    for each in sockets:
        each.sendall(request[:head])
    ends_s, at = time.monotonic() + seconds, head
    while time.monotonic() < ends_s:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.sendall(request[at : at + 1])
        at += 1
        time.sleep(1)
    return len(sockets), 0


def main() -> None:
    """Read the request, send it, say how often."""
    port, seconds, per_s = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    request = sys.stdin.buffer.read()
    if per_s:
        counts = flood(port, seconds, per_s, request, waits="--no-wait" not in sys.argv)
    else:
        counts = trickle(port, seconds, request)
    sys.stdout.write(" ".join(map(str, counts)))


if __name__ == "__main__":
    main()
