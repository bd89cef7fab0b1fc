"""Drawing: boxes, arrows and texts as SVG, readable in the light and the dark mode of a reader's system."""

from __future__ import annotations

from xml.sax.saxutils import escape

_STYLE = """\
  <style>
    .paper { fill: #ffffff }
    .box { fill: #f3f0ff; stroke: #6b4fd8; stroke-width: 1.2 }
    .soft { fill: #f4f6f8; stroke: #a8b0ba; stroke-width: 1.2 }
    .line { stroke: #57606a; stroke-width: 1.4; fill: none }
    .dashed { stroke: #a8b0ba; stroke-width: 1.2; stroke-dasharray: 4 4; fill: none }
    .tip { fill: #57606a }
    text { fill: #1f2328; font: 14px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif }
    .small { fill: #57606a; font-size: 11.5px }
    .name { font-weight: 600 }
    .code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 12.5px }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #16181d }
      .box { fill: #2a2342; stroke: #a48bff }
      .soft { fill: #22262d; stroke: #6a737d }
      .line { stroke: #adb5be }
      .dashed { stroke: #6a737d }
      .tip { fill: #adb5be }
      text { fill: #e6e8eb }
      .small { fill: #adb5be }
    }
  </style>"""


class Drawing:
    """A picture of a width and a height, in pixels; the same calls give the same bytes."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self._width = width
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
            f'  width="{width}" height="{height}" role="img" aria-labelledby="title description">',
            f'  <title id="title">{escape(title)}</title>',
            f'  <desc id="description">{escape(description)}</desc>',
            _STYLE,
            f'  <rect class="paper" width="{width}" height="{height}"/>',
        ]

    def box(self, x: int, y: int, width: int, height: int, kind: str = "box") -> None:
        """Draw a rectangle; `kind` is `box` for what is ours, `soft` for what is not."""
        self._parts.append(
            f'  <rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
        )

    def text(self, x: int, y: int, text: str, kind: str = "", anchor: str = "middle") -> None:
        """Write one line; `y` is its baseline."""
        of_kind = f' class="{kind}"' if kind else ""
        self._parts.append(f'  <text{of_kind} x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')

    def labelled(self, x: int, y: int, width: int, lines: list[str], kind: str = "box") -> None:
        """Draw a box whose first line is its name; its height is that of the lines."""
        self.box(x, y, width, height_of(lines), kind)
        self.text(x + width // 2, y + 23, lines[0], "name")
        for number, line in enumerate(lines[1:]):
            self.text(x + width // 2, y + 42 + 16 * number, line, "small")

    def line(self, *points: tuple[int, int], dashed: bool = False) -> None:
        """Draw a line through points."""
        through = " ".join(f"{x},{y}" for x, y in points)
        self._parts.append(f'  <polyline class="{"dashed" if dashed else "line"}" points="{through}"/>')

    def arrow(self, *points: tuple[int, int], dashed: bool = False) -> None:
        """Draw a line whose end, which is horizontal or vertical, has a tip."""
        self.line(*points, dashed=dashed)
        (from_x, from_y), (x, y) = points[-2:]
        if from_y == y:
            back = -8 if x > from_x else 8
            tip = f"{x},{y} {x + back},{y - 4} {x + back},{y + 4}"
        else:
            back = -8 if y > from_y else 8
            tip = f"{x},{y} {x - 4},{y + back} {x + 4},{y + back}"
        self._parts.append(f'  <polygon class="tip" points="{tip}"/>')

    def svg(self) -> str:
        """Return the whole file."""
        return "\n".join([*self._parts, "</svg>", ""])


def height_of(lines: list[str]) -> int:
    """Return the height of a box with a name and further lines, in pixels."""
    return 36 + 16 * (len(lines) - 1) + (4 if len(lines) > 1 else 0)
