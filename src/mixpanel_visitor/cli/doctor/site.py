"""A page of the running application, requested as by two new browsers."""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mixpanel_visitor.core.policy import missing_private
from mixpanel_visitor.delivery.sending.local_notice import is_local
from mixpanel_visitor.settings.masked import without_userinfo

from .collector import check_collector
from .cookie import check_domain
from .findings import Finding
from .network import ResponseHead, ask, connection_finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.settings import Settings

_ANY_PROJECT = re.compile(r"(?:__Host-)?mpv(?:_[0-9a-f]{8})?")
DEFAULT_HANDOVER = "/_visitor"
_BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
}


def check_site(url: str, settings: Settings | None) -> Iterator[Finding]:
    """Request the page twice, as two new browsers, and the hand-over script."""
    parts = urlsplit(url)
    url = without_userinfo(url)
    page = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    try:
        first, second = (ask(url, "GET", page, _BROWSER) for _ in range(2))
    except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
        yield connection_finding(url, error, "visitors cannot reach it this way either")
        return
    if not 200 <= first.status < 300:
        location = first.headers.get("location", "")
        yield Finding(
            "W100",
            f"{url} answers with {first.status}{f' and leads to {location}' if location else ''}",
            "only a page that is served shows what visitors get",
            f"run it with --url {location}" if location else "give another page",
        )
        return
    name = None if settings is None else settings.cookie_name
    yield from check_cookies(url, name, first, second)
    handover = settings.handover_path if settings is not None else DEFAULT_HANDOVER
    if handover is not None and (settings is None or settings.browser_sdk):
        yield from _script(url, f"{handover}.js")
    if settings is not None:
        yield from check_collector(url, settings, {"User-Agent": _BROWSER["User-Agent"]})


def check_cookies(url: str, name: str | None, first: ResponseHead, second: ResponseHead) -> Iterator[Finding]:
    """Check the cookies that two new browsers got; without a `name`, any project's cookie counts."""
    first_cookie, second_cookie = _find(first, name), _find(second, name)
    if first_cookie is None or second_cookie is None:
        yield Finding(
            "W101",
            f"{url} sets no visitor cookie",
            "a browser without it is a new visitor on each request, or is not tracked",
            "wrap the application with the middleware. Without consent, and on pages that shared caches may "
            "keep, no cookie is set: then give another page",
        )
        return
    parts = urlsplit(url)
    host = parts.hostname or ""
    value, attributes = first_cookie
    if parts.scheme == "http" and not is_local(url):
        yield Finding(
            "W102",
            f"{url} is not https",
            "anyone on the network path can read and set the visitor's cookie",
            "serve the site with TLS, and give its https address",
        )
    if second_cookie[0] == value:
        yield _shared(url, second)
    if parts.scheme == "https" and "secure" not in attributes:
        yield Finding(
            "E104",
            "the visitor cookie has no Secure, although the page came by https",
            "the application sees http: TLS ends at a proxy that it does not trust",
            "set MIXPANEL_VISITOR_TRUSTED_PROXIES to the proxy's network, and have it send X-Forwarded-Proto",
        )
    domain = attributes.get("domain", "").strip(".").lower()
    if domain and domain != host and not host.endswith(f".{domain}"):
        yield Finding(
            "E105",
            f"the visitor cookie is for {domain}, and the page is at {host}",
            "browsers refuse it: every visit is a new visitor",
            "let MIXPANEL_VISITOR_COOKIE_DOMAIN be a domain of this site, or leave it out",
        )
        return
    findings = list(check_domain(domain, f"the visitor cookie is for {domain}")) if domain else []
    yield from findings
    if not any(finding.level == "problem" for finding in findings):
        yield Finding("ok", f"{url} sets a visitor cookie")


def _shared(url: str, reply: ResponseHead) -> Finding:
    """Return the finding for a cache that serves one visitor's cookie to all visitors."""
    cache_control = reply.headers.get("cache-control", "")
    if not missing_private([("cache-control", cache_control)]):
        reason = f"a cache on the way keeps it although the answer says Cache-Control: {cache_control}"
        fix = (
            "have the cache obey that: nginx without proxy_ignore_headers Cache-Control, Varnish without a "
            "ttl of its own, a CDN without a rule that caches everything"
        )
    else:
        arrives = (
            f"only Cache-Control: {cache_control} arrives" if cache_control else "no Cache-Control arrives"
        )
        reason = f"a cache on the way keeps it: {arrives}, and we say private with every cookie"
        fix = (
            "let nothing behind the application replace Cache-Control (nginx: expires, proxy_hide_header; "
            "Apache: Header set; a CDN's rules); update mixpanel-visitor there if it is 0.1, which said "
            "private only where there was no Cache-Control"
        )
    return Finding(
        "E103",
        f"two browsers got the same visitor cookie from {url}",
        f"{reason}; one visitor is made of everybody",
        f"{fix}; then empty the cache",
    )


def _script(url: str, path: str) -> Iterator[Finding]:
    try:
        reply = ask(url, "GET", path, {"User-Agent": _BROWSER["User-Agent"]})
    except (OSError, http.client.HTTPException) as error:
        yield connection_finding(url, error, "the script that hands IDs over is not loaded")
        return
    if reply.status == 200 and "javascript" in reply.headers.get("content-type", ""):
        yield Finding("ok", f"the script {path} is there")
        return
    yield Finding(
        "W106",
        f"the script {path} is not there ({reply.status})",
        "a browser that keeps its ID in localStorage, or a SPiD one, cannot hand it over",
        f"have the proxy pass {path.removesuffix('.js')} and {path} on to the application; or turn it off "
        "with MIXPANEL_VISITOR_HANDOVER_PATH=none",
    )


def _find(reply: ResponseHead, name: str | None) -> tuple[str, dict[str, str]] | None:
    """Return the value and the attributes (names in lower case) of the visitor cookie."""
    for header in reply.set_cookies:
        pair, *attributes = header.split(";")
        cookie_name, _, value = pair.strip().partition("=")
        if (
            _ANY_PROJECT.fullmatch(cookie_name) if name is None else cookie_name in (name, f"__Host-{name}")
        ) and value:
            split = (attribute.strip().partition("=") for attribute in attributes)
            return value, {attribute.lower(): text for attribute, _, text in split}
    return None
