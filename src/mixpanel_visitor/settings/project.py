"""The project in public names: of the visitor cookie, and of its directory in a shared spool."""

from __future__ import annotations

import hashlib


def project_of(token: str) -> str:
    """Return eight hex digits that stand for the project and do not reveal its token."""
    return hashlib.sha256(token.encode()).hexdigest()[:8]


def default_cookie_name(token: str) -> str:
    """Return the visitor cookie's default name, so that two projects on one host have a cookie each."""
    return f"mpv_{project_of(token)}"
