"""Forced flags: while a test says what a flag is, that is what it is, for all trackers of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_forced: list[Mapping[str, Any]] = []


def active() -> Mapping[str, Any] | None:
    """Return the values that hold now, by flag; None: no test forces any."""
    return _forced[-1] if _forced else None


def begin(values: Mapping[str, Any]) -> None:
    """Let these values hold from now on; what is added to them later holds as well."""
    _forced.append(values)


def end(values: Mapping[str, Any]) -> None:
    """Let those hold again that did before."""
    _forced[:] = [each for each in _forced if each is not values]
