"""A hostile client of the collector: floods, huge and slow bodies, forged users, foreign tokens, other sites.

Meanwhile somebody looks at pages of the same application. Each attack meets a fresh process, and then one
with the same application without us, by which one sees what the server alone makes of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from collector import Mixpanel, served
from processes import HERE, KEY, TOKEN, Result, percentile, running, say
from support.collecting import PAGE, QUERY, event, form
from support.waiting import wait_until

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

SECONDS = 10.0
BEFORE_S = 5.0
PAUSE_S = 0.01
GOAL_TIMES = 2.0
GOAL_MB = 32.0
COLUMNS = (
    "attack",
    "requests sent, answered",
    "page p50, p99 ms before",
    "meanwhile",
    "memory, MB more",
    "without us: sent, answered",
    "before",
    "meanwhile",
    "MB more",
    "events taken",
)
BROWSER = {"User-Agent": PAGE["user-agent"], "Accept": "text/html"}
ANYBODY = "10.@@.@@.@@"


class Attack(NamedTuple):
    """A request, how many of it a second (0: a byte of it a second), and whether its sender waits."""

    name: str
    per_s: int
    request: bytes
    waits: bool = True


@dataclasses.dataclass(slots=True)
class Outcome:
    """What an attack did to a process; `taken`: the attacker's events, in the process that takes any."""

    counts: tuple[int, ...]
    before_ms: list[float]
    meanwhile_ms: list[float]
    more_mb: float
    pages: int
    taken: int


def _request(path: str, body: bytes, **headers: str) -> bytes:
    own = {**PAGE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in own.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _attacks() -> list[Attack]:
    path, now_s = f"/m/track/?{QUERY}", time.time()
    forged = event(token=TOKEN, user="victim", time=now_s)
    foreign = form([event(token="other", time=now_s)])
    own = form([event(token=TOKEN, time=now_s)])
    junk = _request(path, b"data=" + b"!" * 200)
    from_anywhere = {"x_forwarded_for": ANYBODY}
    return [
        Attack("10,000 requests of junk a second", 10_000, junk),
        Attack("the same by a client that waits for no answer", 10_000, junk, waits=False),
        Attack("the same from a million addresses", 10_000, _request(path, b"data=!", **from_anywhere)),
        Attack("forged users", 1_000, _request(path, form([forged]))),
        Attack("foreign tokens", 1_000, _request(path, foreign)),
        Attack("posts of other sites", 1_000, _request(path, own, sec_fetch_site="cross-site")),
        Attack("bodies of 45 MB", 10, _request(path, bytes(45 * 2**20))),
        Attack("bodies of a byte a second", 0, _request(path, own)),
        Attack(
            "2,000 forged events in 1 MB, from a million addresses",
            100,
            _request(path, form([forged] * 2_000)[: 2**20], **from_anywhere),
        ),
    ]


class Visitor:
    """Looks at pages, one after the other."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.pages = 0

    def get(self, path: str) -> bytes:
        """Ask for one; on a connection that the server has closed meanwhile, once more."""
        try:
            self._connection.request("GET", path, headers=BROWSER)
            return self._connection.getresponse().read()
        except (http.client.RemoteDisconnected, BrokenPipeError):
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


@contextlib.contextmanager
def _serving(app: str, url: str, spool: Path) -> Iterator[tuple[int, int]]:
    """Run a server; give its process ID and its port."""
    with socket.socket() as free:  # not with --fd: uvicorn would leave Nagle's algorithm on
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "MIXPANEL_TOKEN": TOKEN,
        "MIXPANEL_VISITOR_SECRET_KEY": KEY,
        "MIXPANEL_API_HOST": url,
        "MIXPANEL_VISITOR_SPOOL": str(spool),
        "MIXPANEL_VISITOR_COLLECTOR_PATH": "/m",
        "MIXPANEL_VISITOR_COLLECTOR_TRUST": "refuse",
        "MIXPANEL_VISITOR_TRUSTED_PROXIES": "127.0.0.1",
    }
    command = ("-m", "uvicorn", "--port", port, "--no-proxy-headers", "--log-level", "critical", app)
    with running(*command, env=environment, cwd=HERE) as server:
        if not wait_until(lambda: _is_up(port), 60):
            raise RuntimeError("the server did not start")
        yield server.pid, port


def _is_up(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def _under(attack: Attack, app: str, url: str, spool: Path) -> Outcome:
    with _serving(app, url, spool) as (pid, port):
        visitor = Visitor(port)
        visitor.look(1)
        before_ms = visitor.look(BEFORE_S)
        start_mb = _memory_mb(pid, "VmRSS")
        options = () if attack.waits else ("--no-wait",)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with running(HERE / "flood.py", port, SECONDS, attack.per_s, *options, **pipes) as process:
            process.stdin.write(attack.request)
            process.stdin.close()
            meanwhile_ms = visitor.look(SECONDS)
            process.wait(60)
            counts = tuple(map(int, process.stdout.read().split()))
            process.stdout.close()
        more_mb = _memory_mb(pid, "VmHWM") - start_mb
        # What was not refused yet counts as accepted: the last batch may still be looked at.
        is_ours = app.endswith(":asgi_app")
        is_settled = not is_ours or wait_until(lambda: _taken(visitor) == 0, 10)
        taken = 0 if is_settled else _taken(visitor)
    return Outcome(counts, before_ms, meanwhile_ms, more_mb, visitor.pages, taken)


def _taken(visitor: Visitor) -> int:
    """Return how many events the application has taken that are not its own pages'."""
    stats = json.loads(visitor.get("/stats"))
    return stats["accepted"] - visitor.pages - sum(stats["refused"].values())


def _memory_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) / 1024


def _shown(took: list[float]) -> str:
    return f"{percentile(took, 0.5):.1f}, {percentile(took, 0.99):.1f}"


def _missed(attack: Attack, ours: Outcome, bare: Outcome) -> Iterator[str]:
    p99_ms = percentile(ours.meanwhile_ms, 0.99)
    worst_ms = max(percentile(ours.before_ms, 0.99), percentile(bare.meanwhile_ms, 0.99))
    if p99_ms > GOAL_TIMES * worst_ms:
        yield f"{attack.name}: p99 {p99_ms:.1f} ms"
    if ours.more_mb > max(GOAL_MB, bare.more_mb):
        yield f"{attack.name}: {ours.more_mb:.1f} MB more"
    if ours.taken:
        yield f"{attack.name}: {ours.taken} events were taken"


def run(_options: Namespace) -> Result:
    """Attack in each way, and count what was taken."""
    mixpanel = Mixpanel()
    rows: list[tuple[object, ...]] = []
    missed: list[str] = []
    pages = 0
    with tempfile.TemporaryDirectory() as place, served(mixpanel) as url:
        for attack in _attacks():
            say(f"hostile: {attack.name}")
            ours = _under(attack, "hostile_app:asgi_app", url, Path(place) / "spool")
            bare = _under(attack, "hostile_app:bare_app", url, Path(place) / "none")
            pages += ours.pages
            rows.append(
                (
                    *(attack.name, ", ".join(map(str, ours.counts))),
                    *(_shown(ours.before_ms), _shown(ours.meanwhile_ms), f"{ours.more_mb:.1f}"),
                    *(", ".join(map(str, bare.counts)), _shown(bare.before_ms), _shown(bare.meanwhile_ms)),
                    *(f"{bare.more_mb:.1f}", ours.taken),
                )
            )
            say(" | ".join(map(str, rows[-1])))
            missed += _missed(attack, ours, bare)
        with _serving("hostile_app:asgi_app", url, Path(place) / "spool"):
            wait_until(lambda: len(mixpanel.bodies) >= pages, 60)
    foreign = sum(b'"Viewed"' not in body for body in mixpanel.bodies.values())
    if len(mixpanel.bodies) - foreign != pages or foreign:
        missed.append(f"{pages} pages, {len(mixpanel.bodies)} events, {foreign} of them foreign")
    return Result("hostile", COLUMNS, rows, missed)
