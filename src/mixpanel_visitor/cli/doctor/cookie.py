"""The cookie's settings: a domain that browsers take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .findings import Finding
from .public_suffixes import is_public_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.settings import Settings


def look_at_cookie(settings: Settings) -> Iterator[Finding]:
    """Judge the cookie's domain; its Secure and SameSite are ours and always right together."""
    if settings.cookie_domain and is_public_suffix(settings.cookie_domain):
        yield refused_domain(f"cookie_domain is {settings.cookie_domain!r}, a public suffix")


def refused_domain(what: str) -> Finding:
    """Say that browsers will not store the cookie."""
    return Finding(
        "E040",
        what,
        "browsers refuse cookies for domains below which anybody can have one: every visit is a new visitor",
        "name your own domain, or leave MIXPANEL_VISITOR_COOKIE_DOMAIN out",
    )
