"""A notice to the local Mixpanel: why an event is not sent, for the developer who waits for it."""

from __future__ import annotations

import contextlib
import urllib.parse

from mixpanel_visitor.hosts import is_loopback
from mixpanel_visitor.process.imports import importing

PATH = "/_local/not-sent"
_TIMEOUT_S = 1.0


def is_local(host_url: str) -> bool:
    """Return whether this address is on this machine: a local Mixpanel, or a proxy."""
    return is_loopback(urllib.parse.urlsplit(host_url).hostname or "")


def tell(host_url: str, message: str) -> None:
    """Send the message; never raises. Takes up to a second: call it in another thread than a request's."""
    url = urllib.parse.urlsplit(host_url)
    with contextlib.suppress(Exception):
        with importing:  # late: most processes never call this
            import http.client  # noqa: PLC0415

        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("POST", PATH, body=message.encode())
            connection.getresponse().read()
