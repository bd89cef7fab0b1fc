"""How much disk, memory, workers and connections a load needs: `python examples/capacity.py --help`.

Simulates a day, second by second: events come in at their rate, Mixpanel is away for some hours, and then
takes at most what it admits for a project. The constants were measured on one core of a small machine.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

ADMITTED_PER_S = 30_000
"""By Mixpanel, for a project (its documentation of /import)."""

RECORDS_PER_REQUEST = 2_000
REQUEST_S = 0.5
"""Assumed, for a full request; so a connection carries 4,000 events/s."""

WORKER_PER_S = 36_000
"""A core delivers 90,000 events/s (JSON, gzip, HTTP); planned at 40 %."""

FRAME_BYTES = 21
"""What the journal adds to an event on disk."""

REDIS_SHARE = 0.35
"""Of an event's bytes in Redis, compressed in bundles of ten and more; single ones take about all of them."""

MIN_FREE = 0.05
"""Of a volume, which the journal leaves free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Events a second over all hosts, bytes of one, hours that Mixpanel is away, and hosts."""

    events_per_s: float
    event_bytes: int = 960
    outage_h: float = 6.0
    hosts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What it takes; `drain_h` is how long the backlog lasts after the outage, perhaps for ever."""

    backlog_events: int
    host_disk_gb: float
    redis_gb: float
    workers: int
    connections: int
    drain_h: float
    projects: int


def simulate(load: Load) -> Needs:
    """Let a day pass."""
    projects = max(1, math.ceil(load.events_per_s / ADMITTED_PER_S))
    admitted = ADMITTED_PER_S * projects
    outage_s, backlog, most, drained_s = load.outage_h * 3600, 0.0, 0.0, math.inf
    for second in range(24 * 3600):
        backlog += load.events_per_s
        if second >= outage_s:
            backlog = max(0.0, backlog - admitted)
        most = max(most, backlog)
        if second >= outage_s and backlog == 0.0:
            drained_s = second - outage_s
            break
    stored = most * (load.event_bytes + FRAME_BYTES)
    # While it catches up, as fast as Mixpanel lets it.
    busy = admitted if load.outage_h else load.events_per_s
    return Needs(
        backlog_events=int(most),
        host_disk_gb=stored / load.hosts / (1 - MIN_FREE) / 1e9,
        redis_gb=most * load.event_bytes * REDIS_SHARE / 1e9,
        workers=math.ceil(busy / WORKER_PER_S),
        connections=math.ceil(busy / (RECORDS_PER_REQUEST / REQUEST_S)),
        drain_h=drained_s / 3600,
        projects=projects,
    )


def main() -> None:
    """Print what a load needs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--events", type=float, default=2_000, help="events a second, over all hosts")
    parser.add_argument("--bytes", type=int, default=960, help="of an event as JSON")
    parser.add_argument("--outage", type=float, default=6, help="hours that Mixpanel is away")
    parser.add_argument("--hosts", type=int, default=1)
    given = parser.parse_args()
    load = Load(events_per_s=given.events, event_bytes=given.bytes, outage_h=given.outage, hosts=given.hosts)
    needs = simulate(load)
    print(
        f"{load.events_per_s:,.0f} events/s of {load.event_bytes} bytes, {load.outage_h:g} h without Mixpanel"
    )
    if needs.projects > 1:
        print(f"  That is more than a project may send: {needs.projects} projects, or a raised limit.")
    for name, text in (
        ("waiting at the end of the outage", f"{needs.backlog_events:,} events"),
        ("disk of each host, in journals", f"{needs.host_disk_gb:,.1f} GB (the journal's own bound is 1 GB)"),
        ("or memory of Redis", f"{needs.redis_gb:,.1f} GB (for outages of minutes; disks suit hours)"),
        ("worker processes of one core", f"{needs.workers}"),
        ("connections to Mixpanel", f"{needs.connections}"),
        ("until all is delivered", f"{needs.drain_h:,.1f} h" if math.isfinite(needs.drain_h) else "never"),
    ):
        print(f"  {name:<34}{text}")


if __name__ == "__main__":
    main()
