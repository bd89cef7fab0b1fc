"""`mixpanel-visitor worker`: delivers what applications put into a spool, in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import click

from mixpanel_visitor.errors import MixpanelVisitorError, SpoolUnavailableError
from mixpanel_visitor.quoting import several
from mixpanel_visitor.settings.masked import without_secrets
from mixpanel_visitor.tracking.tracker import Tracker

from .metrics_server import serve
from .settings_source import resolve
from .signals import Signals, hold_signals
from .spool.location import SETTING
from .spool.redis import is_redis, open_redis_spool, server_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mixpanel_visitor.settings import Settings

_STOP_S = 20.0
"""Below the 30 s after which Kubernetes kills."""

_STOP_ONCE_S = 1.0
_POLL_S = 0.05


SPOOLS = click.option(
    "--spool",
    "locations",
    multiple=True,
    metavar="DIR|URL",
    help=f"A directory or redis://host/0, once or several times; default: {SETTING}, or the default place.",
)
CONCURRENCY = click.option(
    "--concurrency",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="How many workers deliver from a Redis side by side; from a directory always one.",
)
TIMEOUT = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="End after this time, even if records are left (`worker`: only with --once).",
)


@click.command("worker", context_settings={"help_option_names": ["-h", "--help"]})
@SPOOLS
@CONCURRENCY
@click.option(
    "--once",
    is_flag=True,
    help="End when nothing waits any more, for cron. Exit code 1: something still waits.",
)
@TIMEOUT
@click.option(
    "--metrics",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve /metrics (needs the extra prometheus) and /healthz on this port of 127.0.0.1.",
)
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Another address for it.")
def command(
    *,
    locations: tuple[str, ...],
    concurrency: int,
    once: bool,
    timeout_s: float,
    metrics: int | None,
    metrics_host: str,
) -> None:
    """Deliver what waits in a spool, until SIGTERM or Ctrl-C.

    For applications that run with MIXPANEL_VISITOR_DELIVER=0, and for Redis. It takes its settings from the
    environment, as they do (under manage.py from Django's settings first): MIXPANEL_TOKEN, MIXPANEL_API_HOST
    and the MIXPANEL_VISITOR_ ones. At the end it finishes what it is sending and gives back the rest; a
    second signal ends it at once.
    """
    address = None if metrics is None else (metrics_host, metrics)
    deliver(
        locations,
        concurrency=concurrency,
        once_within_s=timeout_s if once else None,
        metrics_address=address,
    )


def deliver(
    locations: Sequence[str],
    *,
    concurrency: int,
    once_within_s: float | None,
    metrics_address: tuple[str, int] | None = None,
) -> NoReturn:
    """Deliver until a signal, or with `once_within_s` until nothing waits or so long; exits with a code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    trackers = _trackers(locations, concurrency)
    if concurrency > 1 and not any(_is_redis(tracker.settings) for tracker in trackers):
        click.echo(
            "One worker at a time delivers from a directory: --concurrency has no effect here.", err=True
        )
    with hold_signals() as signals:
        remaining = _deliver(trackers, signals, once_within_s, metrics_address)
    delivered = sum(tracker.stats()["sender"]["delivered"] for tracker in trackers)
    waiting = f" {several(remaining, 'still waits', 'still wait')}." if remaining else ""
    click.echo(f"Stopped: {several(delivered, 'record was', 'records were')} delivered.{waiting}")
    sys.exit(1 if remaining else 0)


def _deliver(
    trackers: Sequence[Tracker],
    signals: Signals,
    once_within_s: float | None,
    metrics_address: tuple[str, int] | None,
) -> int:
    """Deliver, then close the trackers; return how many records are left where that is asked for."""
    try:
        with contextlib.ExitStack() as serving:
            if metrics_address is not None:
                host = metrics_address[0]
                port = serving.enter_context(serve(trackers, *metrics_address))
                click.echo(f"Metrics are on http://{host}:{port}/metrics")
            for tracker in trackers:
                _refuse_or_warn(tracker)
                tracker.start()
            spools = dict.fromkeys(without_secrets(tracker.settings.spool) for tracker in trackers)
            click.echo(f"Delivering to {trackers[0].settings.api_host} from {', '.join(spools)}")
            if once_within_s is None:
                signals.wait()
                return 0
            return _until_empty(trackers, signals, once_within_s)
    except MixpanelVisitorError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        address = ":".join(map(str, metrics_address or ()))
        raise click.ClickException(f"cannot serve metrics on {address}: {error}") from error
    finally:
        stop_s = _STOP_S if once_within_s is None else _STOP_ONCE_S
        for tracker in trackers:
            tracker.close(timeout_s=stop_s / len(trackers))


def _trackers(locations: Sequence[str], concurrency: int) -> list[Tracker]:
    all_settings = _settings(locations)
    try:
        return [
            Tracker(dataclasses.replace(settings))
            for settings in all_settings
            for _ in range(concurrency if _is_redis(settings) else 1)
        ]
    except MixpanelVisitorError as error:  # an extra that is not installed, say
        raise click.ClickException(str(error)) from error


def _settings(locations: Sequence[str]) -> list[Settings]:
    return [resolve(spool=location, deliver=True, require_secret=False) for location in locations or (None,)]


def _is_redis(settings: Settings) -> bool:
    return is_redis(settings.spool)


def _refuse_or_warn(tracker: Tracker) -> None:
    if not _is_redis(tracker.settings):
        return
    spool = open_redis_spool(tracker.settings.spool)
    try:
        shortcomings = server_of(spool).preflight()
    except SpoolUnavailableError as error:
        click.echo(f"Redis does not answer yet; waiting for it: {error}", err=True)
        return
    finally:
        spool.close()
    for each in shortcomings:
        line = f"{each.problem}: {each.impact}. Fix: {each.fix}."
        if each.refuses:
            raise click.ClickException(line)
        click.echo(f"Warning: {line}", err=True)


def _until_empty(trackers: Sequence[Tracker], signals: Signals, timeout_s: float) -> int:
    """Wait until every spool is empty; return how many records are left."""
    ends_s = time.monotonic() + timeout_s
    while True:
        remaining: int = sum(tracker.stats()["spool"]["pending"] for tracker in trackers)
        if not remaining or signals.is_set or time.monotonic() >= ends_s:
            return remaining
        signals.wait(_POLL_S)
