"""The project in names that anybody may read: of the visitor cookie, of its place in a shared spool."""

from __future__ import annotations

import hashlib


def project_of(token: str) -> str:
    """Return eight hex digits that stand for the project: no token is to be read there."""
    return hashlib.sha256(token.encode()).hexdigest()[:8]


def default_cookie_name(token: str) -> str:
    """Return the visitor cookie's name: two projects on one host do not disturb each other."""
    return f"mpv_{project_of(token)}"
