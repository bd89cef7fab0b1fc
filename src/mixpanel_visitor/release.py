"""Release: the version of this package, as far as it is known where it runs."""

from __future__ import annotations

from functools import cache

NAME = "mixpanel-visitor"
UNKNOWN = "0"
"""The version where there is no metadata."""


@cache
def version() -> str:
    """Return the installed version, or `UNKNOWN`: frozen, zipped and vendored copies have no metadata."""
    from importlib import metadata  # noqa: PLC0415  # takes longer to import than all of this package's core

    # Not PackageNotFoundError alone: metadata that is damaged fails in other ways.
    try:
        return str(metadata.version(NAME) or UNKNOWN)
    except Exception:
        return UNKNOWN
