"""Quoting: text from outside, as it may stand in a log line, an error or a terminal.

A name, an ID, a URL, an answer or a file name may hold line ends and escape sequences: printed raw, it looks
like another log line, or moves the cursor. Whatever was not written in this package goes through here.
"""

from __future__ import annotations

from typing import Any

MAX_CHARS = 80
_MAX_BITS = 256


def one_line(text: str) -> str:
    """Return the text with everything escaped that ends a line, moves a cursor or cannot be seen."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def quoted(value: object, max_chars: int = MAX_CHARS) -> str:
    """Return a value for a message: a text in quotes and cut, a number, else the name of its type.

    Costs as much as what is shown, whatever the value is, and never raises.
    """
    kind: Any = type(value)
    untyped: Any = value
    if issubclass(kind, str):
        text: str = str.__getitem__(untyped, slice(max_chars + 1))
        return repr(text) if len(text) <= max_chars else f"{text[:max_chars]!r}..."
    if kind in (bool, float, type(None)) or (kind is int and untyped.bit_length() <= _MAX_BITS):
        return repr(untyped)
    return f"<{type_name(kind)}>"


def several(count: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun: `several(1, "event")`, `several(2, "record was", "records were")`.

    >>> several(1, "event"), several(2_000, "event"), several(0, "record was", "records were")
    ('1 event', '2,000 events', '0 records were')
    """
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def type_name(kind: type) -> str:
    """Return the name of a type, whatever its metaclass makes of that; never raises."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return one_line(name[:MAX_CHARS])


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
