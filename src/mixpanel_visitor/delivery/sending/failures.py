"""Failures: describes the exception that ended a request, for `Response.failure`."""

from __future__ import annotations

import http.client
import socket
import ssl

from mixpanel_visitor.observability.rate_limited_log import place_of

from .egress import AuthoritiesError, ProxyError
from .responses import INTERNAL


def failure(error: Exception, proxy_url: str = "") -> str:
    """Return the kind of the failure and its message; `proxy_url` is the proxy of the request."""
    kind = _kind(error)
    text = str(error) or type(error).__name__
    if kind == INTERNAL:
        return f"{kind}: {type(error).__name__} at {place_of(error)}: {error}"
    return f"{kind}: {text} (through the proxy {proxy_url})" if proxy_url else f"{kind}: {text}"


def _kind(error: Exception) -> str:
    from urllib3 import exceptions  # noqa: PLC0415

    match error:
        case ProxyError() | exceptions.ProxyError():
            kind = "proxy"
        case OSError() if str(error).startswith("Tunnel connection failed"):
            kind = "proxy"  # http.client has no class for it
        case exceptions.NameResolutionError() | socket.gaierror() | UnicodeError():
            kind = "dns"
        case exceptions.NewConnectionError() if isinstance(error.__cause__, ConnectionRefusedError):
            kind = "refused"
        case ConnectionRefusedError():
            kind = "refused"
        case exceptions.TimeoutError() | TimeoutError():
            kind = "timeout"
        case exceptions.SSLError() | ssl.SSLError() | ssl.CertificateError() | AuthoritiesError():
            kind = "tls"
        case ConnectionError():
            kind = "reset"
        case exceptions.ProtocolError() | http.client.HTTPException():
            kind = "protocol"
        case exceptions.HTTPError() | OSError():
            kind = "network"
        case _:
            kind = INTERNAL
    return kind
