"""File locks: the module `fcntl`; None on Windows, where no journal can be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import fcntl as fcntl  # noqa: PLC0414  # for others to import from here
else:
    try:
        import fcntl
    except ImportError:
        fcntl = None

__all__ = ["fcntl"]
