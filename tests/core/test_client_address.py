"""The client's address: nobody can choose his own, and nobody's leaves whole who does not want it."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.facts import facts

from mixpanel_visitor.core.enrichment.client_address import ClientAddresses

TRUSTED = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "fd00::/8")]


def seen(headers, *, client="10.0.0.1", trusted=TRUSTED, scheme="http"):
    found = ClientAddresses(trusted, mode="send").behind_proxies(facts(headers, client=client, scheme=scheme))
    return found.client, found.scheme


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.7:4711, 10.0.0.2:80", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, unknown, 10.0.0.2", "10.0.0.2"),
        ("203.0.113.7, , 10.0.0.2", "10.0.0.2"),
        ("nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
        (", ".join(["198.51.100.1"] + ["10.0.0.9"] * 500), "10.0.0.9"),
    ],
)
def test_the_list_is_read_from_the_right_through_trusted_proxies_only(forwarded_for, client):
    """What stands to the left of the first untrusted address anybody can have written."""
    assert seen({"x-forwarded-for": forwarded_for})[0] == client


@pytest.mark.parametrize("client", ["203.0.113.9", None, "", "testclient"])
def test_a_peer_that_is_not_trusted_is_not_heard(client):
    """It may say what it likes."""
    headers = {"x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "https", "forwarded": "for=1.2.3.4"}
    assert seen(headers, client=client) == (client, "http")


def test_without_trusted_proxies_nobody_is_heard():
    """Not even this host."""
    headers = {"x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "https"}
    assert seen(headers, client="127.0.0.1", trusted=[]) == ("127.0.0.1", "http")


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=203.0.113.7;proto=https;by=10.0.0.1", ("203.0.113.7", "https")),
        ('For="[2001:db8:cafe::17]:4711";proto=http', ("2001:db8:cafe::17", "http")),
        ("for=198.51.100.1, for=203.0.113.7;proto=https, for=10.0.0.2;proto=http", ("203.0.113.7", "https")),
        ("for=_hidden;proto=https", ("10.0.0.1", "http")),
        ('for="203.0.113.7, 198.51.100.1"', ("10.0.0.1", "http")),
        ("for", ("10.0.0.1", "http")),
    ],
)
def test_forwarded_is_read_as_well(forwarded, expected):
    """RFC 7239; the scheme is that of the hop whose address counts."""
    assert seen({"forwarded": forwarded}) == expected


def test_x_forwarded_for_counts_before_forwarded():
    """Most proxies write only that, and pass on a client's own Forwarded unread."""
    assert seen({"forwarded": "for=198.51.100.1", "x-forwarded-for": "203.0.113.7"})[0] == "203.0.113.7"


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("http", "http"), ("https, http", "http"), ("", "http")],
)
def test_the_scheme_is_what_the_nearest_proxy_says(proto, scheme):
    """So cookies are Secure behind a proxy that ends TLS."""
    assert seen({"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": proto})[1] == scheme


@pytest.mark.parametrize(
    ("mode", "client", "sent"),
    [
        ("send", "203.0.113.7", "203.0.113.7"),
        ("send", "2001:db8:1:2:3::4", "2001:db8:1:2:3::4"),
        ("send", "fe80::1%eth0", "fe80::1"),
        ("truncate", "203.0.113.7", "203.0.113.0"),
        ("truncate", "2001:db8:1:2:3::4", "2001:db8:1::"),
        ("truncate", "::ffff:203.0.113.7", "203.0.113.0"),
        ("off", "203.0.113.7", "0"),
        ("send", None, "0"),
        ("send", "testclient", "0"),
        ("truncate", "", "0"),
    ],
)
def test_what_is_sent_of_an_address(mode, client, sent):
    """All of it, its network, or nothing; and always something, for else the place is that of our server."""
    assert ClientAddresses([], mode=mode).event_ip(client) == sent


@given(st.text(), st.text(), st.text())
def test_no_header_raises(forwarded_for, forwarded, proto):
    """Whatever a client or a broken proxy says, the client is an address and the scheme one of two."""
    client, scheme = seen(
        {"x-forwarded-for": forwarded_for, "forwarded": forwarded, "x-forwarded-proto": proto}
    )
    ipaddress.ip_address(client)
    assert scheme in ("http", "https")
