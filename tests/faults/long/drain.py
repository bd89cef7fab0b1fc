"""Row 33: a million events wait, Mixpanel comes back, and the application goes on to serve."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from counting import event_body
from processes import TOKEN, Result, ask, counting, percentile
from serving import site
from support.waiting import wait_until

from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.records import Record

if TYPE_CHECKING:
    from argparse import Namespace

PER_PUT = 500
RATE = 20_000
DRAIN_S = 300.0
BASELINE = 500
PAUSE_S = 0.002
COLUMNS = (
    *("server", "events waiting", "drained in s", "events a second", "p50, p99 ms before"),
    *("p50, p99, max ms meanwhile", "requests meanwhile", "failed", "memory grown by MB"),
)


def _fill(directory: Path, events: int) -> None:
    project = hashlib.sha256(TOKEN.encode()).hexdigest()[:8]
    journal = Journal(directory / project)
    for first in range(0, events, PER_PUT):
        numbers = range(first, min(events, first + PER_PUT))
        journal.put([Record("import", event_body(0, number)) for number in numbers])
    journal.close()


def run(options: Namespace) -> Result:
    """Fill a spool, serve while Mixpanel is down, then let it come back."""
    events = options.events or 1_000_000
    with tempfile.TemporaryDirectory(prefix="mpv-") as place:
        directory = Path(place)
        _fill(directory / "with" / "spool", events)
        with counting(directory, "--count-only") as port:
            ask(port, "/down", {})
            with site("uvicorn", directory / "with", port) as app:
                app.get()
                wait_until(lambda: ask(port, "/figures")["refusals"] > 0, 20)
                app.forget()
                for _ in range(BASELINE):
                    app.get()
                    time.sleep(PAUSE_S)
                before, before_mb = app.seconds, app.rss_mb()
                app.forget()
                ask(port, "/up", {})
                wait_until(lambda: ask(port, "/figures")["received"] > 0, 90)
                deadline_s = time.monotonic() + DRAIN_S
                looked_s = time.monotonic()
                received = 0
                most_mb = before_mb
                while received < events and time.monotonic() < deadline_s:
                    app.get()
                    time.sleep(PAUSE_S)
                    if time.monotonic() - looked_s > 0.25:
                        looked_s = time.monotonic()
                        received = ask(port, "/figures")["received"]
                        most_mb = max(most_mb, app.rss_mb())
                figures = ask(port, "/figures")
                meanwhile = app.seconds
                failed = app.failures
    took_s = figures["took_s"]
    rate = figures["received"] / took_s if took_s else 0
    ms = [1000 * percentile(values, share) for values in (before, meanwhile) for share in (0.5, 0.99)]
    row = (
        *("uvicorn", events, f"{took_s:.1f}", round(rate), f"{ms[0]:.2f}, {ms[1]:.2f}"),
        f"{ms[2]:.2f}, {ms[3]:.2f}, {1000 * max(meanwhile):.1f}",
        *(len(meanwhile), failed, f"{most_mb - before_mb:.1f}"),
    )
    missed = []
    if figures["received"] < events:
        missed.append(f"{events - figures['received']} events were not delivered in {DRAIN_S:.0f} s")
    if rate < RATE:
        missed.append(f"{rate:.0f} events a second")
    if failed:
        missed.append(f"{failed} requests failed")
    return Result("drain", COLUMNS, [row], missed)
