"""Loading: an object of the application, named as servers name it, `shop.main:app`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mixpanel_visitor.plan.differences import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


class Wanted(NamedTuple):
    """What is looked for: its name where none is given, an example, what it is called, and how to know it."""

    default: str
    example: str
    called: str
    is_it: Callable[[object], bool]


def load(where: str, wanted: Wanted) -> object:
    """Import the module, from the working directory as well, and give the object.

    A usage error where there is none; a ClickException where the module fails, whose `__cause__` says how.
    """
    module_name, _, path = where.partition(":")
    found: object = _import(module_name, wanted.example)
    for name in (path or wanted.default).split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            there = getattr(found, "__dict__", {})
            others = [name for name, value in there.items() if wanted.is_it(value)]
            hint = did_you_mean(name, others) or (f"; it has {', '.join(others)}" if others else "")
            raise click.UsageError(f"{module_name} has no {name!r}{hint}") from None
    if not wanted.is_it(found):
        raise click.UsageError(f"{where} is no {wanted.called}, but a {type(found).__name__}")
    return found


def _import(name: str, example: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.UsageError(f"{name!r} is no module; give MODULE:NAME, such as {example}")
    with _here():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise click.ClickException(f"{name} cannot be imported: {error}") from error
            raise click.UsageError(
                f"there is no module {name!r} here; give one that Python can import from this directory, "
                f"such as {example}"
            ) from error
        except Exception as error:
            raise click.ClickException(
                f"{name} cannot be imported: {type(error).__name__}: {error}"
            ) from error


@contextlib.contextmanager
def _here() -> Iterator[None]:
    """Let the modules of this directory be found, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
