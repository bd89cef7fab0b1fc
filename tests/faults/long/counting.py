"""A small Mixpanel that counts: it remembers a digest of every event, and can be down.

`python counting.py PORT_FILE [--count-only]`; POST /down and /up, GET /figures, POST /verify.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

FIRST_TIME_S = 1_763_934_567
_BETWEEN = b"}},{"


def event_body(writer: int, number: int) -> bytes:
    """Return the bytes of the event that this writer stored under this number: anybody can work them out."""
    return b'{"event":"Killed","properties":{"time":%d,"distinct_id":"w%d","$insert_id":"%05d-%09d"}}' % (
        FIRST_TIME_S + number,
        writer,
        writer,
        number,
    )


def four_tuple(body: bytes) -> tuple[Any, ...]:
    """Return what Mixpanel deduplicates by."""
    event = orjson.loads(body)
    properties = event["properties"]
    return event["event"], properties["time"], properties["distinct_id"], properties["$insert_id"]


def split(raw: bytes) -> list[bytes]:
    """Cut the array into the bytes of its events; ours end in two braces and nest nothing else."""
    parts = raw[1:-1].split(_BETWEEN)
    last = len(parts) - 1
    return [(b"{" if i else b"") + part + (b"}}" if i < last else b"") for i, part in enumerate(parts)]


class Book:
    """What has arrived."""

    def __init__(self, *, count_only: bool) -> None:
        self.count_only = count_only
        self.down = False
        self.refusals = 0
        self.requests = 0
        self.received = 0
        self.redelivered = 0
        self.altered = 0
        self.surviving = 0
        self.first_s = 0.0
        self.last_s = 0.0
        self._digests: dict[bytes, bytes] = {}
        self._odd: dict[bytes, set[tuple[Any, ...]]] = {}
        self._lock = threading.Lock()

    def take(self, raw: bytes) -> int:
        """Enter the events of one request; give their number."""
        if self.count_only:
            count = raw.count(_BETWEEN) + 1
            with self._lock:
                self._tally(count)
            return count
        bodies = split(raw)
        with self._lock:
            for body in bodies:
                self._enter(body)
            self._tally(len(bodies))
        return len(bodies)

    def _tally(self, count: int) -> None:
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.requests += 1
        self.received += count

    def _enter(self, body: bytes) -> None:
        insert_id = body.rsplit(b'"', 2)[-2]
        digest = hashlib.sha256(body).digest()[:16]
        known = self._digests.setdefault(insert_id, digest)
        if known is digest:
            return
        self.redelivered += 1
        if known != digest:
            # One more that Mixpanel's own deduplication would keep, if the 4-tuple differs as well.
            self.altered += 1
            writer, _, number = insert_id.partition(b"-")
            tuples = self._odd.setdefault(insert_id, {four_tuple(event_body(int(writer), int(number)))})
            before = len(tuples)
            tuples.add(four_tuple(body))
            self.surviving += len(tuples) - before

    def verify(self, accepted: dict[int, int]) -> dict[str, int]:
        """Compare with what writers were told is safe: the numbers below `accepted[writer]`."""
        lost = altered = 0
        with self._lock:
            for writer, count in accepted.items():
                for number in range(count):
                    digest = self._digests.get(b"%05d-%09d" % (writer, number))
                    if digest is None:
                        lost += 1
                    elif digest != hashlib.sha256(event_body(writer, number)).digest()[:16]:
                        altered += 1
            return {
                "lost": lost,
                "altered": altered + self.altered,
                "redelivered": self.redelivered,
                "surviving": self.surviving,
                "distinct": len(self._digests),
                "requests": self.requests,
            }

    def figures(self) -> dict[str, float]:
        """Return the counts of now."""
        return {
            "received": self.received,
            "refusals": self.refusals,
            "requests": self.requests,
            "took_s": self.last_s - self.first_s,
        }


def handler(book: Book) -> type[BaseHTTPRequestHandler]:
    """Make the handler that writes into this book."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(200, book.figures())

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path in ("/up", "/down"):
                book.down = self.path == "/down"
                self._answer(200, {})
            elif self.path == "/verify":
                accepted = {int(writer): count for writer, count in orjson.loads(raw).items()}
                self._answer(200, book.verify(accepted))
            elif book.down:
                book.refusals += 1
                self._answer(503, {"code": 503, "error": "down", "status": "Service Unavailable"})
            else:
                if self.headers["Content-Encoding"] == "gzip":
                    raw = gzip.decompress(raw)
                self._answer(200, {"code": 200, "num_records_imported": book.take(raw), "status": "OK"})

        def _answer(self, status: int, content: object) -> None:
            body = orjson.dumps(content)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
            pass

    return Handler


class Server(ThreadingHTTPServer):
    """A server whose clients may be killed in the middle of a request, or before its answer."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away; half a body counts for nothing."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, EOFError)):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve until ended."""
    port_file = Path(sys.argv[1])
    server = Server(("127.0.0.1", 0), handler(Book(count_only="--count-only" in sys.argv)))
    temporary = port_file.with_suffix(".new")
    temporary.write_text(str(server.server_address[1]))
    temporary.replace(port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
