"""One SDK in a process of its own: `python client.py calls|delivery SDK URL EVENTS [EVENTS IN A REQUEST]`.

`calls` times each call, while the SDK's sender is at work; `delivery` tracks as fast as it can and waits
until all is acknowledged. Prints JSON.
"""

from __future__ import annotations

import json
import logging
import resource
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from sdks import SDKS, properties

if TYPE_CHECKING:
    from sdks import Sdk

WARM = 2_000
SETTLE_S = 1.5
"""After the first event: what a thread loads to deliver is no part of what an event costs."""


def calls(sdk: Sdk, count: int, in_request: int) -> dict[str, float]:
    """Time each call, in microseconds; making its properties is the caller's business and taken off."""
    took_ns: list[int] = []
    clock = time.perf_counter_ns
    capture = sdk.capture

    def work(at: int) -> None:
        for number in range(at, at + in_request):
            before_ns = clock()
            capture(number)
            took_ns.append(clock() - before_ns)

    for at in range(0, WARM + count, in_request):
        sdk.around(partial(work, at))
    del took_ns[:WARM]
    own_ns = _overhead_ns()
    figures = {
        "median_us": (statistics.median(took_ns) - own_ns) / 1e3,
        "p99_us": (statistics.quantiles(took_ns, n=100)[98] - own_ns) / 1e3,
        "mean_us": (statistics.fmean(took_ns) - own_ns) / 1e3,
    }
    sdk.flush()
    return figures


def _overhead_ns() -> float:
    took_ns = []
    for number in range(2_000):
        before_ns = time.perf_counter_ns()
        properties(number)
        took_ns.append(time.perf_counter_ns() - before_ns)
    return statistics.median(took_ns)


def delivery(sdk: Sdk, count: int, in_request: int) -> dict[str, float]:
    """Track as fast as possible, wait until all is acknowledged."""
    sdk.around(lambda: sdk.capture(0))
    time.sleep(SETTLE_S)
    before_s, cpu_s = time.perf_counter(), time.process_time()

    def work(at: int) -> None:
        for number in range(at, min(at + in_request, count)):
            sdk.capture(number)

    for at in range(1, count, in_request):
        sdk.around(partial(work, at))
    accepted_s = time.perf_counter() - before_s
    sdk.flush()
    took_s, cpu_s = time.perf_counter() - before_s, time.process_time() - cpu_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "per_s": count / took_s,
        "accepted_per_s": count / accepted_s,
        "cpu_us": cpu_s / count * 1e6,
        "peak_mib": peak / 1024,
    }


def main() -> None:
    """Do what is asked for."""
    what, name, url, count, *rest = sys.argv[1:]
    if name != "ours_with_isal":
        # It is an extra: whoever does not name it has it not.
        sys.modules["isal.igzip"] = sys.modules["isal.isal_zlib"] = None  # type: ignore[assignment]
    logging.disable(logging.CRITICAL)
    sdk = SDKS[name](url)
    measure = {"calls": calls, "delivery": delivery}[what]
    print(json.dumps(measure(sdk, int(count), int(rest[0]) if rest else 1)), flush=True)


if __name__ == "__main__":
    main()
