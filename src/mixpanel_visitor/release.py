"""Release: the installed version of this package."""

from __future__ import annotations

from functools import cache

NAME = "mixpanel-visitor"
UNKNOWN = "0"
"""The version where the package has no metadata."""


@cache
def version() -> str:
    """Return the installed version; `UNKNOWN` in frozen, zipped and vendored copies without metadata."""
    from importlib import metadata  # noqa: PLC0415  # slower to import than this package's core

    # Damaged metadata raises other errors than PackageNotFoundError.
    try:
        return str(metadata.version(NAME) or UNKNOWN)
    except Exception:
        return UNKNOWN
