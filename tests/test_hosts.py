"""Names and addresses of hosts."""

import pytest

from mixpanel_visitor.hosts import hostname, is_loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.5.5.5", True),
        ("::1", True),
        ("localhost", True),
        ("shop.localhost", True),
        ("localhost.example.com", False),
        ("::", False),
        ("a.b", False),
    ],
)
def test_what_a_loopback_address_is(host, loopback):
    """Any name but localhost could lead anywhere."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Shop.Example.com:8000", "shop.example.com"),
        ("shop.example.com", "shop.example.com"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ],
)
def test_a_host_header_has_a_name(header, name):
    """As `location.hostname` has it."""
    assert hostname(header) == name
