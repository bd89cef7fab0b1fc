"""What load does to an application: `python tests/benchmarks/load.py [latency] [memory] ...`.

- latency: 1,000 requests/s, each with one event, over four uvicorn processes that deliver, and four that only
  store; windows of a few seconds by turns. How long a request took, at the client.
- memory: one million events while Mixpanel is not there.
- backlog: 10^3 to 10^6 events that wait for a process which begins to deliver.
- processes: 1 to 8 processes that fill one spool together, each as fast as it can.

All on this machine, Mixpanel's place is taken by the peers' counting server. Prints tables; not collected by
pytest, because timing never fails a test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "peers"))

from sdks import SECRET_KEY, TOKEN, USER, properties
from support import redis_servers

from mixpanel_visitor import Tracker
from mixpanel_visitor.tracking.tracker import engine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PARTS = ("latency", "memory", "backlog", "processes")
WORKERS = 4
PER_S = 1_000
CONNECTIONS = 4
ALIVE = ("--timeout-keep-alive", "600")
PERCENTILES = ("p50", "p99", "max")


# --- what is measured ------------------------------------------------------------------------------


def app() -> Any:
    """Make the application that uvicorn serves: a page that tracks one event."""
    from mixpanel_visitor.asgi import VisitorMiddleware

    async def page(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["state"]["visitor"].track("Seen", properties(1))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
            await send({"type": "http.response.body", "body": b"hello"})

    return VisitorMiddleware(page, tracker=tracker(deliver=os.environ["BENCH_DELIVERS"] == "1"))


def tracker(*, deliver: bool, url: str | None = None, spool: str | None = None) -> Tracker:
    """Make one that is told where by the environment, or here."""
    return Tracker(
        token=TOKEN,
        secret_key=SECRET_KEY,
        api_host=url or os.environ["BENCH_URL"],
        spool=spool or os.environ["BENCH_SPOOL"],
        deliver=deliver,
    )


def fill(tracker_: Tracker, count: int, first: int = 0) -> None:
    """Track so many events, a hundred at a time."""
    for at in range(first, first + count, 100):
        with tracker_.visitor(device_id=USER) as visitor:
            for number in range(at, min(at + 100, first + count)):
                visitor.track("Seen", properties(number))


def rss_mib() -> float:
    """Return the memory of this process that is in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@contextlib.contextmanager
def mixpanel() -> Iterator[str]:
    """Run the counting server."""
    with subprocess.Popen(
        [sys.executable, HERE / "peers" / "taking.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def child(what: str, *words: object) -> dict[str, Any]:
    """Run a part of this in a process of its own."""
    found = subprocess.run(
        [sys.executable, __file__, what, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(found.stdout))


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# --- latency ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def servers(url: str, spool: str, *, deliver: bool) -> Iterator[list[int]]:
    """Run four uvicorn processes; gives their ports."""
    environ = {
        **os.environ,
        "BENCH_URL": url,
        "BENCH_SPOOL": spool,
        "BENCH_DELIVERS": str(int(deliver)),
        "PYTHONPATH": str(HERE),
    }
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(WORKERS):
            # Not by --fd: there asyncio does not turn Nagle's algorithm off, which costs 40 ms.
            port = free_port()
            command = ["uvicorn", "--factory", "load:app", "--port", str(port), "--no-access-log"]
            process = subprocess.Popen(
                [sys.executable, "-m", *command, "--log-level", "warning", *ALIVE], env=environ
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            ports.append(port)
        yield ports


class Client:
    """Asks a thousand times a second, in turn on some connections to each of the servers."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports * CONNECTIONS
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._cookie = ""

    async def connect(self) -> None:
        """Open all connections, and become a visitor who is known."""
        for port in self._ports:
            self._streams.append(await self._open(port))
        head = await self._ask(0)
        cookies = re.findall(r"(?im)^set-cookie: ([^;]*)", head.decode())
        self._cookie = f"Cookie: {'; '.join(cookies)}\r\n"

    async def _open(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in range(300):  # a process on a busy machine takes its time to listen
            with contextlib.suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.1)
        raise TimeoutError(f"nobody listens on {port}")

    async def window(self, seconds: float) -> list[float]:
        """Ask for so long; gives how long each answer took, in microseconds."""
        free = asyncio.Queue[int]()
        for number in range(len(self._streams)):
            free.put_nowait(number)
        took: list[float] = []

        async def ask(number: int) -> None:
            before_s = time.perf_counter()
            await self._ask(number)
            took.append((time.perf_counter() - before_s) * 1e6)
            free.put_nowait(number)

        asking = []
        began_s = time.perf_counter()
        for sent in range(int(PER_S * seconds)):
            wait_s = began_s + sent / PER_S - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            number = await asyncio.wait_for(free.get(), 10)
            asking.append(asyncio.create_task(ask(number)))
        await asyncio.gather(*asking)
        return took

    async def _ask(self, number: int) -> bytes:
        reader, writer = self._streams[number]
        writer.write(
            f"GET / HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: {AGENT}\r\nAccept: text/html\r\n"
            f"{self._cookie}\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len("hello"))
        return head


AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142"


async def latency(rounds: int, *, by_redis: bool = False) -> None:
    """Compare windows with delivery and without; `by_redis`: those that deliver share a Redis."""
    found: dict[bool, list[list[float]]] = {True: [], False: []}
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(mixpanel())
        clients = {}
        for deliver in (True, False):
            spool = f"{directory}/{deliver}"
            if by_redis and deliver:
                server = stack.enter_context(redis_servers.running(Path(directory) / "redis"))
                spool = f"{server.url}?journal={spool}"
            ports = stack.enter_context(servers(url, spool, deliver=deliver))
            clients[deliver] = Client(ports)
        await asyncio.sleep(3)  # until they listen and have imported all
        for client in clients.values():
            await client.connect()
            await client.window(1)
        for number in range(2 * rounds):
            deliver = bool((number + number // 2) % 2)  # 0 1 1 0 0 1 1 0 ...
            found[deliver].append(percentiles(await clients[deliver].window(4)))
    print("\n## 1,000 requests/s over four processes, an event in each: microseconds at the client\n")
    print("| | " + " | ".join(PERCENTILES) + " |\n|---|---|---|---|")
    for deliver, windows in found.items():
        label = "delivery on" if deliver else "delivery off"
        cells = [
            f"{statistics.median(each):,.0f} [{min(each):,.0f}..{max(each):,.0f}]"
            for each in zip(*windows, strict=True)
        ]
        print(f"| {label} | " + " | ".join(cells) + " |")
    differences = [
        statistics.median(on) - statistics.median(off)
        for on, off in zip(zip(*found[True], strict=True), zip(*found[False], strict=True), strict=True)
    ]
    print("| added | " + " | ".join(f"{each:,.0f}" for each in differences) + " |")


def percentiles(took: list[float]) -> list[float]:
    """Return the median, the 99th percentile and the longest."""
    return [statistics.median(took), statistics.quantiles(took, n=100)[98], max(took)]


# --- memory and backlog ----------------------------------------------------------------------------


def memory_child(directory: str, url: str) -> None:
    """Track a million events to nobody; print the memory as they grow."""
    with_tracker = tracker(deliver=True, url=url, spool=directory)
    fill(with_tracker, 1_000)
    grown = {}
    before_mib, done = rss_mib(), 1_000
    for count in (10_000, 100_000, 1_000_000):
        began_s = time.perf_counter()
        fill(with_tracker, count - done, done)
        grown[count] = (rss_mib() - before_mib, (count - done) / (time.perf_counter() - began_s))
        done = count
    stats = with_tracker.stats()
    print(json.dumps({"grown": grown, "refused": stats["refused"], "pending": stats["pending"]}), flush=True)
    os._exit(0)


def memory() -> None:
    """One million events during an outage."""
    print("\n## Events that wait while Mixpanel does not answer\n")
    print("| events | more memory, MiB | events/s accepted |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        found = child("memory-child", directory, f"http://127.0.0.1:{free_port()}")
        size = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
    for count, (mib, per_s) in found["grown"].items():
        print(f"| {int(count):,} | {mib:.1f} | {per_s:,.0f} |")
    print(f"\nrefused: {found['refused']}, waiting: {found['pending']:,}, on the disk: {size / 1e6:,.0f} MB")


def fill_child(directory: str, url: str, count: str) -> None:
    """Track so many events, and leave them to somebody else."""
    with_tracker = tracker(deliver=False, url=url, spool=directory)
    fill(with_tracker, int(count))
    with_tracker.close()
    print("{}", flush=True)


def backlog_child(directory: str, url: str, count: str) -> None:
    """Deliver what waits; print what that took."""
    before_mib, began_s, cpu_s = rss_mib(), time.perf_counter(), time.process_time()
    with_tracker = tracker(deliver=True, url=url, spool=directory)
    sender = engine_of(with_tracker).pipeline.sender
    while sender.stats()["delivered"] < int(count):
        sender.drain(60.0)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    print(
        json.dumps(
            {
                "per_s": int(count) / took_s,
                "cpu_us": cpu_s / int(count) * 1e6,
                "mib": rss_mib() - before_mib,
            }
        ),
        flush=True,
    )
    with_tracker.close()


def backlog() -> None:
    """A new process empties spools of several sizes."""
    print("\n## A process begins to deliver what waits\n")
    print("| waiting | events/s acknowledged | processor us an event | more memory, MiB |\n|---|---|---|---|")
    for count in (1_000, 10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as directory, mixpanel() as url:
            child("fill-child", directory, url, count)
            found = child("backlog-child", directory, url, count)
        print(
            f"| {count:,} | {found['per_s']:,.0f} | {found['cpu_us']:.1f} | {found['mib']:.1f} |", flush=True
        )


# --- processes -------------------------------------------------------------------------------------

EACH = 20_000


def processes() -> None:
    """Several processes fill one spool; one of them delivers."""
    print(f"\n## Processes that track {EACH:,} events each, a hundred at a time, into one spool\n")
    print("| processes | events/s accepted | events/s acknowledged | processor us an event, all of them |")
    print("|---|---|---|---|")
    for count in (1, 2, 4, 8):
        with tempfile.TemporaryDirectory() as directory, mixpanel() as url:
            began_s = time.perf_counter()
            started = [
                subprocess.Popen(
                    [sys.executable, __file__, "process-child", directory, url],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for _ in range(count)
            ]
            for process in started:
                assert process.stdout is not None
                process.stdout.readline()  # it is ready
            began_s = time.perf_counter()
            for process in started:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            accepted = [json.loads(process.stdout.readline()) for process in started if process.stdout]
            accepted_s = time.perf_counter() - began_s
            told = [json.loads(process.stdout.readline()) for process in started if process.stdout]
            took_s = time.perf_counter() - began_s
            for process in started:
                process.wait()
        assert all(each["accepted"] == EACH for each in accepted)
        cpu_us = sum(each["cpu_s"] for each in told) / (count * EACH) * 1e6
        total = count * EACH
        print(f"| {count} | {total / accepted_s:,.0f} | {total / took_s:,.0f} | {cpu_us:.1f} |", flush=True)


def process_child(directory: str, url: str) -> None:
    """Be one of the processes."""
    with_tracker = tracker(deliver=True, url=url, spool=directory)
    with_tracker.start()
    print("ready", flush=True)
    sys.stdin.readline()
    cpu_s = time.process_time()
    fill(with_tracker, EACH)
    print(json.dumps({"accepted": with_tracker.stats()["accepted"]}), flush=True)
    assert with_tracker.flush(120)
    print(json.dumps({"cpu_s": time.process_time() - cpu_s}), flush=True)
    with_tracker.close()


def main() -> None:
    """Do what is asked for; all by default."""
    match sys.argv[1:]:
        case ["memory-child", directory, url]:
            memory_child(directory, url)
        case ["fill-child", directory, url, count]:
            fill_child(directory, url, count)
        case ["backlog-child", directory, url, count]:
            backlog_child(directory, url, count)
        case ["process-child", directory, url]:
            process_child(directory, url)
        case _:
            arguments = argparse.ArgumentParser(description=__doc__)
            arguments.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
            arguments.add_argument("--rounds", type=int, default=6)
            arguments.add_argument("--redis", action="store_true", help="latency: deliver by way of a Redis")
            given = arguments.parse_args()
            for name in given.parts or PARTS:
                if name == "latency":
                    asyncio.run(latency(given.rounds, by_redis=given.redis))
                else:
                    {"memory": memory, "backlog": backlog, "processes": processes}[name]()


if __name__ == "__main__":
    main()
