"""Batches a second that the collector takes in: `python tests/benchmarks/collecting.py [--seconds N]`.

`--http` and `--loop` are uvicorn's (httptools and uvloop are packages of their own); `--bare` has the same
application read the bodies and answer, without us: what the server alone takes. `--profile` prints what the
endpoint does for 1,000 batches in this process, by cProfile.

One uvicorn process, pinned to one core; the browsers are another process on the other. Each request is a
batch of ten events of 25 properties, as mixpanel-browser sends it, of a visitor with a signed cookie, and
from an address of its own. Nothing is delivered meanwhile. Prints a table; not collected by pytest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import os
import pstats
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

from support.asgi_driver import http_scope  # noqa: E402  # needs the path of the line above
from support.collecting import PAGE, QUERY, event, form  # noqa: E402
from support.trackers import SECRET_KEY, TOKEN, known  # noqa: E402
from support.waiting import wait_until  # noqa: E402

from mixpanel_visitor.core.collector.rate_limit import RateLimit  # noqa: E402
from mixpanel_visitor.core.request import facts_from_scope  # noqa: E402
from mixpanel_visitor.tracking.own_endpoints import OwnEndpoints  # noqa: E402
from mixpanel_visitor.tracking.tracker import engine_of  # noqa: E402

CONNECTIONS = 16
VISITORS = 2_000
EVENTS = 10
PROPERTIES = 15


def bare() -> Any:
    """Make an application that reads what browsers send, and says that it is taken."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    return page


def app() -> Any:
    """Make the application that uvicorn serves: nothing but a collector."""
    from mixpanel_visitor.asgi import VisitorMiddleware

    async def page(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    return VisitorMiddleware(
        page,
        token=TOKEN,
        secret_key=SECRET_KEY,
        spool=os.environ["SPOOL"],
        deliver=False,
        collector_path="/m",
        trusted_proxies="127.0.0.1",
    )


def _request(number: int) -> bytes:
    device = f"{number:08x}-4d5e-4f60-8a7b-9c0d1e2f3a4b"
    more = {f"property {each}": f"a value of some length, {each}" for each in range(PROPERTIES)}
    now_s = time.time()
    body = form([event(device=device, time=now_s, **more) for _ in range(EVENTS)])
    headers = {
        **PAGE,
        **known(device, issued_at_s=int(now_s)),
        "host": "localhost",
        "content-length": str(len(body)),
        "x-forwarded-for": f"10.1.{number // 250}.{number % 250}",
    }
    lines = [f"POST /m/track/?{QUERY} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _browse(port: int, requests: list[bytes], ends_s: float, answers: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < ends_s:
        writer.write(random.choice(requests))
        head = await reader.readuntil(b"\r\n\r\n")
        answers.append(int(head[9:12]))
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()


async def _load(port: int, seconds: float) -> list[int]:
    requests = [_request(number) for number in range(VISITORS)]
    answers: list[int] = []
    ends_s = time.monotonic() + seconds
    await asyncio.gather(*(_browse(port, requests, ends_s, answers) for _ in range(CONNECTIONS)))
    return answers


def _is_up(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def profile(batches: int = 1_000) -> None:
    """Print what the endpoint does for so many batches, the most expensive first."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["SPOOL"] = f"{place}/spool"
        middleware = app()
        head, _, body = _request(0).partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        scope = http_scope("POST", "/m/track/", headers, query_string=QUERY.encode())
        facts = facts_from_scope(scope)
        endpoint = OwnEndpoints(engine_of(middleware.tracker)).find(scope["path"], facts)
        assert endpoint is not None
        # Unlimited: it is one visitor here, from one address.
        endpoint._by_visitor = endpoint._by_address = RateLimit(per_s=1e9, burst=1e9)  # type: ignore[attr-defined]
        profiler = cProfile.Profile()
        for _ in range(batches):
            profiler.enable()
            reply = endpoint.take(scope["path"], facts, body, in_background=False)
            profiler.disable()
            assert reply.status == 200
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Serve, send, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--http", default="h11")
    parser.add_argument("--loop", default="asyncio")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.profile:
        profile()
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Serve, send, print a table."""
    seconds = options.seconds
    with tempfile.TemporaryDirectory() as place, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        served = "collecting:bare" if options.bare else "collecting:app"
        command = [sys.executable, "-m", "uvicorn", "--factory", served, "--port", str(port)]
        command += ["--http", options.http, "--loop", options.loop]
        environment = {**os.environ, "SPOOL": f"{place}/spool", "PYTHONPATH": str(Path(__file__).parent)}
        server = subprocess.Popen([*command, "--log-level", "error"], env=environment)
        try:
            assert wait_until(lambda: _is_up(port), 60)
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(server.pid, cores[:1])
            os.sched_setaffinity(0, cores[-1:])
            asyncio.run(_load(port, 1.0))
            before_s = _cpu_s(server.pid)
            answers = asyncio.run(_load(port, seconds))
            cpu_s = _cpu_s(server.pid) - before_s
        finally:
            server.terminate()
            server.wait()
    taken = answers.count(200)
    row = (taken / seconds, len(answers) - taken, cpu_s / taken * 1e6, taken / cpu_s)
    sys.stdout.write(
        "| batches/s | answered otherwise | processor time for a batch, us | batches/s of a whole core |\n"
        "|---|---|---|---|\n"
        f"| {' | '.join(f'{each:,.0f}' for each in row)} |\n"
    )


if __name__ == "__main__":
    main()
