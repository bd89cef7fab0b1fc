"""Egress: the proxy and the certificate authorities that the environment names, as `requests` reads them."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mixpanel_visitor.settings import proxy as proxies

if TYPE_CHECKING:
    from mixpanel_visitor.settings.proxy import Proxy

CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Besides them OpenSSL itself reads SSL_CERT_FILE and SSL_CERT_DIR."""


class ProxyError(OSError):
    """A proxy is named that cannot be used."""


class AuthoritiesError(OSError):
    """Certificate authorities are named that are not there."""


def proxy_for(host_url: str, setting: str | None) -> Proxy | None:
    """Return the proxy that requests to `host_url` go through; None: they go there directly.

    `setting` is that of the tracker: an address, `environment`, or None. Raises ProxyError where the
    environment names what is no HTTP proxy.
    """
    if setting is None:
        return None
    if setting != proxies.ENVIRONMENT:
        return proxies.parse(setting)
    name, address = _named(host_url)
    if not address:
        return None
    try:
        return proxies.parse(address)
    except ValueError as error:
        raise ProxyError(f"{name} {error}") from None


def _named(host_url: str) -> tuple[str, str]:
    """Return the variable that counts for this address, and its value; empty where none does."""
    from urllib.request import getproxies_environment  # noqa: PLC0415  # takes 20 ms to import

    proxies = getproxies_environment()
    url = urlsplit(host_url)
    if _is_exempt(url.hostname or "", url.port, proxies):
        return "", ""
    for scheme in (url.scheme, "all"):
        if proxies.get(scheme):
            lower = f"{scheme}_proxy"
            return (lower if os.environ.get(lower) else lower.upper()), proxies[scheme]
    return "", ""


def _is_exempt(host: str, port: int | None, proxies: dict[str, str]) -> bool:
    """Return whether NO_PROXY holds this host: its name or a parent domain, its address or network, or *."""
    spelt = {host, f"{host}:{port}"}
    for entry in (each.strip().lower() for each in proxies.get("no", "").split(",")):
        domain = entry.lstrip(".")
        if entry and (
            entry == "*"
            or domain in spelt
            or any(each.endswith(f".{domain}") for each in spelt)
            or _holds(entry, host)
        ):
            return True
    return False


def _holds(network: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False


def authorities() -> tuple[str | None, str | None]:
    """Return the file and the directory of the authorities to believe; None for both: the system's own.

    Raises AuthoritiesError where what the environment names is not there.
    """
    for name in CA_BUNDLES:
        named = os.environ.get(name)
        if named:
            path = Path(named)
            if path.is_dir():
                return None, named
            if not path.exists():
                raise AuthoritiesError(f"{name} names {named!r}, and there is no such file")
            return named, None
    return None, None
