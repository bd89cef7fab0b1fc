"""Names made of the project token: of the visitor cookie, the directory in a shared spool, and routes."""

from __future__ import annotations

import hashlib

_ALPHABET = "bcdfghjkmnpqrstvwxz23456789"
_WORD_CHARS = 6


def project_of(token: str) -> str:
    """Return eight hex digits that identify the project and do not reveal its token."""
    return hashlib.sha256(token.encode()).hexdigest()[:8]


def default_cookie_name(token: str) -> str:
    """Return the visitor cookie's default name, so that two projects on one host have a cookie each."""
    return f"mpv_{project_of(token)}"


def own_word(token: str, purpose: str) -> str:
    """Return six letters and digits for a purpose of this project; without vowels they spell no real word.

    They are the same in every process and with every secret key, because browsers cache pages with them.
    """
    digest = hashlib.sha256(f"mixpanel-visitor {purpose} {token}".encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_WORD_CHARS])
