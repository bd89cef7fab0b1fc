"""The page under load: `python tests/benchmarks/live_page.py [events a second] [seconds]`.

A process sends events to a local Mixpanel while Chromium shows its page. Prints what came in, how long a
click takes until the page has been painted again (a row, a view, the pause in turn), how large the page's
heap and the local Mixpanel's process are before and after. Exits with 1 where the median is over 100 ms.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.browser import Chromium
from support.live_page import LivePage

from mixpanel_visitor.emulator import LocalMixpanel

LIMIT_MS = 100.0
BATCH = 500
VISITORS = 1_000

CLICK = """(selector) => new Promise((done) => {
    const element = document.querySelector(selector);
    if (!element) { done(null); return; }
    const start = performance.now();
    // Behind whatever is being done already, as a person's click is.
    setTimeout(() => {
        element.click();
        requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
    });
})"""
SELECTORS = ("#events .row", "#tab-people", "#tab-problems", "#tab-events", "#pause", "#pause")


def send(port: int, rate: int, seconds: float) -> None:
    """Send so many events a second, as servers and browsers do, in batches."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    start = time.monotonic()
    for number in range(int(rate * seconds / BATCH)):
        now_ms = time.time_ns() // 1_000_000
        events: list[dict[str, Any]] = []
        for each in range(BATCH):
            device = f"device-{(number * BATCH + each) % VISITORS}"
            properties = {
                "token": "t" * 32,
                "time": now_ms,
                "distinct_id": f"$device:{device}",
                "$device_id": device,
                "$insert_id": str(uuid.uuid4()),
                "mp_lib": "python" if each % 2 else "web",
                "$current_url": f"https://shop.example.com/{each % 50}",
                "$browser": "Chrome",
                "price": each,
            }
            events.append({"event": f"Event {each % 20}", "properties": properties})
        connection.request("POST", "/track", json.dumps(events), {"Content-Type": "application/json"})
        connection.getresponse().read()
        time.sleep(max(0.0, start + (number + 1) * BATCH / rate - time.monotonic()))
    print(f"sent: {rate * seconds / (time.monotonic() - start):.0f} a second", flush=True)


def measure(rate: int, seconds: float) -> float:
    """Print the figures; gives the median click in milliseconds."""
    with LocalMixpanel() as local, Chromium() as chromium:
        page = LivePage(chromium, local)
        heap = page.run("performance.memory.usedJSHeapSize")
        rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sender = subprocess.Popen(
            [sys.executable, __file__, "send", str(local.port), str(rate), str(seconds)]
        )
        start = time.monotonic()
        clicks: list[float] = []
        while sender.poll() is None:
            for selector in SELECTORS:
                took_ms = page.do(lambda it, selector=selector: it.evaluate(CLICK, selector))
                clicks.extend([] if took_ms is None else [took_ms])
        took_s = time.monotonic() - start
        came = local.store.stats()["received"]
        rows = page.run("document.querySelectorAll('#events .row').length")
        after = page.run("performance.memory.usedJSHeapSize")
        page.close()
    clicks.sort()
    median, worst = statistics.median(clicks), clicks[-1]
    high = clicks[int(len(clicks) * 0.95)]
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss_kib) / 1024
    print(f"in: {came} events in {took_s:.1f} s, the sender's start included; {rows} rows shown")
    print(f"{len(clicks)} clicks: median {median:.0f} ms, 95 % {high:.0f} ms, worst {worst:.0f} ms")
    print(f"page's heap {heap / 2**20:.0f} -> {after / 2**20:.0f} MiB; local Mixpanel + {grown_mib:.0f} MiB")
    return median


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        send(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        arguments = [float(each) for each in sys.argv[1:]]
        rate, seconds = [*arguments, *(5_000.0, 10.0)[len(arguments) :]]
        sys.exit(measure(int(rate), seconds) > LIMIT_MS)
