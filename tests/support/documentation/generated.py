"""The files of `docs` that nobody writes by hand; a test compares each with what it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .architecture import architecture
from .command_line_page import command_line_page
from .diagrams import deployments, journey, spool_files
from .metrics_page import metrics_page
from .settings_page import settings_page

if TYPE_CHECKING:
    from pathlib import Path


def generated(root: Path) -> dict[Path, str]:
    """Return the paths of all generated files, each with its text."""
    docs = root / "docs"
    pictures = docs / "assets" / "pictures"
    return {
        docs / "reference" / "settings.md": settings_page(),
        docs / "reference" / "command-line.md": command_line_page(),
        docs / "reference" / "metrics.md": metrics_page(),
        pictures / "architecture.svg": architecture(root / "pyproject.toml"),
        pictures / "journey.svg": journey(),
        pictures / "spool-files.svg": spool_files(),
        pictures / "deployments.svg": deployments(),
    }
