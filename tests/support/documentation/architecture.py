"""The picture of the rooms, drawn from the import law of `pyproject.toml`, which CI enforces."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from .svg import Drawing

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH = 1000
_MARGIN = 20
_ROW = 50
_GAP = 12
_MOST_IN_A_LINE = 5


def architecture(pyproject: Path) -> str:
    """Draw the layers, highest first, and under each room the libraries that only this room may import."""
    contracts = tomllib.loads(pyproject.read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    libraries = _libraries(contracts)
    rows = [[room.strip() for room in layer.split("|")] for layer in layers]
    lines = [[row[at : at + _MOST_IN_A_LINE] for at in range(0, len(row), _MOST_IN_A_LINE)] for row in rows]
    height = 66 + sum(_ROW * len(each) + _GAP * (len(each) - 1) + _GAP + 4 for each in lines)
    drawing = Drawing(
        _WIDTH,
        height,
        "The rooms of mixpanel-visitor",
        "Each row may import the rows below it, and nothing else: " + "; ".join(layers) + ".",
    )
    caption = "A room imports from the rows below its own, and from nothing else of the package."
    drawing.text(_MARGIN, 28, caption, "small", "start")
    drawing.text(
        _MARGIN,
        45,
        "In small print: libraries that only the rooms which name them may import.",
        "small",
        "start",
    )
    y = 56
    for row in lines:
        band = _ROW * len(row) + _GAP * (len(row) - 1)
        if len(row) > 1:
            drawing.box(_MARGIN - 8, y - 7, _WIDTH - 2 * _MARGIN + 16, band + 14, "soft")
        for line in row:
            _draw_line(drawing, y, line, libraries)
            y += _ROW + _GAP
        y += 4
    return drawing.svg()


def _draw_line(drawing: Drawing, y: int, rooms: list[str], libraries: dict[str, list[str]]) -> None:
    width = (_WIDTH - 2 * _MARGIN - _GAP * (len(rooms) - 1)) // len(rooms)
    for place, room in enumerate(rooms):
        x = _MARGIN + place * (width + _GAP)
        others = ", ".join(libraries.get(room, ()))
        drawing.box(x, y, width, _ROW)
        drawing.text(x + width // 2, y + (21 if others else 30), room, "name")
        if others:
            drawing.text(x + width // 2, y + 38, others, "small")


def _libraries(contracts: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the protected libraries of each room that may import them."""
    found: dict[str, list[str]] = {}
    for contract in contracts:
        for importer in contract.get("allowed_importers", ()):
            room = importer.split(".")[1]
            for library in contract["protected_modules"]:
                if library not in found.setdefault(room, []):
                    found[room].append(library)
    return found
