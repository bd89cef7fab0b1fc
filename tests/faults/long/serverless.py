"""Requests to processes that are stopped with each response, with `durability="delivered"`."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from processes import Result, say
from support.frozen import FrozenProcess
from support.inbox import Inbox

from mixpanel_visitor.emulator import LocalMixpanel

if TYPE_CHECKING:
    from argparse import Namespace

REQUESTS = 1_000
REQUESTS_OF_ONE_PROCESS = 50
TIMEOUT_S = 30.0
"""How long a response may wait; far more than it takes, because this counts events and not time."""


def run(options: Namespace) -> Result:
    """Make `--requests` requests (1,000); look for each event while its process stands still."""
    requests = options.requests or REQUESTS
    columns = ("requests", "processes", "events at Mixpanel when their process stopped", "p50, p99, max ms")
    arrived, took_ms, processes = 0, [], 0
    with LocalMixpanel() as mixpanel, tempfile.TemporaryDirectory() as place:
        inbox = Inbox(mixpanel.url)
        for first in range(0, requests, REQUESTS_OF_ONE_PROCESS):
            processes += 1
            directory = Path(place) / str(processes)
            directory.mkdir()
            process = FrozenProcess(
                directory, mixpanel.url, durability="delivered", delivery_timeout_s=TIMEOUT_S
            )
            for number in range(first, min(first + REQUESTS_OF_ONE_PROCESS, requests)):
                began_s = time.perf_counter()
                process.order(number)
                took_ms.append((time.perf_counter() - began_s) * 1000)
                numbers = {event["properties"]["n"] for event in inbox.events()}
                arrived += str(number) in numbers
            process.kill()
            inbox.clear()
            say(f"{first + REQUESTS_OF_ONE_PROCESS} requests, {arrived} events")
    percentiles = statistics.quantiles(took_ms, n=100)
    times = f"{percentiles[49]:.1f}, {percentiles[98]:.1f}, {max(took_ms):.1f}"
    result = Result("serverless", columns, [(requests, processes, arrived, times)])
    if arrived != requests:
        result.missed.append(f"{requests - arrived} events were not at Mixpanel when their process stopped")
    return result
