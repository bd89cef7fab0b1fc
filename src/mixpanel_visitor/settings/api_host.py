"""The API host: Mixpanel's address, or a proxy's, as base URL without a slash at its end."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from mixpanel_visitor.hosts import address, is_loopback

HOSTS = {"us": "api.mixpanel.com", "eu": "api-eu.mixpanel.com", "in": "api-in.mixpanel.com"}
"""Mixpanel's ingestion host in each region; none forwards to another (Mixpanel docs, "EU Data Residency")."""

_REGIONS = {host: region for region, host in HOSTS.items()}
_NOT_FOR_SERVERS = {
    "api-js.mixpanel.com": ("the browser's host", HOSTS["us"]),
    "mixpanel.com": ("the web site", HOSTS["us"]),
    "www.mixpanel.com": ("the web site", HOSTS["us"]),
    "eu.mixpanel.com": ("the web site", HOSTS["eu"]),
    "in.mixpanel.com": ("the web site", HOSTS["in"]),
}
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
_EXAMPLE = "such as 'api-eu.mixpanel.com' or 'https://proxy.example.com/mixpanel'"


def api_host(value: Any) -> str:
    """Parse a host name or URL. Without a scheme it is https, on the loopback interface http.

    >>> api_host("api-eu.mixpanel.com/"), api_host("localhost:8080")
    ('https://api-eu.mixpanel.com', 'http://localhost:8080')
    """
    if not isinstance(value, str):
        raise ValueError(f"must be a host or URL as str, not {type(value).__name__}, {_EXAMPLE}")
    text = value.strip()
    scheme, separator, remainder = text.partition("://")
    if not separator:
        scheme, remainder = "", text
    # urlsplit drops tabs and newlines silently, and takes a backslash for part of a name.
    if (
        not remainder
        or not text.isascii()
        or any(character <= " " or character in '\\"<>' for character in text)
    ):
        raise ValueError(f"must be a host or URL in ASCII without white space, {_EXAMPLE}")
    if separator and scheme.lower() not in ("http", "https"):
        raise ValueError(f"must begin with https:// or http://, not {scheme}://")
    if "@" in remainder:
        raise ValueError("must not hold credentials; the token or service_account is sent instead")
    if "?" in remainder or "#" in remainder:
        raise ValueError("must not hold a query or fragment; give the address alone")
    name, port, path = _split(remainder)
    is_https = scheme.lower() == "https" or (not separator and not is_loopback(name))
    authority = f"[{name}]" if ":" in name else name
    if port is not None and port != (443 if is_https else 80):
        authority += f":{port}"
    url = f"{'https' if is_https else 'http'}://{authority}{path}"
    _check_mixpanel(name, url)
    return url


def region_of(url: str) -> str | None:
    """Return the region whose ingestion host this is; None: not one of Mixpanel's."""
    return _REGIONS.get(url.removeprefix("https://"))


def _split(remainder: str) -> tuple[str, int | None, str]:
    """Split what follows the scheme into name, port and path; the name is checked."""
    try:
        url = urlsplit(f"https://{remainder}")
        name, port = (url.hostname or "").removesuffix("."), url.port
    except ValueError as error:
        raise ValueError(f"is no valid address ({error}), write it {_EXAMPLE}") from None
    if port == 0 or not (_NAME.fullmatch(name) or address(name)):
        raise ValueError(f"names no valid host, write it {_EXAMPLE}")
    return name, port, url.path.rstrip("/")


def _check_mixpanel(name: str, url: str) -> None:
    if name in _NOT_FOR_SERVERS:
        description, replacement = _NOT_FOR_SERVERS[name]
        raise ValueError(f"that is {description}; use {replacement!r}, or leave it out and give region")
    if name in _REGIONS and url != f"https://{name}":
        raise ValueError(f"Mixpanel's own host is reached at https, without port or path; use {name!r}")
