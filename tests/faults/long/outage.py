"""Rows 11 and 20 at length: what our middleware costs while Mixpanel is away."""

from __future__ import annotations

import random
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from processes import Result, percentile
from serving import SERVERS, site

if TYPE_CHECKING:
    from argparse import Namespace

WARM_UP = 100
ADDED_P99_MS = 1.0
RSS_MB = 64.0
EXIT_S = 1.0
COLUMNS = (
    *("server", "Mixpanel", "requests to each", "added p50 ms", "added p99 ms", "p99 without, with us ms"),
    *("failed", "memory grown by MB", "exit s (without us)", "events kept", "seed"),
)


def run(options: Namespace) -> Result:
    """Ask two applications in turn, with each server and each kind of outage."""
    chance = random.Random(options.seed)
    result = Result("outage", COLUMNS, [])
    for server in SERVERS:
        for outage in ("refuses", "hangs"):
            with socket.socket() as away, tempfile.TemporaryDirectory(prefix="mpv-") as place:
                away.bind(("127.0.0.1", 0))  # bound and not listening: refused
                if outage == "hangs":
                    away.listen(128)  # the kernel accepts; nobody ever answers
                _measure(
                    result,
                    server,
                    outage,
                    port=away.getsockname()[1],
                    directory=Path(place),
                    chance=chance,
                    options=options,
                )
    return result


def _measure(
    result: Result,
    server: str,
    outage: str,
    *,
    port: int,
    directory: Path,
    chance: random.Random,
    options: Namespace,
) -> None:
    requests = options.requests or 3000
    with (
        site(server, directory / "with", port) as ours,
        site(server, directory / "without", port, enabled=False) as plain,
    ):
        both = [ours, plain]
        for one in both * WARM_UP:
            one.get()
        for one in both:
            one.forget()
        before_mb = ours.rss_mb()
        for _ in range(requests):
            chance.shuffle(both)  # neither is always the one that finds the caches warm
            for one in both:
                one.get()
        grown_mb = ours.rss_mb() - before_mb
        kept = ours.stats()
        ours_s, plain_s = ours.end(), plain.end()
    ms = {share: [1000 * percentile(one.seconds, share) for one in (ours, plain)] for share in (0.5, 0.99)}
    added = {share: with_us - without for share, (with_us, without) in ms.items()}
    failed = ours.failures + plain.failures
    kept_events, wanted = kept["pending"], 2 * (requests + WARM_UP)
    result.rows.append(
        (
            *(server, outage, requests, f"{added[0.5]:.2f}", f"{added[0.99]:.2f}"),
            *(f"{ms[0.99][1]:.2f}, {ms[0.99][0]:.2f}", failed, f"{grown_mb:.1f}"),
            *(f"{ours_s:.2f} ({plain_s:.2f})", kept_events, options.seed),
        )
    )
    where = f"{server}, {outage}: "
    result.missed.extend(
        where + what
        for what, is_so in (
            (f"{added[0.99]:.2f} ms added at p99", added[0.99] >= ADDED_P99_MS),
            (f"{failed} requests failed", failed > 0),
            (f"{grown_mb:.0f} MB more memory", grown_mb >= RSS_MB),
            (f"exit took {ours_s:.2f} s (without us {plain_s:.2f} s)", ours_s >= EXIT_S),
            (f"{kept_events} events kept of {wanted}", kept_events < wanted),
        )
        if is_so
    )
