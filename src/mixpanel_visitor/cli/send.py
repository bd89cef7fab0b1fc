"""`mixpanel-visitor send`: delivers what waits in a spool and ends, for cron and for deployments."""

from __future__ import annotations

import click

from .worker import CONCURRENCY, SPOOLS, TIMEOUT, deliver


@click.command("send", context_settings={"help_option_names": ["-h", "--help"]})
@SPOOLS
@CONCURRENCY
@TIMEOUT
def command(*, locations: tuple[str, ...], concurrency: int, timeout_s: float) -> None:
    """Deliver what waits in a spool, then end: the same as `worker --once`.

    Exit code 0: nothing waits any more; 1: something still waits after the time limit or a signal.
    """
    deliver(locations, concurrency=concurrency, once_within_s=timeout_s)
