"""`mixpanel-visitor version`."""

from __future__ import annotations

import json

import click

from mixpanel_visitor import release


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> None:
    """Print the version."""
    version = release.VERSION
    click.echo(json.dumps({"version": version}) if as_json else version)
