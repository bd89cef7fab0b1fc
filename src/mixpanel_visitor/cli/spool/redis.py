"""The status of a spool in Redis, for `spool status` and `doctor`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from mixpanel_visitor.cli.settings_source import resolve, setting_text
from mixpanel_visitor.delivery.forwarding import ForwardingSpool
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.errors import SettingsError, SpoolUnavailableError
from mixpanel_visitor.quoting import several
from mixpanel_visitor.settings.masked import without_secrets
from mixpanel_visitor.settings.project import project_of
from mixpanel_visitor.settings.redis_address import SCHEMES

if TYPE_CHECKING:
    from mixpanel_visitor.delivery.redis_streams import RedisSpool

OLD_S = 3600.0


def is_redis(location: str) -> bool:
    """Return whether a location names a Redis.

    >>> is_redis("redis://localhost/0"), is_redis("/var/spool/events")
    (True, False)
    """
    return location.partition("://")[0].lower() in SCHEMES and "://" in location


def open_redis_spool(location: str) -> ForwardingSpool | RedisSpool:
    """Open the spool of the project in MIXPANEL_TOKEN; raise `SettingsError` without a token.

    Where there are no file locks (Windows), it has no journal beside it.
    """
    if not setting_text("MIXPANEL_TOKEN"):
        raise SettingsError(["set MIXPANEL_TOKEN: in Redis each project has streams of its own"])
    settings = resolve(spool=location, require_secret=False)
    spool: Any = open_spool(settings.spool, project=project_of(settings.token))
    return spool  # type: ignore[no-any-return]


def server_of(spool: ForwardingSpool | RedisSpool) -> RedisSpool:
    """Return the spool at the server, without the journal beside it."""
    return spool.server if isinstance(spool, ForwardingSpool) else spool


def show_status(location: str, *, as_json: bool) -> None:
    """Print the status of a spool in Redis; exit with 1 where something needs attention."""
    spool = open_redis_spool(location)
    try:
        issues = server_of(spool).preflight()
    except SpoolUnavailableError as error:
        raise click.ClickException(f"{without_secrets(location)}: {error}") from error
    counts = spool.counts()
    spool.close()
    findings = [f"{issue.problem}: {issue.impact}. Fix: {issue.fix}." for issue in issues]
    if counts.store_dead:
        findings.append(
            f"{several(counts.store_dead, 'dead letter')}. See why with: mixpanel-visitor spool dead "
            f"list --spool {without_secrets(location)}"
        )
    if counts.oldest_age_s > OLD_S:
        findings.append(
            f"The oldest record waits for {counts.oldest_age_s:,.0f} s. Do workers run, and what do they log?"
        )
    fields = {
        "waiting": counts.store_pending,
        "bytes": counts.store_bytes,
        "oldest_age_s": round(counts.oldest_age_s, 1),
        "dead_letters": counts.store_dead,
    }
    if as_json:
        click.echo(json.dumps({"spool": without_secrets(location), **fields, "findings": findings}))
    else:
        click.echo(f"Spool {without_secrets(location)}\n")
        waiting = several(counts.store_pending, "record"), several(counts.store_bytes, "byte")
        click.echo(f"  waiting       {', '.join(waiting)}, compressed")
        click.echo(f"  the oldest    for {fields['oldest_age_s']:,} s")
        click.echo(f"  dead letters  {fields['dead_letters']:,}\n")
        for finding in findings:
            click.echo(click.style(f"! {finding}", fg="red"))
        if not findings:
            click.echo("Nothing needs attention.")
    sys.exit(1 if findings else 0)
