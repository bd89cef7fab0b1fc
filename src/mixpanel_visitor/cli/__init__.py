"""The command `mixpanel-visitor`: one file or package per command, imported when that command is used.

To add a command, write `cli/<name>.py` with a click command called `command` and give it a line in
`COMMANDS`. Exit codes: 0, 1 (a finding or a failure), 2 (usage).
"""

from __future__ import annotations

import importlib
from typing import NamedTuple, cast

import click

from mixpanel_visitor import release
from mixpanel_visitor.errors import MissingExtraError, SettingsError
from mixpanel_visitor.quoting import one_line


class CommandEntry(NamedTuple):
    """Where a command is, and its line in the list of commands."""

    module: str
    help_line: str


COMMANDS: dict[str, CommandEntry] = {
    "dev": CommandEntry(
        "mixpanel_visitor.cli.dev", "Run a local Mixpanel with a page that shows what arrives."
    ),
    "demo": CommandEntry(
        "mixpanel_visitor.cli.demo", "Walk one visitor through an example shop; needs no account."
    ),
    "spool": CommandEntry(
        "mixpanel_visitor.cli.spool.commands", "See what waits in the spool; look after its dead letters."
    ),
    "send": CommandEntry("mixpanel_visitor.cli.send", "Deliver what waits in a spool, then end."),
    "worker": CommandEntry(
        "mixpanel_visitor.cli.worker", "Deliver what applications put into a spool: a directory, or Redis."
    ),
    "doctor": CommandEntry(
        "mixpanel_visitor.cli.doctor", "Check settings, the way to Mixpanel, and the spool."
    ),
    "plan": CommandEntry("mixpanel_visitor.cli.plan", "Check the tracking plan; export it for Lexicon."),
    "version": CommandEntry("mixpanel_visitor.cli.version", "Print the version."),
}


class LazyGroup(click.Group):
    """A group that lists its commands from a table and imports only the one that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        return cast("click.Command", importlib.import_module(entry.module).command)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what its error prints of files, servers and answers moves no cursor.

        Wrong settings have the exit code of a usage error, but not its lines: the command is right.
        """
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = _printable(error.message)
            raise
        except (SettingsError, MissingExtraError) as error:
            lines = [str(error), *getattr(error, "__notes__", ())]
            raise WrongSettings(_printable("\n".join(lines))) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help_line) for name, entry in COMMANDS.items()])


class WrongSettings(click.ClickException):
    """The command cannot begin with these settings."""

    exit_code = 2


def _printable(message: str) -> str:
    return "\n".join(map(one_line, message.split("\n")))


def _show_version(ctx: click.Context) -> None:
    click.echo(f"{release.NAME} {release.VERSION}")
    ctx.exit()


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda ctx, _option, requested: _show_version(ctx) if requested else None,
    help="Show the version and exit.",
)
def main() -> None:
    """One visitor ID for browser and backend, and events that reach Mixpanel.

    Not affiliated with Mixpanel.
    """
