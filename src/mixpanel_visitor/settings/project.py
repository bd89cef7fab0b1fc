"""The project in public names: of the visitor cookie, of its directory in a shared spool, of its routes."""

from __future__ import annotations

import hashlib

_ALPHABET = "bcdfghjkmnpqrstvwxz23456789"
_WORD_CHARS = 6


def project_of(token: str) -> str:
    """Return eight hex digits that stand for the project and do not reveal its token."""
    return hashlib.sha256(token.encode()).hexdigest()[:8]


def default_cookie_name(token: str) -> str:
    """Return the visitor cookie's default name, so that two projects on one host have a cookie each."""
    return f"mpv_{project_of(token)}"


def own_word(token: str, purpose: str) -> str:
    """Return six letters and digits that are this project's own; without a vowel, and so without a word.

    The same in every process, whichever key signs: pages that browsers have kept go on using it.
    """
    digest = hashlib.sha256(f"mixpanel-visitor {purpose} {token}".encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_WORD_CHARS])
