"""The spool's location, for the commands that operate it, and the projects in it."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mixpanel_visitor.cli.settings_source import resolve, setting_text
from mixpanel_visitor.delivery.journal.inspection import ProjectStatus, inspect
from mixpanel_visitor.delivery.journal.segments import list_segments
from mixpanel_visitor.delivery.spool import DirectorySpool
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings.masked import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SETTING = "MIXPANEL_VISITOR_SPOOL"

SPOOL = click.option(
    "--spool", "location", metavar="DIR", help=f"The spool; default: {SETTING}, or the default place."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass(frozen=True, slots=True)
class SpoolLocation:
    """A spool's directory, and the journals in it: one for each project."""

    root: Path
    projects: list[Path]


def locate_spool(location: str | None, *, may_be_empty: bool = False) -> SpoolLocation:
    """Return the journals of a spool, by default the one in the settings; raise UsageError without any."""
    root = _spool_directory(location or setting_text(SETTING) or _default_location())
    try:
        if (root / "VERSION").is_file():
            return SpoolLocation(root, [root])
        projects = sorted(path for path in root.iterdir() if (path / "VERSION").is_file())
        if projects or may_be_empty:
            return SpoolLocation(root, projects)
        # An empty result would hide a wrong path from monitoring.
        nested = sorted({path.parent.parent for path in root.glob("*/*/VERSION")})
        hint = (
            f"It holds {len(nested)}: give --spool {nested[0]}{', say' if len(nested) > 1 else ''}."
            if nested
            else "Nothing was put there yet, or the spool is somewhere else."
        )
        raise click.UsageError(f"{root} is no spool. {hint}")
    except (FileNotFoundError, NotADirectoryError):
        raise click.UsageError(
            f"there is no spool in {root}. Nothing was put there yet, or it is somewhere else: give --spool "
            f"DIR, or set {SETTING} or MIXPANEL_TOKEN as the application has it."
        ) from None
    except OSError as error:
        raise click.ClickException(
            f"the spool {root} cannot be read: {error.strerror}. Run this as its owner."
        ) from error


def _default_location() -> str:
    try:
        # The default depends on the token and the host alone.
        return resolve(require_secret=False).spool
    except SettingsError as error:
        error.add_note("Or name the spool: --spool DIR")
        raise


def _spool_directory(location: str) -> Path:
    if "://" in location and not location.startswith("file:"):
        raise click.UsageError(
            f"{without_secrets(location)} is no directory. For a Redis use `spool status`, `spool dead` "
            "or `doctor`."
        )
    spool = open_spool(location)
    if not isinstance(spool, DirectorySpool):
        raise click.UsageError(
            f"{location} is in the memory of its own process: no other process can read it."
        )
    return spool.directory


def inspect_all(projects: Sequence[Path], *, quiet: bool) -> list[ProjectStatus]:
    """Read all segments of these journals, with a bar on a terminal."""
    try:
        sizes_by_project = {path: list_segments(path)[0] for path in projects}
        total = sum(size for sizes in sizes_by_project.values() for size in sizes.values())
        with progress(total, "Reading", quiet=quiet) as advance:
            return [inspect(path, sizes, advance) for path, sizes in sizes_by_project.items()]
    except OSError as error:
        raise click.ClickException(f"the spool cannot be read: {error}. Run this as its owner.") from error


def user_name(uid: int) -> str:
    """Return the name of a user of this system, or `#` and the user ID where there is none."""
    import pwd  # noqa: PLC0415  # not on Windows, where no spool is in a directory

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def only_as_owner(spool: SpoolLocation) -> None:
    """Raise ClickException where root would write files that the spool's owner could not use."""
    for project in spool.projects:
        owner = project.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            name = user_name(owner)
            raise click.ClickException(
                f"{project} belongs to {name}, who could not use what root writes there. "
                f"Run this as that user: sudo -u '{name}' mixpanel-visitor spool ..."
            )


@contextlib.contextmanager
def progress(length: int, label: str, *, quiet: bool) -> Iterator[Any]:
    """Show a progress bar, on a terminal only; yield a function that advances it by a number of steps."""
    if quiet or not sys.stderr.isatty():
        yield lambda _step: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
