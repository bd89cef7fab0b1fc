"""The Domain under which mixpanel-browser keeps its cookies.

Source: mixpanel-browser 2.83.0 (`utils.js`, `extract_domain`) and the Domains that it was seen to write. The
SDK knows no list of public suffixes: on `foo.github.io` it asks for `github.io`, and browsers refuse.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mixpanel_visitor.hosts import hostname

MAX_HOST_CHARS = 253
"""The longest host name (RFC 1035); the SDK's expressions are slow on longer ones."""

REMEMBERED = 1024
"""How many Host headers are remembered with their Domain."""

_SIMPLE = re.compile(r"[a-z0-9][a-z0-9-]*\.[a-z]+\Z")
# For two-part endings such as `ac.uk`.
_WITH_SHORT_ENDING = re.compile(r"[a-z0-9][a-z0-9-]+\.[a-z.]{2,6}\Z")


class CookieDomain:
    """Chooses the Domain of one site's cookies: the configured one, else the one that the SDK uses."""

    def __init__(self, configured: str | None, *, cross_subdomain: bool) -> None:
        self._configured = (configured or "").removeprefix(".").lower()
        self._cross_subdomain = cross_subdomain
        self._remembered = lru_cache(REMEMBERED)(self._choose)

    def on(self, host: str) -> str:
        """Return the Domain for a request's Host header; `""`: none, the cookie is for this host alone.

        A Domain that does not cover the host would make browsers refuse the cookie: then there is none.
        """
        return (self._choose if len(host) > MAX_HOST_CHARS else self._remembered)(host)

    def _choose(self, host: str) -> str:
        name = hostname(host)
        domain = self._configured or (sdk_domain(name) if self._cross_subdomain else "")
        return domain if name == domain or name.endswith(f".{domain}") else ""


def sdk_domain(name: str) -> str:
    """Return what the SDK's two expressions make of a host name in lower case; `""`: nothing."""
    if len(name) > MAX_HOST_CHARS:
        return ""
    top_level = name.rpartition(".")[2]
    is_simple = len(top_level) > 4 or top_level in ("com", "org")
    match = (_SIMPLE if is_simple else _WITH_SHORT_ENDING).search(name)
    return match[0] if match else ""
