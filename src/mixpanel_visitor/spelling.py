"""Spelling: the known word that was probably meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEPARATORS = re.compile(r"[\s_.-]+")


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the most likely known word: equal but for case, spaces and hyphens, else similar; None: none is.

    >>> closest("regoin", ["region", "token"]), closest("Sign-Up", ["Sign up", "Log in"])
    ('region', 'Sign up')
    """
    words = list(known)
    normalised = _normalised(word)
    equal = next((each for each in words if _normalised(each) == normalised), None)
    if equal is not None:
        return equal
    import difflib  # noqa: PLC0415  # late: where nothing is misspelt nobody needs it

    return next(iter(difflib.get_close_matches(word, words, n=1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` with the most likely known word; `""` where none is similar.

    >>> did_you_mean("Sign-Up", ["Sign up", "Log in"])
    "; did you mean 'Sign up'?"
    """
    suggestion = closest(word, known)
    return "" if suggestion is None else f"; did you mean {suggestion!r}?"


def _normalised(word: str) -> str:
    return _SEPARATORS.sub("", word).casefold()
