"""Our commands under another program's name and with its settings, as `manage.py` has them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import click

from . import main

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings_source import SettingsSource


class CommandResult(NamedTuple):
    """How a command ended: its exit code, and the error that is still to be printed, `""` for none."""

    exit_code: int
    error: str


def run(
    arguments: Sequence[str], *, program: str, source: SettingsSource, color: bool | None = None
) -> CommandResult:
    """Run a command in this process; the exit codes are those of the command line.

    `program` stands before the arguments in usage lines. `color=None`: as the terminal has it.
    """
    try:
        code = main.main(list(arguments), prog_name=program, standalone_mode=False, obj=source, color=color)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        return CommandResult(error.exit_code, shown.getvalue().rstrip())
    except click.Abort:
        return CommandResult(1, "Aborted!")
    except SystemExit as exit_:
        code = exit_.code
    if code is None or isinstance(code, int):
        return CommandResult(int(code or 0), "")
    return CommandResult(1, str(code))
