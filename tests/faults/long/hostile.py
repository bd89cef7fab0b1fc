"""A hostile client of the collector: floods, huge and slow bodies, forged users, foreign tokens, other sites.

Meanwhile somebody looks at pages of the same application. Each attack is repeated against a path of the
application itself, by which one sees what the server alone makes of it.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from collector import Mixpanel, served
from processes import HERE, KEY, TOKEN, Result, percentile, running, say
from support.collecting import PAGE, QUERY, event, form
from support.waiting import wait_until

if TYPE_CHECKING:
    from argparse import Namespace

SECONDS = 10.0
PAUSE_S = 0.01
GOAL_TIMES = 2.0
GOAL_MB = 32.0
COLUMNS = (
    "attack",
    "requests sent",
    "page p50, p99 ms",
    "the same against the application: p50, p99 ms",
    "memory, MB more",
    "events taken",
)
BROWSER = {"User-Agent": PAGE["user-agent"], "Accept": "text/html"}


def _request(path: str, body: bytes, **headers: str) -> bytes:
    own = {**PAGE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in own.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _attacks(path: str) -> dict[str, tuple[int, bytes]]:
    """Return requests by what they are, with how many a second."""
    now_s = time.time()
    forged = form([event(token=TOKEN, user="victim", time=now_s)])
    foreign = form([event(token="other", time=now_s)])
    own = form([event(token=TOKEN, time=now_s)])
    return {
        "10,000 requests of junk a second": (10_000, _request(path, b"data=" + b"!" * 200)),
        "forged users": (1_000, _request(path, forged)),
        "foreign tokens": (1_000, _request(path, foreign)),
        "posts of other sites": (1_000, _request(path, own, sec_fetch_site="cross-site")),
        "bodies of 45 MB": (10, _request(path, bytes(45 * 2**20))),
        "bodies of a byte a second": (0, _request(path, own)),
    }


class Visitor:
    """Looks at pages, one after the other."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.pages = 0

    def get(self, path: str) -> bytes:
        """Ask for one."""
        self._connection.request("GET", path, headers=BROWSER)
        return self._connection.getresponse().read()

    def look(self, seconds: float) -> list[float]:
        """Look at pages for so long; return how long each took, in milliseconds."""
        took = []
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            began_s = time.monotonic()
            self.get("/")
            self.pages += 1
            took.append((time.monotonic() - began_s) * 1000)
            wait_until(lambda: False, PAUSE_S)
        return took


def _under(port: int, visitor: Visitor, per_s: int, request: bytes) -> tuple[int, list[float]]:
    with running(
        HERE / "flood.py", port, SECONDS, per_s, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(request)
        process.stdin.close()
        took = visitor.look(SECONDS)
        process.wait(60)
        said = process.stdout.read().decode().strip()
        process.stdout.close()
    return int(said or 0), took


def _memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _shown(took: list[float]) -> str:
    return f"{percentile(took, 0.5):.1f}, {percentile(took, 0.99):.1f}"


def run(_options: Namespace) -> Result:
    """Attack in each way, and count what was taken."""
    mixpanel = Mixpanel()
    rows: list[tuple[object, ...]] = []
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as place, served(mixpanel) as url, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        environment = {
            "MIXPANEL_TOKEN": TOKEN,
            "MIXPANEL_VISITOR_SECRET_KEY": KEY,
            "MIXPANEL_API_HOST": url,
            "MIXPANEL_VISITOR_SPOOL": str(Path(place) / "spool"),
            "MIXPANEL_VISITOR_COLLECTOR_PATH": "/m",
            "MIXPANEL_VISITOR_COLLECTOR_TRUST": "refuse",
        }
        command = ("-m", "uvicorn", "--fd", listener.fileno(), "--log-level", "error", "hostile_app:asgi_app")
        fds = {"pass_fds": (listener.fileno(),)}
        with running(*command, env=environment, cwd=HERE, **fds) as server:
            visitor = Visitor(port)
            visitor.look(2)
            before = visitor.look(SECONDS)
            rows.append(("none", 0, _shown(before), "", "", 0))
            attacks, others = _attacks(f"/m/track/?{QUERY}"), _attacks("/elsewhere")
            start_mb = _memory_mb(server.pid)
            for name, (per_s, request) in attacks.items():
                say(f"hostile: {name}")
                sent, took = _under(port, visitor, per_s, request)
                more_mb = _memory_mb(server.pid) - start_mb
                _, plain = _under(port, visitor, *others[name])
                stats = json.loads(visitor.get("/stats"))
                taken = stats["accepted"] - visitor.pages - sum(stats["refused"].values())
                rows.append((name, sent, _shown(took), _shown(plain), f"{more_mb:.1f}", taken))
                worst = max(percentile(before, 0.99), percentile(plain, 0.99))
                if percentile(took, 0.99) > GOAL_TIMES * worst:
                    missed.append(f"{name}: p99 {percentile(took, 0.99):.1f} ms")
                if more_mb > GOAL_MB:
                    missed.append(f"{name}: {more_mb:.1f} MB more")
                if taken:
                    missed.append(f"{name}: {taken} events were taken")
            wait_until(lambda: len(mixpanel.bodies) >= visitor.pages, 60)
    foreign = sum(b'"Viewed"' not in body for body in mixpanel.bodies.values())
    if len(mixpanel.bodies) - foreign != visitor.pages or foreign:
        missed.append(f"{visitor.pages} pages, {len(mixpanel.bodies)} events, {foreign} of them foreign")
    return Result("hostile", COLUMNS, rows, missed)
