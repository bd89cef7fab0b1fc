"""The egress proxy: its setting, and the address of a proxy."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

ENVIRONMENT = "environment"
"""The proxy that HTTPS_PROXY and its like name, as `requests` reads them."""

_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "such as 'http://proxy.example.com:3128'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy that HTTP requests go through; `authorization` is the header's value, with credentials."""

    scheme: str
    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The address without credentials, as it may be shown."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def proxy(value: Any) -> str:
    """Parse the URL of an HTTP proxy, or `environment`."""
    if not isinstance(value, str):
        raise ValueError(f"must be the URL of a proxy as str, {_EXAMPLE}, not {type(value).__name__}")
    text = value.strip()
    if text.lower() == ENVIRONMENT:
        return ENVIRONMENT
    parse(text)
    return text


def parse(text: str) -> Proxy:
    """Read the address of a proxy; without a scheme it is http. Raise ValueError that shows no password."""
    text = text.strip()
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ValueError(
            f"must be the URL of a proxy, {_EXAMPLE}; in a password write / : @ as %2F %3A %40"
        ) from None
    if url.scheme.startswith("socks"):
        raise ValueError(f"must be an HTTP proxy, {_EXAMPLE}: SOCKS is not supported")
    if url.scheme not in _PORTS or not host or not text.isascii() or any(each.isspace() for each in text):
        raise ValueError(f"must be the URL of a proxy, {_EXAMPLE}")
    authorization = ""
    if url.username is not None:
        credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
        authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    return Proxy(scheme=url.scheme, host=host, port=port or _PORTS[url.scheme], authorization=authorization)
