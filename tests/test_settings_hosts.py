"""Settings that name hosts: Mixpanel's, a proxy, proxies in front, other services."""

import ipaddress

import pytest
from support.resolving import problem, resolve

# --- region and host ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "host"),
    [("us", "api.mixpanel.com"), ("eu", "api-eu.mixpanel.com"), ("in", "api-in.mixpanel.com")],
)
def test_region_and_mixpanels_host_follow_from_each_other(region, host):
    """Either is enough, and both together are no contradiction."""
    for given in ({"region": region}, {"api_host": host}, {"region": region, "api_host": f"https://{host}/"}):
        settings = resolve(**given)
        assert (settings.region, settings.api_host) == (region, f"https://{host}")


def test_another_regions_host_is_a_contradiction():
    """Events sent to the wrong region are lost, so we say which setting to change."""
    line = problem(region="eu", environ={"MIXPANEL_API_HOST": "api.mixpanel.com"})
    for part in ("region='eu' (keyword)", "MIXPANEL_API_HOST in the environment", "give region='us'"):
        assert part in line


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("proxy.example.com", "https://proxy.example.com"),
        ("https://Proxy.Example.com:443/mixpanel/", "https://proxy.example.com/mixpanel"),
        ("http://mixpanel_proxy:9000", "http://mixpanel_proxy:9000"),
        ("localhost:8080", "http://localhost:8080"),
        ("http://localhost:80", "http://localhost"),
        ("mixpanel.localhost", "http://mixpanel.localhost"),
        ("127.0.0.1:5000/base", "http://127.0.0.1:5000/base"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("192.0.2.1", "https://192.0.2.1"),
    ],
)
def test_a_host_becomes_a_base_url(given, expected):
    """Without a scheme it is https, but for the loopback interface; and that form stays as it is."""
    assert resolve(api_host=given).api_host == expected
    assert resolve(api_host=expected).api_host == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("api-js.mixpanel.com", "use 'api.mixpanel.com'"),
        ("https://eu.mixpanel.com", "use 'api-eu.mixpanel.com'"),
        ("https://api.mixpanel.com/track", "without port or path"),
        ("http://api.mixpanel.com", "https"),
        ("https://u:hush@proxy.example.com", "credentials"),
        ("proxy.example.com?x=1", "query"),
        ("proxy.example.com#", "fragment"),
        ("ftp://proxy.example.com", "https://"),
        ("proxy.example.com:70000", "no valid address"),
        ("proxy.example.com:0", "no valid host"),
        ("https://", "white space"),
        ("https://[::1", "no valid address"),
        ("https:///x", "no valid host"),
        ("a b", "white space"),
        ("exa\nmple.com", "white space"),
        ("bücher.example", "ASCII"),
        (80, "str"),
    ],
)
def test_a_bad_host_is_refused(given, why):
    """Each with the fix, and a password in it is not shown."""
    line = problem(api_host=given)
    assert why in line
    assert "hush" not in line


# --- the network around ------------------------------------------------------------------------


PROXIES = ["http://proxy:3128", "proxy:3128", "https://ann:hush@proxy", "Environment", None]


@pytest.mark.parametrize(
    ("given", "expected"), list(zip(PROXIES, [*PROXIES[:3], "environment", None], strict=True)), ids=str
)
def test_a_proxy_is_an_address_or_the_environment_s(given, expected):
    """Or none at all; a password in it is not shown."""
    settings = resolve(proxy=given)
    assert settings.proxy == expected
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("socks5://ann:hush@proxy", "SOCKS is not supported"),
        ("http://ann:hush@", "must be the URL of a proxy"),
        ("http://ann:hush@proxy:x", "must be the URL of a proxy"),
        ("ann:hush@proxy:x", "must be the URL of a proxy"),
        ("ftp://proxy", "must be the URL of a proxy"),
        ("", "must be the URL of a proxy"),
        (3128, "not int"),
    ],
)
def test_what_is_no_proxy_is_refused(given, why):
    """No password of it is shown."""
    line = problem(proxy=given)
    assert why in line
    assert "hush" not in line


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("10.0.0.0/8,fd00::/8", ["10.0.0.0/8", "fd00::/8"]),
        (["192.0.2.7", ipaddress.ip_network("10.0.0.0/8")], ["192.0.2.7/32", "10.0.0.0/8"]),
        (ipaddress.ip_address("::1"), ["::1/128"]),
        (None, []),
        ("none", []),
        ("0.0.0.0/0 ::/0", ["0.0.0.0/0", "::/0"]),
    ],
)
def test_trusted_proxies_become_networks(given, expected):
    """From text, lists or what ipaddress makes."""
    assert [str(network) for network in resolve(trusted_proxies=given).trusted_proxies] == expected


@pytest.mark.parametrize(
    ("given", "why"), [("*", "choose its own address"), ("localhost", "no network"), ([7], "int")]
)
def test_who_is_no_network_is_not_trusted(given, why):
    """A star least of all."""
    assert why in problem(trusted_proxies=given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Billing.internal, .example.com", ("billing.internal", ".example.com")),
        (["::1", "10.0.0.7"], ("::1", "10.0.0.7")),
        (None, ()),
        ("none", ()),
    ],
)
def test_services_are_named_by_their_hosts(given, expected):
    """From text or lists, in lower case."""
    assert resolve(visitor_header_hosts=given).visitor_header_hosts == expected


@pytest.mark.parametrize("given", ["*", "http://billing.internal", "billing.internal:8000", "*.internal"])
def test_what_is_no_host_is_not_told(given):
    """A star least of all."""
    assert "without scheme, port and *" in problem(visitor_header_hosts=given)
