"""Through Redis: `python tests/benchmarks/redis_streams.py [seconds] [events for each request]`.

Starts a redis-server with an append-only file, two processes that put what requests of so many events leave
(680 bytes each), and one worker whose sender delivers to a Mixpanel in another process that answers at once.
Prints how many events a second are put and acknowledged, and what processor time each process took for each.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socketserver
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import redis_servers

from mixpanel_visitor.delivery.redis_streams import RedisSpool
from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.records import Record

PRODUCERS = 2
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


def produce(url: str, seconds: float, per_request: int) -> None:
    """Put as much as is possible; print how much, and the processor time."""
    records = [event(number) for number in range(2_000)]
    spool = RedisSpool(url, max_bytes=UNLIMITED)
    put, ends_s = 0, time.monotonic() + seconds
    while time.monotonic() < ends_s:
        at = put % (len(records) - per_request)
        spool.put(records[at : at + per_request])
        put += per_request
    print(json.dumps({"put": put, "cpu_s": time.process_time()}), flush=True)
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
        import threading

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


def measure(seconds: float, per_request: int) -> None:
    """Print the figures."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        server = stack.enter_context(redis_servers.running(Path(directory) / "redis"))
        mixpanel = stack.enter_context(start("serve"))
        assert mixpanel.stdout is not None
        url = f"http://127.0.0.1:{mixpanel.stdout.readline().strip()}"
        worker = stack.enter_context(start("work", server.url, url))
        began_s = time.monotonic()
        producers = [start("produce", server.url, seconds, per_request) for _ in range(PRODUCERS)]
        told = [json.loads(producer.communicate()[0]) for producer in producers]
        done = json.loads(worker.communicate()[0])
        took_s = time.monotonic() - began_s
        redis_s = _processor_s(server.pid)
        mixpanel.communicate()
    put = sum(each["put"] for each in told)
    cpu_s = sum(each["cpu_s"] for each in told)
    assert done["delivered"] == put
    print(f"{per_request} events a request: {put / seconds:,.0f}/s put, {put / took_s:,.0f}/s acknowledged")
    shares = (cpu_s / put * 1e6, done["cpu_s"] / put * 1e6, redis_s / put * 1e6)
    print(
        "  us of a processor an event: producers {:.1f}, worker {:.1f}, redis-server {:.1f}".format(*shares)
    )


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["produce", url, seconds, per_request]:
            produce(url, float(seconds), int(per_request))
        case ["work", url, mixpanel]:
            work(url, mixpanel)
        case ["serve"]:
            serve()
        case given:
            seconds = float(given[0]) if given else 5.0
            for count in [int(given[1])] if len(given) > 1 else [1, 3, 10, 100]:
                measure(seconds, count)
