"""`manage.py mixpanel_visitor doctor|worker|spool|...`: our commands, with the settings of the site.

What follows is as on the command line: arguments, output, exit codes. `call_command` raises `CommandError`
where the exit code is not 0, with it as `returncode`. Django's own options may stand anywhere.
"""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mixpanel_visitor import release
from mixpanel_visitor.cli.embedded import run
from mixpanel_visitor.cli.settings_source import SettingsSource
from mixpanel_visitor.django.configuration import configured

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

_HELP = (["-h"], ["--help"])


class Command(BaseCommand):
    """The management command."""

    help = "The commands of mixpanel-visitor, with the settings of this site."
    requires_system_checks: Sequence[str] = ()  # `doctor` is there to be run where settings are wrong

    _program = "mixpanel_visitor"

    def get_version(self) -> str:
        """Return the version of mixpanel-visitor, which `--version` prints."""
        return release.VERSION

    def create_parser(self, prog_name: str, subcommand: str, **more: Any) -> CommandParser:
        """Return a parser that takes Django's options and leaves everything else to us."""
        parser: CommandParser = super().create_parser(
            prog_name, subcommand, add_help=False, allow_abbrev=False, **more
        )
        self._program = parser.prog.strip()
        vars(parser)["parse_args"] = partial(_parse, parser)
        return parser

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print our help, and which options Django takes."""
        options = self.create_parser(prog_name, subcommand).format_usage()
        run(["--help"], program=self._program, source=_source())
        self.stdout.write(f"\nDjango's own options may stand anywhere:\n\n{options.rstrip()}")

    def handle(self, *arguments: str, **options: Any) -> None:
        """Run one of our commands."""
        color = False if options["no_color"] else True if options["force_color"] else None
        with contextlib.ExitStack() as redirected:
            if options.get("stdout") is not None:
                redirected.enter_context(contextlib.redirect_stdout(options["stdout"]))
            if options.get("stderr") is not None:
                redirected.enter_context(contextlib.redirect_stderr(options["stderr"]))
            if list(arguments) in _HELP:
                program, _, name = self._program.rpartition(" ")
                self.print_help(program, name)
                return
            result = run(arguments, program=self._program, source=_source(), color=color)
        if not result.exit_code:
            return
        if self._called_from_command_line:
            if result.error:
                sys.stderr.write(f"{result.error}\n")
            sys.exit(result.exit_code)
        command = " ".join([self._program, *arguments])
        raise CommandError(
            result.error or f"{command}: exit code {result.exit_code}; its output says why",
            returncode=result.exit_code,
        )


def _source() -> SettingsSource:
    return SettingsSource(f"in {settings.SETTINGS_MODULE or 'Django'}", partial(configured, settings))


def _parse(parser: CommandParser, args: Sequence[str] | None = None, namespace: Any = None) -> Namespace:
    """Read Django's options; what is none of them is an argument of ours."""
    options: Namespace
    options, ours = parser.parse_known_args(args, namespace)
    options.args = ours
    return options
