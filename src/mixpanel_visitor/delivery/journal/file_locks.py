"""File locks: `fcntl`, or None where there is none (Windows): no journal can be opened there."""

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
