"""`mixpanel-visitor version`."""

from __future__ import annotations

import importlib.metadata
import json

import click


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> None:
    """Print the version."""
    version = importlib.metadata.version("mixpanel-visitor")
    click.echo(json.dumps({"version": version}) if as_json else version)
