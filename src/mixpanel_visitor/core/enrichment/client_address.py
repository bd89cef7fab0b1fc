"""The client's address, and the scheme it used, behind proxies that are trusted by name.

`X-Forwarded-For` and `Forwarded` (RFC 7239) grow to the right: each proxy adds whom it has seen. Only what a
trusted proxy has written can be believed, so the list is read from the right until somebody is not trusted.
Where both are there, `X-Forwarded-For` counts: it is what nearly all proxies write, and most of them pass
on a client's own `Forwarded` unread.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from mixpanel_visitor.core.request import RequestFacts

ClientIP = Literal["send", "truncate", "off"]

NO_GEOLOCATION = "0"
"""Mixpanel finds no place for it; without any address it takes that of whoever sends (people, not events)."""

_MAX_CHARS = 2_048
"""No chain of proxies is longer; what stands before that is cut off, at a comma."""

_KEPT_BITS = {4: 24, 6: 48}


class ClientAddresses:
    """Finds out who is at the other end; `trusted` are the networks of the site's own proxies."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network], *, mode: ClientIP) -> None:
        self._trusted = tuple(trusted)
        self._mode = mode
        self._is_trusted = lru_cache(1024)(self._in_networks)

    def behind_proxies(self, facts: RequestFacts) -> RequestFacts:
        """Return the facts as the first trusted proxy has seen them: the client's address, and the scheme."""
        if not self._trusted or facts.client is None:
            return facts
        peer = read_address(facts.client)
        if peer is None or not self._is_trusted(peer):
            return facts
        forwarded = facts.header("x-forwarded-for")
        if forwarded:
            client = self._client_from_hops([(hop, "") for hop in _end(forwarded).split(",")], peer)[0]
            scheme = facts.header("x-forwarded-proto").rpartition(",")[2].strip().lower()
        else:
            client, scheme = self._client_from_hops(_hops(facts.header("forwarded")), peer)
            scheme = scheme or facts.header("x-forwarded-proto").rpartition(",")[2].strip().lower()
        return facts.replaced(
            client=str(client), scheme="https" if scheme == "https" else "http" if scheme else facts.scheme
        )

    def knows(self, client: str | None) -> bool:
        """Return whether this address is in one of the networks."""
        address = None if client is None else read_address(client)
        return address is not None and self._is_trusted(address)

    def of_event(self, client: str | None) -> str:
        """Return what is sent as `ip`: the address, its network (/24, /48), or `"0"` for nowhere."""
        if self._mode == "off" or client is None:
            return NO_GEOLOCATION
        address = read_address(client)
        if address is None:
            return NO_GEOLOCATION
        if self._mode == "truncate":
            kept = ipaddress.ip_network((address, _KEPT_BITS[address.version]), strict=False)
            return str(kept.network_address)
        return str(address)

    def _client_from_hops(
        self, hops: list[tuple[str, str]], peer: IPv4Address | IPv6Address
    ) -> tuple[IPv4Address | IPv6Address, str]:
        client, scheme = peer, ""
        for text, said in reversed(hops):
            address = read_address(text)
            if address is None:
                break  # "unknown", a hidden name, or rubbish: whoever wrote it is the last we know
            client, scheme = address, said or scheme
            if not self._is_trusted(address):
                break
        return client, scheme

    def _in_networks(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address.version == network.version and address in network for network in self._trusted)


def is_local(client: str | None) -> bool:
    """Return whether the peer is on this very host: a loopback address, a Unix socket, a test client."""
    if not client:
        return True
    address = read_address(client)
    return address is None or address.is_loopback


@lru_cache(4096)
def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, with or without a port and brackets; an IPv4 one in IPv6 is IPv4; None: none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _end(header: str) -> str:
    return header if len(header) <= _MAX_CHARS else header[-_MAX_CHARS:].partition(",")[2]


def _hops(header: str) -> list[tuple[str, str]]:
    """Read `Forwarded`: for each hop the `for` and the `proto`."""
    hops = []
    for element in _outside_quotes(_end(header), ","):
        pairs = {}
        for pair in _outside_quotes(element, ";"):
            name, _, value = pair.partition("=")
            pairs[name.strip().lower()] = value.strip().strip('"')
        hops.append((pairs.get("for", ""), pairs.get("proto", "").lower()))
    return hops


def _outside_quotes(text: str, separator: str) -> list[str]:
    """Split where the separator does not stand between quotation marks."""
    parts, start, quoted = [], 0, False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]
