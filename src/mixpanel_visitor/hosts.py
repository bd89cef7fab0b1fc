"""Hosts: a name or an address, as it stands in a Host header, a URL or a setting."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address


def hostname(host: str) -> str:
    """Return a Host header without its port and in lower case, as `location.hostname` has it.

    >>> hostname("Shop.example.com:8000"), hostname("[::1]:8000")
    ('shop.example.com', '[::1]')
    """
    if host.startswith("["):  # an IPv6 address
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


def address(host: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can be reached by this host; IPv6 without brackets.

    Names below `localhost` are loopback addresses by RFC 6761, 6.3; any other name may lead anywhere.

    >>> is_loopback("127.0.0.1"), is_loopback("shop.localhost"), is_loopback("example.com")
    (True, True, False)
    """
    ip = address(host)
    if ip is not None:
        return ip.is_loopback
    return host == "localhost" or host.endswith(".localhost")
