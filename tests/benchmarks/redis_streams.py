"""Through Redis: `python tests/benchmarks/redis_streams.py [seconds] [events for each request]`.

Starts a redis-server with an append-only file, two processes that put what requests of so many events leave
(680 bytes each), and one worker whose sender delivers to a Mixpanel in another process that answers at once.
Prints how many events a second are put and acknowledged, and what processor time each process took for each:
with one command for each request, as 0.1 did it, and with the journal first, by turns; then how long requests
wait that wait for Redis. Only the ratios of one run say anything.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import redis_servers

from mixpanel_visitor.delivery.forwarding import LINGER_S, ForwardingSpool
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.redis_streams import RedisSpool
from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.records import Record

DIRECT, JOURNAL_FIRST = "direct", "journal first"
ROUNDS = 3
PRODUCERS = 2
THREADS = 16
UNLIMITED = 10**9


def event(number: int) -> Record:
    """Make an event as the middleware does: 680 bytes or so."""
    properties = {
        "time": 1_763_934_567_890 + number,
        "distinct_id": f"$device:{uuid.uuid4()}",
        "$insert_id": uuid.uuid4().hex,
        "$current_url": f"https://shop.example.com/tea/{number % 997}?utm_source=newsletter",
        "$browser": "Chrome",
        "$os": "Linux",
        "mp_lib": "python",
        **{f"property {each}": f"a value of some length {number * each % 1013}" for each in range(8)},
    }
    return Record("import", json.dumps({"event": "Page viewed", "properties": properties}).encode())


def open_producer(way: str, url: str, directory: str, *, waits: bool = False) -> RedisSpool | ForwardingSpool:
    """Open the spool of a process that tracks: straight into Redis, or with the journal first."""
    server = RedisSpool(url, max_bytes=UNLIMITED)
    if way == DIRECT:
        return server
    journal = Journal(directory, max_bytes=UNLIMITED, refresh_every_s=LINGER_S)
    return ForwardingSpool(server, journal, waits=waits)


def produce(way: str, url: str, directory: str, seconds: float, per_request: int) -> None:
    """Put as much as is possible, until all of it is in Redis; print how much, and the processor time."""
    records = [event(number) for number in range(2_000)]
    spool = open_producer(way, url, directory)
    put, ends_s = 0, time.monotonic() + seconds
    while time.monotonic() < ends_s:
        at = put % (len(records) - per_request)
        spool.put(records[at : at + per_request])
        put += per_request
    if isinstance(spool, ForwardingSpool):
        while spool.journal.counts().store_pending:
            time.sleep(0.02)
    print(json.dumps({"put": put, "cpu_s": time.process_time()}), flush=True)
    spool.close()


def wait_for_redis(way: str, url: str, directory: str, seconds: float) -> None:
    """Put one event at a time from 16 threads, each of which waits until it is in Redis; print latencies."""
    spool = open_producer(way, url, directory, waits=True)
    took_ms: list[float] = []
    ends_s = time.monotonic() + seconds

    def ask(number: int) -> None:
        records = [event(number)]
        while (began_s := time.monotonic()) < ends_s:
            spool.put(records)
            took_ms.append((time.monotonic() - began_s) * 1000)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = spool.counts()
    assert counts.written == len(took_ms)
    if isinstance(spool, ForwardingSpool):
        assert spool.journal.counts().written == 0, "Redis refused some"
    print(json.dumps({"p50": statistics.median(took_ms), "p99": statistics.quantiles(took_ms, n=100)[98]}))
    spool.close()


def work(url: str, mixpanel: str) -> None:
    """Deliver until nothing is left and nobody puts any more (its input is closed)."""
    spool = RedisSpool(url, rate_per_s=UNLIMITED)
    api = MixpanelAPI(mixpanel, "token")
    sender = Sender(spool, api.post, linger_s=0.0, poll_s=0.01)
    sender.start()
    sys.stdin.read()
    assert sender.stop(20)
    while spool.counts().store_pending:
        sender.drain(5)
    print(json.dumps({"delivered": sender.stats()["delivered"], "cpu_s": time.process_time()}), flush=True)
    spool.close()


class Taking(http.server.BaseHTTPRequestHandler):
    """A Mixpanel that takes everything and looks at nothing."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"code":200,"status":"OK"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve() -> None:
    """Be that Mixpanel until its input is closed."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Taking) as server:
        print(server.server_address[1], flush=True)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start a part of this in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def measure(way: str, seconds: float, per_request: int) -> tuple[float, float]:
    """Print the figures; give acknowledged events a second, and the producers' processor time for each."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        server = stack.enter_context(redis_servers.running(Path(directory) / "redis"))
        mixpanel = stack.enter_context(start("serve"))
        assert mixpanel.stdout is not None
        url = f"http://127.0.0.1:{mixpanel.stdout.readline().strip()}"
        worker = stack.enter_context(start("work", server.url, url))
        began_s = time.monotonic()
        producers = [
            start("produce", way, server.url, f"{directory}/journal", seconds, per_request)
            for _ in range(PRODUCERS)
        ]
        told = [json.loads(producer.communicate()[0]) for producer in producers]
        done = json.loads(worker.communicate()[0])
        took_s = time.monotonic() - began_s
        redis_s = _processor_s(server.pid)
        mixpanel.communicate()
    put = sum(each["put"] for each in told)
    cpu_s = sum(each["cpu_s"] for each in told)
    assert done["delivered"] == put
    shares = (cpu_s / put * 1e6, done["cpu_s"] / put * 1e6, redis_s / put * 1e6)
    print(
        f"| {per_request} | {way} | {put / seconds:,.0f} | {put / took_s:,.0f} | "
        + " | ".join(f"{share:.1f}" for share in shares)
        + " |",
        flush=True,
    )
    return put / took_s, shares[0]


def compare(seconds: float, per_request: int) -> None:
    """Print both ways, by turns, and what the second one is of the first."""
    rounds = [
        [
            acknowledged / by_direct
            for by_direct, acknowledged in zip(
                measure(DIRECT, seconds, per_request),
                measure(JOURNAL_FIRST, seconds, per_request),
                strict=True,
            )
        ]
        for _ in range(ROUNDS)
    ]
    acknowledged, processor = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(f"| {per_request} | **ratio** | | **{acknowledged:.2f}** | **{processor:.2f}** | | |")


def compare_waiting(seconds: float) -> None:
    """Print the latency of requests that wait for Redis, each with its own command, and together."""
    print(f"\n| {THREADS} threads, one event at a time, wait for Redis | p50, ms | p99, ms |\n|---|---|---|")
    rounds = []
    for _ in range(ROUNDS):
        found = []
        for way in (DIRECT, JOURNAL_FIRST):
            with contextlib.ExitStack() as stack:
                directory = stack.enter_context(tempfile.TemporaryDirectory())
                server = stack.enter_context(redis_servers.running(Path(directory) / "redis"))
                told = start("wait", way, server.url, f"{directory}/journal", seconds).communicate()[0]
            found.append(json.loads(told))
            label = "each by itself" if way == DIRECT else "together"
            print(f"| {label} | {found[-1]['p50']:.2f} | {found[-1]['p99']:.2f} |", flush=True)
        rounds.append([found[1][name] / found[0][name] for name in ("p50", "p99")])
    p50, p99 = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(f"| **ratio** | **{p50:.2f}** | **{p99:.2f}** |")


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["produce", way, url, directory, seconds, per_request]:
            produce(way, url, directory, float(seconds), int(per_request))
        case ["wait", way, url, directory, seconds]:
            wait_for_redis(way, url, directory, float(seconds))
        case ["work", url, mixpanel]:
            work(url, mixpanel)
        case ["serve"]:
            serve()
        case given:
            seconds = float(given[0]) if given else 5.0
            print("| events a request | | put/s | acknowledged/s | producers, us an event | worker | redis |")
            print("|---|---|---|---|---|---|---|")
            for count in [int(given[1])] if len(given) > 1 else [1, 3, 10, 100]:
                compare(seconds, count)
            compare_waiting(seconds)
