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
    """The environment names a proxy that cannot be used."""


class AuthoritiesError(OSError):
    """The environment names a file of certificate authorities that does not exist."""


def proxy_for(host_url: str, setting: str | None) -> Proxy | None:
    """Return the proxy for requests to `host_url`; None: they go there directly.

    `setting` is that of the tracker: an address, `environment`, or None. Raise ProxyError where the
    environment names something other than an HTTP proxy.
    """
    if setting is None:
        return None
    if setting != proxies.ENVIRONMENT:
        return proxies.parse(setting)
    variable, address = _proxy_variable(host_url)
    if not address:
        return None
    try:
        return proxies.parse(address)
    except ValueError as error:
        raise ProxyError(f"{variable} {error}") from None


def _proxy_variable(host_url: str) -> tuple[str, str]:
    """Return the variable that has the proxy for this address, and its value; both empty where none has."""
    from urllib.request import getproxies_environment  # noqa: PLC0415  # takes 20 ms to import

    addresses = getproxies_environment()
    url = urlsplit(host_url)
    if _is_exempt(url.hostname or "", url.port, addresses.get("no", "")):
        return "", ""
    for scheme in (url.scheme, "all"):
        if addresses.get(scheme):
            variable = f"{scheme}_proxy"
            return (variable if os.environ.get(variable) else variable.upper()), addresses[scheme]
    return "", ""


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """Return whether NO_PROXY has this host: its name or a parent domain, its address or network, or *."""
    names = {host, f"{host}:{port}"}
    for entry in (each.strip().lower() for each in no_proxy.split(",")):
        domain = entry.lstrip(".")
        if entry and (
            entry == "*"
            or domain in names
            or any(name.endswith(f".{domain}") for name in names)
            or _contains(entry, host)
        ):
            return True
    return False


def _contains(network: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False


def authorities() -> tuple[str | None, str | None]:
    """Return the file or the directory of the trusted authorities; None for both: those of the system.

    Raise AuthoritiesError where the environment names one that does not exist.
    """
    for variable in CA_BUNDLES:
        path = os.environ.get(variable)
        if path:
            if Path(path).is_dir():
                return None, path
            if not Path(path).exists():
                raise AuthoritiesError(f"{variable} names {path!r}, and there is no such file")
            return path, None
    return None, None
