"""The collector: what the pages have to be told, and whether events come in through everything before it."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mixpanel_visitor.core.collector.routes import CollectorRoutes, own_names
from mixpanel_visitor.delivery.sending.local_notice import is_local

from .findings import Finding
from .network import ask, connection_finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mixpanel_visitor.settings import Settings

    from .network import ResponseHead

_NO_EVENTS = b"data=W10%3D"
"""An empty list: nothing is sent to Mixpanel, and the answer says whose address events would get."""

_QUERY = "?verbose=1&ip=1&_=0"
_TRUST = "set MIXPANEL_VISITOR_TRUSTED_PROXIES to the networks of your proxies, which have to send it"
_SDK_SETTINGS = "?mp_lib=web&sdk_config=1"


def init_line(settings: Settings) -> str:
    """Return the line of JavaScript that sends the events of a page to the collector."""
    assert settings.collector_path is not None
    options = CollectorRoutes(settings.collector_path, settings.token).init_options()
    return f"mixpanel.init({json.dumps(settings.token)}, {json.dumps(options)})"


def check_options(settings: Settings) -> Iterator[Finding]:
    """Say what pages have to be told, if there is a collector."""
    if settings.collector_path is not None:
        yield Finding("ok", f"in pages, or by visitorOptions of visitor_script: {init_line(settings)}")


def check_collector(url: str, settings: Settings, user_agent: Mapping[str, str]) -> Iterator[Finding]:
    """Send a batch without events to each route, as a page of the site would, and as one of another site."""
    if settings.collector_path is None:
        return
    parts = urlsplit(url)
    same_origin = {
        **user_agent,
        "Content-Type": "application/x-www-form-urlencoded",
        "Origin": f"{parts.scheme}://{parts.netloc}",
        "Sec-Fetch-Site": "same-origin",
    }
    names = own_names(settings.token)
    address = ""
    try:
        for route in ("track", "engage", "groups"):
            path = f"{settings.collector_path}/{names[route]}/"
            reply = ask(url, "POST", path + _QUERY, same_origin, body=_NO_EVENTS)
            if not _is_taken(reply):
                yield _not_taken(path, reply)
                return
            address = json.loads(reply.body).get("address", "")
        cross_site = {**same_origin, "Origin": "https://example.net", "Sec-Fetch-Site": "cross-site"}
        path = f"{settings.collector_path}/{names['track']}/"
        cross_site_reply = ask(url, "POST", path + _QUERY, cross_site, body=_NO_EVENTS)
        settings_reply = ask(
            url, "GET", f"{settings.collector_path}/{names['settings']}/{_SDK_SETTINGS}", same_origin
        )
    except (OSError, http.client.HTTPException) as error:
        yield connection_finding(url, error, "the browser's events do not come in")
        return
    yield Finding("ok", f"the browser's events come in under {settings.collector_path}")
    yield from _cross_site(path, cross_site_reply)
    yield from _address(address, is_remote=not is_local(url))
    if settings_reply.status != 200:
        yield Finding(
            "W110",
            f"what the SDK asks Mixpanel for is not passed on ({settings_reply.status})",
            "pages have neither feature flags nor remote settings",
            "see that this process delivers, and reaches MIXPANEL_API_HOST",
        )


def _is_taken(reply: ResponseHead) -> bool:
    try:
        return reply.status == 200 and json.loads(reply.body).get("status") == 1
    except (ValueError, AttributeError):
        return False


def _not_taken(path: str, reply: ResponseHead) -> Finding:
    redirect = f" and leads to {reply.headers['location']}" if "location" in reply.headers else ""
    return Finding(
        "E107",
        f"a batch sent to {path} is answered with {reply.status}{redirect}",
        "the browser SDK throws its events away: it keeps them after a 429 and a 503 only",
        "have the proxy pass all paths below it on, unchanged, with POST; put our middleware before what "
        "protects forms or asks for a log-in; see that the application has the same collector_path and token",
    )


def _cross_site(path: str, reply: ResponseHead) -> Iterator[Finding]:
    if reply.status == 200:
        yield Finding(
            "E108",
            f"{path} takes a batch that a page of another site sends",
            "any website can send events in the name of your visitors",
            "have the proxy pass Origin, Referer and Sec-Fetch-Site on unchanged",
        )


def _address(address: str, *, is_remote: bool) -> Iterator[Finding]:
    if address == "proxy" or (address == "local" and is_remote):
        yield Finding(
            "E109",
            "the application takes a proxy for its visitors",
            "Mixpanel locates everybody where the proxy is, and all of them share one rate limit",
            f"{_TRUST} as X-Forwarded-For",
        )
