"""What enrichment costs: `python tests/benchmarks/enrichment.py`.

One request through the tracker, with the headers that a browser sends and with hardly any, tracking nothing,
one event, or three. Prints the median of interleaved batches in microseconds, and the ratios that matter. Not
collected by pytest, because timing never fails a test.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.facts import BROWSER_DOCUMENT, facts
from support.trackers import known, recording_tracker

from mixpanel_visitor.tracking.tracker import engine_of

BATCHES, REQUESTS = 60, 200
BARE = known()
BROWSER = {
    **known(),
    **BROWSER_DOCUMENT,
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142 Safari",
    "referer": "https://www.google.com/",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "accept-language": "en-GB,en;q=0.9",
    "sec-ch-ua-platform": '"Linux"',
}


def batch_us(headers: dict[str, str], events: int) -> float:
    """Return the microseconds for each request of a batch."""
    tracker, spool = recording_tracker()
    request = facts(headers, path="/shoes/7", query="utm_source=ad&page=2")
    start_s = perf_counter()
    for _ in range(REQUESTS):
        exchange, visitor = engine_of(tracker).begin(request, in_background=False)
        for _ in range(events):
            visitor.track("Seen", plan="pro")
        engine_of(tracker).on_response_end(exchange, in_background=False)
    took_s = perf_counter() - start_s
    assert len(spool.records) == events * REQUESTS
    return took_s / REQUESTS * 1e6


def main() -> None:
    """Measure and print."""
    cases = {(name, events): [] for name in ("bare", "browser") for events in (0, 1, 3)}
    for _ in range(BATCHES):
        for (name, events), figures in cases.items():
            figures.append(batch_us(BROWSER if name == "browser" else BARE, events))
    medians = {case: statistics.median(figures) for case, figures in cases.items()}
    for (name, events), median in medians.items():
        print(f"{name:<8} {events} events {median:8.1f} us")
    untracked = medians["browser", 0] / medians["bare", 0]
    print(f"untracked, a browser's headers against hardly any: {untracked:.2f} times")
    first = medians["browser", 1] - medians["browser", 0]
    second = (medians["browser", 3] - medians["browser", 1]) / 2
    print(f"first event {first:.1f} us, each further one {second:.1f} us")


if __name__ == "__main__":
    main()
