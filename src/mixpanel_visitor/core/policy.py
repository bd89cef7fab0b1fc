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
"""A longer value of the application's own is taken for the worst."""

_TARGETED = "-cache-control"
"""How names of headers for the caches of one kind end (RFC 9213): `CDN-`, or that of a vendor."""

_SURROGATES = ("surrogate-control", "edge-control")
"""Who is addressed by these looks at no Cache-Control, and some of them at the first line only."""

_ORIGIN = re.compile("[a-z]+://[^/?#]*", re.IGNORECASE)
_NO_TIME = re.compile("0{1,20}")
_DIRECTIVE = re.compile(r'(!?[0-9A-Za-z_-]+)(?:\s*=\s*(?:"([^"]*)"|([^,\s"]*)))?')


def is_prefetch(facts: RequestFacts) -> bool:
    """Return whether the browser fetches ahead of a visit that may never happen."""
    purposes = facts.purposes
    return bool(purposes) and any(each.lower().startswith(("prefetch", "preview")) for each in purposes)


def privacy_signal_set(facts: RequestFacts, respect_dnt: bool, respect_gpc: bool) -> bool:
    """Return whether a header says that this person does not want to be tracked."""
    return facts.has_privacy_signal and (
        (respect_gpc and facts.header("sec-gpc") == "1") or (respect_dnt and facts.header("dnt") == "1")
    )


def opted_out(facts: RequestFacts, *, token: str, respect_dnt: bool, respect_gpc: bool) -> bool:
    """Return whether the browser says so, in a header or in any cookie of the browser SDK."""
    if privacy_signal_set(facts, respect_dnt, respect_gpc):
        return True
    if "mp_opt" not in facts.cookies:
        return False
    return "0" in all_cookie_values(facts.cookies, f"__mp_opt_in_out_{token}") or any(
        all_cookie_values(facts.cookies, "mp_optout")
    )


def is_document(facts: RequestFacts) -> bool:
    """Return whether a page is asked for that is shown at once; one that is fetched ahead may never be."""
    return asks_for_page(facts) and not is_prefetch(facts)


def asks_for_page(facts: RequestFacts) -> bool:
    """Return whether a page is asked for: by the browser's own word; of an old one by what it accepts."""
    destination = facts.destination
    return destination == "document" if destination else "text/html" in facts.header("accept")


def may_set_cookie(facts: RequestFacts, *, tracked: bool) -> bool:
    """Return whether this request is one whose answer may store an ID.

    A visit is a document, or anything from a client that sends no fetch metadata (curl, test clients, old
    browsers). A sub-resource of the same site counts once its handler has `tracked`, so that a JSON API
    behind a single-page app works. Where the browser withholds our cookie, an answer would overwrite it.
    """
    if facts.method in ("HEAD", "OPTIONS", "TRACE") or is_prefetch(facts) or withholds_cookies(facts):
        return False
    return not is_part_of_page(facts) or (tracked and facts.site in ("same-origin", "same-site", "none"))


def is_part_of_page(facts: RequestFacts) -> bool:
    """Return whether a browser says that a page asks for this, and that it is no page itself."""
    return facts.destination not in ("", "document")


def withholds_cookies(facts: RequestFacts) -> bool:
    """Return whether a browser sends such a request without our cookie, even if it has one.

    With `SameSite=Lax` that is each request from another site but for those that show a page in the tab by a
    safe method; and whatever is embedded where it may not use its cookies. Of a browser that sends no fetch
    metadata only `Origin` tells, in unsafe requests.
    """
    if facts.storage_access in ("none", "inactive"):
        return True
    site = facts.site
    is_safe = facts.method in ("GET", "HEAD", "OPTIONS", "TRACE")
    if site:
        return site == "cross-site" and not (is_safe and not is_part_of_page(facts))
    return not is_safe and _is_of_another_site(facts.header("origin"), facts.host)


def is_same_origin(facts: RequestFacts, *, or_referer: bool = False) -> bool:
    """Return whether a page of this very origin has sent an unsafe request.

    `Sec-Fetch-Site` decides where it is sent; else `Origin` has to be ours; with `or_referer` else `Referer`;
    none of them: no.
    """
    site = facts.site
    if site:
        return site == "same-origin"
    origin = facts.header("origin")
    if not origin and or_referer and (match := _ORIGIN.match(facts.header("referer"))):
        origin = match[0]
    scheme, separator, host = origin.lower().partition("://")
    return bool(separator and facts.host) and (scheme, host) == (facts.scheme, facts.host.lower())


def _is_of_another_site(origin: str, host: str) -> bool:
    """Return whether an origin is not of a host's site; of an opaque one nothing is known.

    Hosts that agree in the last two labels are taken for one site: under a public suffix such as `co.uk`
    that is too many.
    """
    _, separator, other = origin.lower().partition("://")
    names = [name.rpartition(":")[0] if ":" in name else name for name in (other, host.lower())]
    return bool(separator) and names[0].split(".")[-2:] != names[1].split(".")[-2:]


def shared_cacheable(headers: Sequence[tuple[str, str]], *, now_s: float) -> bool:
    """Return whether the application wants shared caches to store this response: then it gets no cookie."""
    if not headers:
        return False  # as most are that make something for one visitor
    for name, value in headers:
        lower = name.lower()
        if lower == "x-accel-expires":
            # A time that has passed counts as well: nginx stores the answer, as a stale one.
            if not _NO_TIME.fullmatch(value.strip()):
                return True
        elif lower in _SURROGATES:
            if len(value) > MAX_CACHE_CONTROL_CHARS or "no-store" not in _directives(value):
                return True
        elif (targeted := lower.endswith(_TARGETED)) or lower == "cache-control":
            if len(value) > MAX_CACHE_CONTROL_CHARS:
                return True  # whatever it says, it is not worth reading
            if targeted and _lifetime(_directives(value)):
                return True
    directives = _directives(response_header(headers, "cache-control") or "")
    if _is_private(directives):
        return False
    if "public" in directives or "immutable" in directives or _lifetime(directives):
        return True
    if "max-age" in directives or "s-maxage" in directives or "no-cache" in directives:
        return False
    expires = response_header(headers, "expires")
    return expires is not None and _is_later(expires, now_s)


def keeping_it_private(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what a response that carries a cookie lacks, so that no shared cache stores it for others.

    Set-Cookie does not forbid that (RFC 9111, 7.3), and neither do `no-cache` and `max-age=0`: an answer that
    was stored, and is found to be still valid, is handed out with the cookie that it was stored with.
    """
    names = {name.lower() for name, _ in headers if name.lower().endswith("cache-control")}
    if not names:
        return [("cache-control", "private")]
    names.discard("cache-control")
    return [
        (name, "private")
        for name in ("cache-control", *sorted(names))  # who reads one of these reads no Cache-Control
        if not _is_private(_directives(response_header(headers, name) or ""))
    ]


def _directives(value: str) -> dict[str, str]:
    """Read `name`, `name=value` and `name="quoted, value"`; names in lower case, `""`: no value."""
    return {name.lower(): (quoted or plain).strip() for name, quoted, plain in _DIRECTIVE.findall(value)}


def _is_private(directives: dict[str, str]) -> bool:
    # `private="field"` protects that field only (RFC 9111, 5.2.2.7); the bare word protects the response.
    return directives.get("private") == "" or "no-store" in directives


def _lifetime(directives: dict[str, str]) -> bool:
    """Return whether a shared cache may serve the response unasked; what cannot be read counts as yes."""
    value = directives.get("s-maxage", directives.get("max-age", "0"))
    return bool(value) and not _NO_TIME.fullmatch(value)


def _is_later(expires: str, now_s: float) -> bool:
    # Late: few answers have such a header, and this takes as long to import as a tenth of the package.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        return parsedate_to_datetime(expires).timestamp() > now_s
    except (ValueError, TypeError, OverflowError):
        return False  # RFC 9111, 5.3: an invalid date, "0" above all, means "already expired"
