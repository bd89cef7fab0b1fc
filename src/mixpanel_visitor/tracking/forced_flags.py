"""Forced flags: the values that a test gives to feature flags, for all trackers of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_forced: list[Mapping[str, Any]] = []


def active() -> Mapping[str, Any] | None:
    """Return the forced values by flag; None: no test forces any."""
    return _forced[-1] if _forced else None


def begin(values: Mapping[str, Any]) -> None:
    """Force these values, and those that are added to the mapping later."""
    _forced.append(values)


def end(values: Mapping[str, Any]) -> None:
    """Stop forcing these values; the ones before them count again."""
    _forced[:] = [each for each in _forced if each is not values]
