"""Policy: may we track this request, and may its response carry our cookie?

Sources: Fetch Metadata (Sec-Fetch-*), RFC 9111 (shared caches), RFC 9213 (CDN-Cache-Control), the Edge
Architecture Specification (Surrogate-Control), nginx (X-Accel-Expires), Akamai (Edge-Control), Global
Privacy Control, and what mixpanel-browser itself honours (DNT, its opt-out cookie).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from .request import all_cookie_values, response_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request import RequestFacts

Consent = Literal["granted", "denied", "unknown"]

MAX_CACHE_CONTROL_CHARS = 1024
"""A longer value is not read, and counts as cacheable."""

_TARGETED = "-cache-control"
"""The end of header names for one kind of cache (RFC 9213), after `CDN-` or a vendor's name."""

_SURROGATES = ("surrogate-control", "edge-control")
"""Caches that obey these ignore Cache-Control, and some of them read the first line only."""

_ORIGIN = re.compile("[a-z]+://[^/?#]*", re.IGNORECASE)
_NO_TIME = re.compile("0{1,20}")
_DIRECTIVE = re.compile(r'(!?[0-9A-Za-z_-]+)(?:\s*=\s*(?:"([^"]*)"|([^,\s"]*)))?')


def is_prefetch(facts: RequestFacts) -> bool:
    """Return whether the browser fetches ahead of a visit that may never happen."""
    purposes = facts.purposes
    return bool(purposes) and any(purpose.lower().startswith(("prefetch", "preview")) for purpose in purposes)


def privacy_signal_set(facts: RequestFacts, respect_dnt: bool, respect_gpc: bool) -> bool:
    """Return whether a header says that this person does not want to be tracked."""
    return facts.has_privacy_signal and (
        (respect_gpc and facts.header("sec-gpc") == "1") or (respect_dnt and facts.header("dnt") == "1")
    )


def opted_out(facts: RequestFacts, *, token: str, respect_dnt: bool, respect_gpc: bool) -> bool:
    """Return whether the visitor has opted out, by a header or any cookie of the browser SDK."""
    if privacy_signal_set(facts, respect_dnt, respect_gpc):
        return True
    if "mp_opt" not in facts.cookies:
        return False
    return "0" in all_cookie_values(facts.cookies, f"__mp_opt_in_out_{token}") or any(
        all_cookie_values(facts.cookies, "mp_optout")
    )


def is_document(facts: RequestFacts) -> bool:
    """Return whether the browser asks for a page to show at once; a prefetched one may never be shown."""
    return asks_for_page(facts) and not is_prefetch(facts)


def asks_for_page(facts: RequestFacts) -> bool:
    """Return whether the request is for a page: by its Fetch Metadata, of old browsers by its Accept."""
    destination = facts.destination
    return destination == "document" if destination else "text/html" in facts.header("accept")


def may_set_cookie(facts: RequestFacts, *, tracked: bool) -> bool:
    """Return whether the response to this request may store an ID.

    A visit is a document, or any request of a client without Fetch Metadata (curl, test clients, old
    browsers). A sub-resource of the same site counts once its handler has `tracked`, so that a JSON API
    behind a single-page app works. Where the browser withholds our cookie, a response would overwrite it.
    """
    if facts.method in ("HEAD", "OPTIONS", "TRACE") or is_prefetch(facts) or withholds_cookies(facts):
        return False
    return not is_part_of_page(facts) or (tracked and facts.site in ("same-origin", "same-site", "none"))


def is_part_of_page(facts: RequestFacts) -> bool:
    """Return whether a browser says that this is a resource of a page, not a page itself."""
    return facts.destination not in ("", "document")


def withholds_cookies(facts: RequestFacts) -> bool:
    """Return whether a browser sends such a request without our cookie, even if it has one.

    With `SameSite=Lax` these are all requests from another site except those that show a page in the tab by a
    safe method; and all requests of embedded pages without access to their cookies. A browser without Fetch
    Metadata names the other site only in `Origin`, in unsafe requests.
    """
    if facts.storage_access in ("none", "inactive"):
        return True
    site = facts.site
    is_safe = facts.method in ("GET", "HEAD", "OPTIONS", "TRACE")
    if site:
        return site == "cross-site" and not (is_safe and not is_part_of_page(facts))
    return not is_safe and _is_cross_site(facts.header("origin"), facts.host)


def is_same_origin(facts: RequestFacts, *, or_referer: bool = False) -> bool:
    """Return whether a page of this very origin has sent an unsafe request.

    `Sec-Fetch-Site` decides if it is sent; else `Origin` has to be ours; with `or_referer` else `Referer`;
    without any of them the answer is False.
    """
    site = facts.site
    if site:
        return site == "same-origin"
    origin = facts.header("origin")
    if not origin and or_referer and (match := _ORIGIN.match(facts.header("referer"))):
        origin = match[0]
    scheme, separator, host = origin.lower().partition("://")
    return bool(separator and facts.host) and (scheme, host) == (facts.scheme, facts.host.lower())


def _is_cross_site(origin: str, host: str) -> bool:
    """Return whether an origin is of another site than a host; False for an opaque origin.

    Hosts with the same last two labels count as one site: too many under a public suffix such as `co.uk`.
    """
    _, separator, origin_host = origin.lower().partition("://")
    names = [name.rpartition(":")[0] if ":" in name else name for name in (origin_host, host.lower())]
    return bool(separator) and names[0].split(".")[-2:] != names[1].split(".")[-2:]


def shared_cacheable(headers: Sequence[tuple[str, str]], *, now_s: float) -> bool:
    """Return whether shared caches may store this response, so that it must not carry a cookie."""
    if not headers:
        return False  # as in most responses that are made for one visitor
    for name, value in headers:
        lower = name.lower()
        if lower == "x-accel-expires":
            # A time that has passed counts as well: nginx stores the response, as a stale one.
            if not _NO_TIME.fullmatch(value.strip()):
                return True
        elif lower in _SURROGATES:
            if len(value) > MAX_CACHE_CONTROL_CHARS or "no-store" not in _directives(value):
                return True
        elif (is_targeted := lower.endswith(_TARGETED)) or lower == "cache-control":
            if len(value) > MAX_CACHE_CONTROL_CHARS:
                return True  # too long to be read
            if is_targeted and _has_lifetime(_directives(value)):
                return True
    directives = _directives(response_header(headers, "cache-control") or "")
    if _is_private(directives):
        return False
    if "public" in directives or "immutable" in directives or _has_lifetime(directives):
        return True
    if "max-age" in directives or "s-maxage" in directives or "no-cache" in directives:
        return False
    expires = response_header(headers, "expires")
    return expires is not None and _is_later(expires, now_s)


def missing_private(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers that a response with a cookie lacks, so that no shared cache stores it.

    Set-Cookie does not forbid that (RFC 9111, 7.3), and neither do `no-cache` and `max-age=0`: a stored
    response that is found to be still valid is sent to others with the cookie that was stored with it.
    """
    names = {name.lower() for name, _ in headers if name.lower().endswith("cache-control")}
    if not names:
        return [("cache-control", "private")]
    names.discard("cache-control")
    return [
        (name, "private")
        for name in ("cache-control", *sorted(names))  # caches that obey one of these ignore Cache-Control
        if not _is_private(_directives(response_header(headers, name) or ""))
    ]


def _directives(value: str) -> dict[str, str]:
    """Read `name`, `name=value` and `name="quoted, value"`; names in lower case, `""`: no value."""
    return {name.lower(): (quoted or plain).strip() for name, quoted, plain in _DIRECTIVE.findall(value)}


def _is_private(directives: dict[str, str]) -> bool:
    # `private="field"` protects that field only (RFC 9111, 5.2.2.7); the bare word protects the response.
    return directives.get("private") == "" or "no-store" in directives


def _has_lifetime(directives: dict[str, str]) -> bool:
    """Return whether a shared cache may serve the response without asking; an unreadable value counts."""
    value = directives.get("s-maxage", directives.get("max-age", "0"))
    return bool(value) and not _NO_TIME.fullmatch(value)


def _is_later(expires: str, now_s: float) -> bool:
    # Late: few responses have such a header, and this import takes a tenth of the whole package's time.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        return parsedate_to_datetime(expires).timestamp() > now_s
    except (ValueError, TypeError, OverflowError):
        return False  # RFC 9111, 5.3: an invalid date, "0" above all, means "already expired"
