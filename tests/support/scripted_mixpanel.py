"""A Mixpanel that keeps what it was sent and misbehaves by script, request by request, then is well."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections import Counter
from typing import TYPE_CHECKING

from support.scripted_server import Request, ScriptedServer, http

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Act = Callable[["ScriptedMixpanel", socket.socket], bool]
    """Plays one request on a connection; true: the connection can go on."""

LIMIT_BYTES = 2_097_152
"""What Mixpanel's documentation names as the limit of a request in one place (it says 10 MB in another)."""


class ScriptedMixpanel(ScriptedServer):
    """Plays one act for each request, whatever connection it comes on, and takes all after the last one.

    `taken` counts the deliveries of each record's bytes; `sizes` are those of the uncompressed requests.
    """

    def __init__(self, *acts: Act, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.taken: Counter[bytes] = Counter()
        self.sizes: list[int] = []
        self._acts = list(acts)
        self._lock = threading.Lock()
        super().__init__(ScriptedMixpanel._serve, context=context, port=port)

    def _serve(self, sock: socket.socket) -> None:
        while True:
            if self._context is None and not sock.recv(1, socket.MSG_PEEK):
                return  # an act is for a request, not for a connection that is closed
            with self._lock:
                act = self._acts.pop(0) if self._acts else taking
            if not act(self, sock):
                return

    def records(self, request: Request) -> list[bytes]:
        """The records of a request, in the bytes that they came in."""
        encoded = request.headers.get("content-encoding") == "gzip"
        payload = gzip.decompress(request.body) if encoded else request.body
        with self._lock:
            self.sizes.append(len(payload))
        # The tests put compact JSON: whatever was made anew on the way has other bytes, and counts as alien.
        records = [json.dumps(record, separators=(",", ":")).encode() for record in json.loads(payload)]
        return records if b"[" + b",".join(records) + b"]" == payload else [payload]

    def take(self, records: list[bytes]) -> None:
        """Count these as imported."""
        with self._lock:
            self.taken.update(records)


def ok(records: list[bytes]) -> bytes:
    """The answer to a request that was taken whole."""
    return http(json.dumps({"code": 200, "num_records_imported": len(records), "status": "OK"}).encode())


def taking(mixpanel: ScriptedMixpanel, sock: socket.socket) -> bool:
    """Take everything."""
    request = mixpanel.read(sock)
    if request is None:
        return False
    records = mixpanel.records(request)
    mixpanel.take(records)
    sock.sendall(ok(records))
    return True


def saying(answer: bytes, *, closes: bool = False) -> Act:
    """Take nothing, and answer these bytes."""

    def act(mixpanel, sock):
        request = mixpanel.read(sock)
        if request is None:
            return False
        mixpanel.records(request)
        sock.sendall(answer)
        return not closes

    return act


def reset(sock: socket.socket) -> bool:
    """Hang up with a reset instead of an orderly end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def resetting_in_the_request(mixpanel: ScriptedMixpanel, sock: socket.socket) -> bool:
    """Read a little and reset the connection."""
    sock.recv(100)
    return reset(sock)


def reading_then_resetting(mixpanel: ScriptedMixpanel, sock: socket.socket) -> bool:
    """Read everything, take nothing, and reset."""
    mixpanel.read(sock)
    return reset(sock)


def taking_then_resetting(mixpanel: ScriptedMixpanel, sock: socket.socket) -> bool:
    """Take everything, and reset before the answer."""
    mixpanel.take(mixpanel.records(mixpanel.read(sock)))
    return reset(sock)


def taking_then_breaking_off(mixpanel: ScriptedMixpanel, sock: socket.socket) -> bool:
    """Take everything, and break off within the answer."""
    records = mixpanel.records(mixpanel.read(sock))
    mixpanel.take(records)
    answer = ok(records)
    sock.sendall(answer[: len(answer) - 20])
    return False


def hanging(mixpanel: ScriptedMixpanel, sock: socket.socket) -> bool:
    """Take everything, and never answer."""
    mixpanel.take(mixpanel.records(mixpanel.read(sock)))
    mixpanel.closing.wait(20)
    return False


def never_reading(mixpanel: ScriptedMixpanel, sock: socket.socket) -> bool:
    """Accept, and read nothing."""
    mixpanel.closing.wait(20)
    return False


def trickling(mixpanel: ScriptedMixpanel, sock: socket.socket) -> bool:
    """Take everything, and answer one byte after the other, for ever."""
    mixpanel.take(mixpanel.records(mixpanel.read(sock)))
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n")
    while not mixpanel.closing.wait(0.01):
        sock.sendall(b" ")
    return False


def limited(limit_bytes: int, *, named: bool, requests: int) -> list[Act]:
    """Refuse what is over `limit_bytes` uncompressed with 413, for so many requests."""
    told = f" over the limit of {limit_bytes} bytes" if named else ""
    body = json.dumps({"error": f"request exceeds{told}", "status": "Request Entity Too Large"}).encode()

    def act(mixpanel, sock):
        request = mixpanel.read(sock)
        if request is None:
            return False
        records = mixpanel.records(request)
        if mixpanel.sizes[-1] > limit_bytes:
            sock.sendall(http(body, status="413 Request Entity Too Large"))
        else:
            mixpanel.take(records)
            sock.sendall(ok(records))
        return True

    return [act] * requests


def refusing(names: set[str], *, spelling: str = "$insert_id", wrong_index: bool = False) -> Act:
    """Take all but the events of these names, and say which were not, as `/import?strict=1` does."""

    def act(mixpanel, sock):
        request = mixpanel.read(sock)
        if request is None:
            return False
        records = mixpanel.records(request)
        failed, good = [], []
        for index, record in enumerate(records):
            event = json.loads(record)
            if event["event"] not in names:
                good.append(record)
                continue
            failed.append(
                {
                    "index": (index + 1) % len(records) if wrong_index else index,
                    spelling: event["properties"]["$insert_id"],
                    "field": "properties.distinct_id",
                    "message": "some reason",
                }
            )
        mixpanel.take(good)
        answer = {"code": 400, "num_records_imported": len(good), "failed_records": failed}
        answer |= {"error": "some data points in the request failed validation", "status": "Bad Request"}
        sock.sendall(http(json.dumps(answer).encode(), status="400 Bad Request") if failed else ok(good))
        return True

    return act
