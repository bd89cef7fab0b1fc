"""Terminal: text from outside, made safe to print."""

from __future__ import annotations

from typing import Any

NAME_CHARS = 60


def printable(text: Any, max_chars: int = NAME_CHARS) -> str:
    r"""Return a text cut to `max_chars`, without characters that control the terminal.

    >>> printable("red\x1b[31m", 5)
    'red?\u2026'
    """
    text_shown = "".join(char if char.isprintable() else "?" for char in str(text)[: max_chars + 1])
    return (
        text_shown
        if len(text_shown) <= max_chars
        else text_shown[: max_chars - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )


def escaped(text: str) -> str:
    r"""Return JSON with `\u` escapes for characters that control the terminal; newlines stay."""
    return "".join(char if char == "\n" or char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
