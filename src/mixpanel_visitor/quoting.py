"""Quoting: text from outside, made safe for a log line, an error message or a terminal.

A name, an ID, a URL, an answer or a file name may hold line ends and escape sequences: printed raw, it could
look like another log line, or control the terminal. All text from outside goes through here.
"""

from __future__ import annotations

from typing import Any

MAX_CHARS = 80
_MAX_BITS = 256


def one_line(text: str) -> str:
    r"""Return the text with line ends, control characters and invisible characters escaped.

    >>> one_line("Signed up\x0aERROR forged")
    'Signed up\\nERROR forged'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def quoted(value: object, max_chars: int = MAX_CHARS) -> str:
    """Return a value for a message: quoted and shortened text, a number, else the name of its type.

    The cost depends on the length shown, not on the value. Never raises.

    >>> quoted("Signed up"), quoted(3), quoted({"password": "hush"})
    ("'Signed up'", '3', '<dict>')
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
    """Return a count with its noun; `plural` defaults to `singular` and "s".

    >>> several(1, "event"), several(2_000, "event"), several(0, "record was", "records were")
    ('1 event', '2,000 events', '0 records were')
    """
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def type_name(kind: type) -> str:
    """Return a type's own name, without asking its metaclass; never raises."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return one_line(name[:MAX_CHARS])


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
