"""The cookie's settings: a domain that browsers take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixpanel_visitor.errors import MissingExtraError

from .findings import Finding
from .public_suffixes import is_public_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.settings import Settings

_REFUSED = (
    "browsers refuse a cookie for a domain below which anybody can have one: each visit is a new visitor"
)


def check_cookie(settings: Settings) -> Iterator[Finding]:
    """Check the cookie's domain. Its Secure and SameSite are not settings, and always fit together."""
    domain = settings.cookie_domain
    if domain:
        yield from check_domain(domain, f"cookie_domain is {domain!r}")


def check_domain(domain: str, subject: str) -> Iterator[Finding]:
    """Check a cookie's domain; `subject` begins the finding, as in "cookie_domain is 'example.com'"."""
    is_public = is_public_suffix(domain)
    if is_public is None:
        yield Finding(
            "W041",
            f"{subject}: not checked against the list of public suffixes",
            _REFUSED,
            str(MissingExtraError("publicsuffixlist", "doctor")),
        )
    elif is_public:
        yield Finding(
            "E040",
            f"{subject}, a public suffix",
            _REFUSED,
            "name your own domain, or leave MIXPANEL_VISITOR_COOKIE_DOMAIN out",
        )
