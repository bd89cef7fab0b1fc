"""The browser's events through a server that is killed: what was answered 200 arrives.

In each round browsers send batches to a server, Mixpanel is away in most of them, and the server is killed by
kill -9 in the middle. The next one is started at once on the same listening socket, as a supervisor does, so
that requests that wait there meanwhile are its first. Some browsers are closed before they have an answer. At
the end Mixpanel is back, and a worker delivers what is left.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.client
import http.server
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from kill import retry_dead_letters
from processes import HERE, KEY, TOKEN, Result, running, say
from support.collecting import PAGE, QUERY, event, form
from support.waiting import wait_until

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

BROWSERS = 3
AWAY_SHARE = 0.7
LEAVES_SHARE = 0.1
ROUND_S = 0.4
TAKEN_WITHIN_S = 60.0
SERVERS = {
    "uvicorn": ("-m", "uvicorn", "--fd", "{fd}", "--log-level", "warning", "collected_app:asgi_app"),
    "gunicorn gthread": (
        *("-m", "gunicorn", "--bind", "fd://{fd}", "--workers", "1", "--worker-class", "gthread"),
        *("--threads", "4", "--log-level", "critical", "collected_app:wsgi_app"),
    ),
}
COLUMNS = (
    "server",
    "rounds with kill -9",
    "of them without Mixpanel",
    "batches",
    "answered 200",
    "no answer",
    "closed",
    "events answered 200",
    "lost",
    "altered",
    "delivered again",
    "not answered, but there",
    "set aside and sent again",
    "seconds",
    "seed",
)


class Mixpanel:
    """Remembers each event by its insert ID, and can be away."""

    def __init__(self) -> None:
        self.is_away = False
        self.bodies: dict[str, bytes] = {}
        self.again = 0
        self.altered = 0
        self._lock = threading.Lock()

    def take(self, payload: bytes) -> int:
        """Remember a batch; return its size."""
        events = orjson.loads(payload)
        with self._lock:
            for each in events:
                insert_id, body = each["properties"]["$insert_id"], orjson.dumps(each)
                known = self.bodies.setdefault(insert_id, body)
                if known is not body:
                    self.again += 1
                    self.altered += known != body
        return len(events)


@contextlib.contextmanager
def served(mixpanel: Mixpanel) -> Iterator[str]:
    """Serve it; give its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            payload = self.rfile.read(int(self.headers["Content-Length"]))
            if mixpanel.is_away:
                self.close_connection = True
                return
            count = mixpanel.take(gzip.decompress(payload))
            body = orjson.dumps({"code": 200, "num_records_imported": count, "status": "OK"})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            """Nothing: there are thousands."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: Any) -> None:
            """Clients are killed here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Browser:
    """Sends batches until it is told to end; a batch that was not taken is sent again, as the SDK does."""

    def __init__(self, number: int, port: int, seed: int) -> None:
        self.taken: set[str] = set()
        self.sent: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self._number = number
        self._port = port
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Send no more after what is under way."""
        self._ended.set()

    def wait(self) -> None:
        """Wait for what is under way."""
        self._thread.join(60)

    def _run(self) -> None:
        device = f"{self._number:08x}-4d5e-4f60-8a7b-9c0d1e2f3a4b"
        batch = 0
        while not self._ended.is_set():
            batch += 1
            count = self._chance.randrange(1, 50)
            events = []
            for number in range(count):
                each = event(token=TOKEN, device=device, time=round(time.time(), 3))
                each["properties"]["$insert_id"] = f"{self._number}-{batch}-{number}"
                events.append(each)
            ids = {each["properties"]["$insert_id"] for each in events}
            self.sent |= ids
            self._send(form(events), ids)
            self._ended.wait(self._chance.uniform(0, 0.05))

    def _send(self, body: bytes, ids: set[str]) -> None:
        for _ in range(8):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            address = f"10.0.{self._number % 250}.{self._chance.randrange(250)}"
            headers = {**PAGE, "x-forwarded-for": address}
            try:
                connection.request("POST", f"/m/track/?{QUERY}", body, headers)
                if self._chance.random() < LEAVES_SHARE:
                    self.outcomes["closed"] += 1
                    return
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException):
                self.outcomes["no answer"] += 1
            else:
                self.outcomes[str(status)] += 1
                if status == 200:
                    self.taken |= ids
                    return
            finally:
                connection.close()
            if self._ended.wait(0.05):
                return


def _one(server: str, rounds: int, seed: int) -> tuple[tuple[object, ...], list[str]]:
    chance = random.Random(seed)
    began_s = time.monotonic()
    mixpanel = Mixpanel()
    browsers: list[Browser] = []
    away = 0
    with tempfile.TemporaryDirectory() as place, served(mixpanel) as url, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        environment = {
            "MIXPANEL_TOKEN": TOKEN,
            "MIXPANEL_VISITOR_SECRET_KEY": KEY,
            "MIXPANEL_API_HOST": url,
            "MIXPANEL_VISITOR_SPOOL": str(Path(place) / "spool"),
            "MIXPANEL_VISITOR_COLLECTOR_PATH": "/m",
            "MIXPANEL_VISITOR_TRUSTED_PROXIES": "127.0.0.1",
        }
        command = [part.format(fd=listener.fileno()) for part in SERVERS[server]]
        for done in range(rounds):
            mixpanel.is_away = chance.random() < AWAY_SHARE
            away += mixpanel.is_away
            now = [Browser(done * BROWSERS + each, port, chance.randrange(2**32)) for each in range(BROWSERS)]
            browsers += now
            options = {"pass_fds": (listener.fileno(),), "cwd": HERE, "start_new_session": True}
            with running(*command, env=environment, **options) as process:
                if not wait_until(lambda now=now: any(each.taken for each in now), TAKEN_WITHIN_S):
                    raise RuntimeError(f"{server} took nothing in round {done + 1}")
                wait_until(lambda: False, chance.uniform(0, ROUND_S))
                _kill(process)
            # Their last requests may wait for the next server: the wait for their answers is not ours.
            for each in now:
                each.end()
            if (done + 1) % 25 == 0:
                taken = sum(len(each.taken) for each in browsers)
                say(f"collector, {server}: round {done + 1}, {taken} taken")
        listener.close()
        for each in browsers:
            each.wait()
        mixpanel.is_away = False
        worker = (sys.executable, "-m", "mixpanel_visitor", "worker", "--once")
        drain = functools.partial(
            subprocess.run, worker, env={**os.environ, **environment}, check=False, timeout=300
        )
        is_drained = drain().returncode == 0
        set_aside = retry_dead_letters(Path(place) / "spool")
        if set_aside:
            is_drained = drain().returncode == 0 and is_drained
    taken = set().union(*(each.taken for each in browsers))
    sent = set().union(*(each.sent for each in browsers))
    outcomes: Counter[str] = sum((each.outcomes for each in browsers), Counter())
    lost = taken - mixpanel.bodies.keys()
    row = (
        *(server, rounds, away, sum(outcomes.values())),
        *(outcomes["200"], outcomes["no answer"], outcomes["closed"]),
        *(len(taken), len(lost), mixpanel.altered, mixpanel.again, len(mixpanel.bodies.keys() - taken)),
        set_aside,
        *(round(time.monotonic() - began_s), seed),
    )
    missed = [f"{server}: {len(lost)} lost"] if lost else []
    if mixpanel.altered:
        missed.append(f"{server}: {mixpanel.altered} altered")
    if mixpanel.bodies.keys() - sent:
        missed.append(f"{server}: events that nobody has sent")
    if not is_drained:
        missed.append(f"{server}: the worker did not empty the spool")
    return row, missed


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a server with all its workers at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(options: Namespace) -> Result:
    """Kill until the rounds are over, deliver the rest, count; half of the rounds for each server."""
    rounds = (options.rounds or 300) // len(SERVERS)
    rows, missed = [], []
    for number, server in enumerate(SERVERS):
        row, of_server = _one(server, rounds, options.seed + number)
        rows.append(row)
        missed += of_server
    return Result("collector", COLUMNS, rows, missed)
