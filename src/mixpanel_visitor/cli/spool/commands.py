"""`mixpanel-visitor spool`: what waits in the spool, and what Mixpanel has refused."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
from typing import TYPE_CHECKING

import click

from mixpanel_visitor.cli.settings_source import setting_text
from mixpanel_visitor.cli.terminal import printable
from mixpanel_visitor.quoting import several

from .dead import dead
from .location import AS_JSON, SETTING, SPOOL, SpoolLocation, inspect_all, locate_spool
from .redis import is_redis, show_status

if TYPE_CHECKING:
    from mixpanel_visitor.delivery.journal.inspection import ProjectStatus

OLD_S = 3600.0
LOW_SHARE_FREE = 0.05
"""With a smaller share of the volume free, the journal refuses new records."""

_MESSAGE_CHARS = 400


@click.group("spool", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """See what waits in the spool; look after its dead letters.

    Each command takes the spool that MIXPANEL_VISITOR_SPOOL names, or the default place for MIXPANEL_TOKEN,
    unless --spool names another.
    """


@command.command("status")
@SPOOL
@AS_JSON
def status(*, location: str | None, as_json: bool) -> None:
    """Show what waits, how old it is, and whether a process delivers it.

    Only reads; safe beside running servers. Exit code 1: something needs attention, and the output says what
    to do.
    """
    location_or_setting = location or setting_text(SETTING)
    if is_redis(location_or_setting):
        show_status(location_or_setting, as_json=as_json)
    spool = locate_spool(location)
    projects = inspect_all(spool.projects, quiet=as_json)
    findings = [finding for project in projects for finding in _findings(project, spool)]
    if as_json:
        statuses = [project.as_json() for project in projects]
        click.echo(json.dumps({"spool": str(spool.root), "projects": statuses, "findings": findings}))
    else:
        _print_status(spool, projects, findings)
    sys.exit(1 if findings else 0)


def _print_status(spool: SpoolLocation, projects: list[ProjectStatus], findings: list[str]) -> None:
    click.echo(f"Spool {printable(spool.root, _MESSAGE_CHARS)}")
    if not projects:
        click.echo("Nothing was put there yet.")
    for project in projects:
        size = f"{several(project.bytes, 'byte')} in {several(project.segments, 'segment')}"
        waiting = f"{several(project.waiting, 'record')}, {size}"
        if project.oldest_age_s is not None:
            waiting += f"; the oldest for {_age_text(project.oldest_age_s)}"
        corrupt = several(project.corrupt_bytes, "corrupt byte")
        damage = f"{several(project.torn_tails, 'torn end')}, {corrupt}"
        free = f"{project.free_bytes:,} of {project.volume_bytes:,} bytes of the volume"
        click.echo(f"\n{printable(project.path.name)}")
        click.echo(f"  waiting       {waiting}")
        click.echo(f"  dead letters  {project.dead_letters:,}")
        click.echo(f"  damage        {damage}")
        click.echo(f"  delivered by  {'a running process' if project.led else 'no process at the moment'}")
        click.echo(f"  free          {free}")
        for note in project.notes:
            click.echo(f"  note          {printable(note, _MESSAGE_CHARS)}")
    click.echo("")
    for finding in findings:
        click.echo(click.style(f"! {printable(finding, _MESSAGE_CHARS)}", fg="red"))
    if not findings:
        click.echo("Nothing needs attention.")


def _findings(project: ProjectStatus, spool: SpoolLocation) -> list[str]:
    findings = []
    name = project.path.name
    if project.dead_letters:
        dead_letters = several(project.dead_letters, "dead letter")
        findings.append(
            f"{name}: {dead_letters}. See why with: mixpanel-visitor spool dead "
            f"list --spool {shlex.quote(str(spool.root))}"
        )
    if project.oldest_age_s is not None and project.oldest_age_s > OLD_S:
        hint = (
            "A process delivers, but does not reach Mixpanel: its log says why (is Mixpanel reachable, are "
            "the token and the region right?)."
            if project.led
            else "No process delivers it: start a process of the application with deliver=True on this spool."
        )
        findings.append(f"{name}: the oldest record waits for {_age_text(project.oldest_age_s)}. {hint}")
    if project.free_bytes < project.volume_bytes * LOW_SHARE_FREE:
        findings.append(
            f"{name}: less than {LOW_SHARE_FREE:.0%} of the volume is free: new records are refused."
        )
    return findings


def _age_text(seconds: float) -> str:
    return str(dt.timedelta(seconds=int(seconds)))


command.add_command(dead)
