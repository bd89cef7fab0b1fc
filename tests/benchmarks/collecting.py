"""Batches a second that the collector takes in: `python tests/benchmarks/collecting.py [seconds]`.

One uvicorn process, pinned to one core; the browsers are another process on the other. Each request is a
batch of ten events of 25 properties, as mixpanel-browser sends it, of a visitor with a signed cookie, and
from an address of its own. Nothing is delivered meanwhile. Prints a table; not collected by pytest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
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

from support.collecting import PAGE, QUERY, event, form  # noqa: E402  # needs the path of the line above
from support.trackers import SECRET_KEY, TOKEN, known  # noqa: E402
from support.waiting import wait_until  # noqa: E402

CONNECTIONS = 16
VISITORS = 2_000
EVENTS = 10
PROPERTIES = 15


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


def main() -> None:
    """Serve, send, print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as place, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "uvicorn", "--factory", "collecting:app", "--port", str(port)]
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
