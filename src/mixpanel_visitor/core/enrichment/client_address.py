"""The client's address, and the scheme it used, behind proxies that are trusted by name.

`X-Forwarded-For` and `Forwarded` (RFC 7239) grow to the right: each proxy adds the address of its peer. Only
the entries of trusted proxies are believed, so the list is read from the right to the first address that is
not trusted. If there are both, `X-Forwarded-For` counts: nearly all proxies write it, and most of them pass
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
"""Mixpanel finds no place for this `ip`; without an `ip` it takes the sender's (in profiles)."""

_MAX_CHARS = 2_048
"""Of a longer header only the last entries are read; no real chain of proxies is longer."""

_NETWORK_BITS = {4: 24, 6: 48}


class ClientAddresses:
    """Determines the client's address; `trusted` are the networks of the site's own proxies."""

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
            client = self._client_from_hops([(hop, "") for hop in _last_part(forwarded).split(",")], peer)[0]
            scheme = facts.header("x-forwarded-proto").rpartition(",")[2].strip().lower()
        else:
            client, scheme = self._client_from_hops(_forwarded_hops(facts.header("forwarded")), peer)
            scheme = scheme or facts.header("x-forwarded-proto").rpartition(",")[2].strip().lower()
        return facts.replaced(
            client=str(client), scheme="https" if scheme == "https" else "http" if scheme else facts.scheme
        )

    def knows(self, client: str | None) -> bool:
        """Return whether this address is in one of the networks."""
        address = None if client is None else read_address(client)
        return address is not None and self._is_trusted(address)

    def event_ip(self, client: str | None) -> str:
        """Return the property `ip`: the address, its network (/24, /48), or `"0"` for no place."""
        if self._mode == "off" or client is None:
            return NO_GEOLOCATION
        address = read_address(client)
        if address is None:
            return NO_GEOLOCATION
        if self._mode == "truncate":
            network = ipaddress.ip_network((address, _NETWORK_BITS[address.version]), strict=False)
            return str(network.network_address)
        return str(address)

    def _client_from_hops(
        self, hops: list[tuple[str, str]], peer: IPv4Address | IPv6Address
    ) -> tuple[IPv4Address | IPv6Address, str]:
        client, scheme = peer, ""
        for hop, hop_scheme in reversed(hops):
            address = read_address(hop)
            if address is None:
                break  # "unknown", a hidden name or rubbish: the proxy that wrote it is the client then
            client, scheme = address, hop_scheme or scheme
            if not self._is_trusted(address):
                break
        return client, scheme

    def _in_networks(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address.version == network.version and address in network for network in self._trusted)


def is_local(client: str | None) -> bool:
    """Return whether the peer is on this very host: a loopback address, a Unix socket or a test client."""
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


def _last_part(header: str) -> str:
    return header if len(header) <= _MAX_CHARS else header[-_MAX_CHARS:].partition(",")[2]


def _forwarded_hops(header: str) -> list[tuple[str, str]]:
    """Read `Forwarded`: for each hop the `for` and the `proto`."""
    hops = []
    for element in _outside_quotes(_last_part(header), ","):
        pairs = {}
        for pair in _outside_quotes(element, ";"):
            name, _, value = pair.partition("=")
            pairs[name.strip().lower()] = value.strip().strip('"')
        hops.append((pairs.get("for", ""), pairs.get("proto", "").lower()))
    return hops


def _outside_quotes(text: str, separator: str) -> list[str]:
    """Split at the separators that are not between quotation marks."""
    parts, start, is_quoted = [], 0, False
    for index, char in enumerate(text):
        if char == '"':
            is_quoted = not is_quoted
        elif char == separator and not is_quoted:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]
