"""The proxy and the authorities on the way to Mixpanel, as `requests` reads them from the environment."""

from __future__ import annotations

import contextlib
import os
import ssl

import pytest
import requests.utils
import trustme
from support.egress_proxy import EgressProxy
from support.scripted_server import ScriptedServer, answering, http

from mixpanel_visitor.delivery.sending.egress import AuthoritiesError, ProxyError, authorities, proxy_for
from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI, Timeouts
from mixpanel_visitor.settings.proxy import ENVIRONMENT, parse

BODIES = [b'{"event":"A"}']
HOST = "https://api.mixpanel.com"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    """Take away what this machine's environment says."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.endswith(("_CA_BUNDLE", "SSL_CERT_FILE")):
            monkeypatch.delenv(name)


@pytest.fixture
def authority(tmp_path):
    """Return an authority of the test's own, whose file is `authority.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return authority


def context_for(authority, host):
    """Return a server's side of TLS under this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


@pytest.fixture
def behind(authority):
    """Run Mixpanel's host, with a certificate for its real name."""
    server = ScriptedServer(answering(http()), context=context_for(authority, "api.mixpanel.com"))
    with contextlib.closing(server):
        yield server


@pytest.fixture
def connect(authority, tmp_path, monkeypatch):
    """Make clients that believe the test's authority by way of the environment."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    with contextlib.ExitStack() as closing:

        def connect(url=HOST, **options):
            timeouts = Timeouts(connect_s=5.0, read_s=5.0, total_s=10.0)
            api = MixpanelAPI(url, "the-token", timeouts=timeouts, **options)
            closing.callback(api.close)
            return api

        yield connect


# --- through a proxy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_events_go_through_the_proxy_of_the_environment(behind, connect, monkeypatch, name):
    """By a tunnel, in which the certificate is Mixpanel's own; one serves many requests."""
    with EgressProxy(behind.port) as proxy:
        monkeypatch.setenv(name, proxy.url)
        api = connect()
        assert [api.post("import", BODIES).status for _ in range(2)] == [200, 200]
        assert [line.rpartition(" ")[0] for line in proxy.asked] == ["CONNECT api.mixpanel.com:443"]
        assert "authorization" not in proxy.headers[0]
    assert behind.requests[0].line == "POST /import?strict=1 HTTP/1.1"


def test_events_go_through_the_proxy_of_the_settings(behind, connect, monkeypatch):
    """Which wins over the environment."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with EgressProxy(behind.port) as proxy:
        assert connect(proxy=proxy.url).post("import", BODIES).status == 200
        assert len(proxy.asked) == 1


def test_a_proxy_is_told_who_asks(behind, connect, monkeypatch):
    """User and password are in its address, percent-encoded."""
    with EgressProxy(behind.port, credentials="ann:hu/s h") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//ann:hu%2Fs%20h@"))
        assert connect().post("import", BODIES).status == 200
    assert "proxy-authorization" not in behind.requests[0].headers


def test_a_proxy_may_speak_tls_itself(authority, behind, connect):
    """TLS within TLS, each end with a certificate of its own."""
    with EgressProxy(behind.port, context=context_for(authority, "localhost")) as proxy:
        api = connect(proxy=f"https://localhost:{proxy.port}")
        assert [api.post("import", BODIES).status for _ in range(2)] == [200, 200]
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("secure", [False, True])
def test_plain_http_is_forwarded(authority, connect, secure):
    """The proxy is told the whole address, and the password at each request."""
    server = ScriptedServer(answering(http()))
    context = context_for(authority, "localhost") if secure else None
    with contextlib.closing(server), EgressProxy(server.port, credentials="a:b", context=context) as proxy:
        address = f"{'https' if secure else 'http'}://a:b@localhost:{proxy.port}"
        api = connect("http://mixpanel.internal:8080/mp", proxy=address)
        assert api.post("import", BODIES).status == 200
        assert proxy.asked == ["POST http://mixpanel.internal:8080/mp/import?strict=1 HTTP/1.1"]
        assert server.requests[0].headers["host"] == "mixpanel.internal:8080"


def test_a_proxy_that_was_not_asked_for_sees_nothing(connect, monkeypatch):
    """An address on this machine is reached directly where only HTTPS_PROXY is set."""
    server = ScriptedServer(answering(http()))
    with contextlib.closing(server), EgressProxy(server.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert connect(server.url).post("import", BODIES).status == 200
        assert proxy.asked == []


def test_without_a_proxy_means_without(connect, monkeypatch):
    """None says so, whatever the environment has."""
    server = ScriptedServer(answering(http()))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with contextlib.closing(server):
        assert connect(server.url, proxy=None).post("import", BODIES).status == 200


# --- trouble with a proxy -----------------------------------------------------------------------------


def test_a_refusal_of_the_proxy_is_told(behind, connect, monkeypatch):
    """With its address, and without the password."""
    with EgressProxy(behind.port, credentials="ann:right") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//ann:wrong@"))
        answer = connect().post("import", BODIES)
    assert (answer.status, answer.sent) == (0, False)
    assert answer.failure == (
        f"proxy: Tunnel connection failed: 407 Proxy Authentication Required (through the proxy {proxy.url})"
    )


def test_a_proxy_that_is_away_is_told(connect, monkeypatch):
    """It is not Mixpanel that refuses."""
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:hush@127.0.0.1:9")
    failure = connect().post("import", BODIES).failure
    assert failure.startswith("refused: ")
    assert failure.endswith("(through the proxy http://127.0.0.1:9)")


@pytest.mark.parametrize(
    "address", ["socks5://ann:hush@127.0.0.1:1080", "http://ann:hush@host:port", "ftp://x"]
)
def test_a_proxy_that_cannot_be_used_is_told(connect, monkeypatch, address):
    """Nothing goes past it, and nothing is shown of its password."""
    monkeypatch.setenv("https_proxy", address)
    answer = connect().post("import", BODIES)
    assert answer.failure.startswith("proxy: https_proxy must be ")
    assert "hush" not in answer.failure


def test_what_is_behind_the_proxy_proves_who_it_is(authority, connect):
    """A proxy that opens TLS needs an authority that is believed here."""
    other = ScriptedServer(answering(http()), context=context_for(trustme.CA(), "api.mixpanel.com"))
    with contextlib.closing(other), EgressProxy(other.port) as proxy:
        assert connect(proxy=proxy.url).post("import", BODIES).failure.startswith("tls: ")
    assert other.requests == []


# --- as requests has it -------------------------------------------------------------------------------

ENVIRONMENTS = [
    {},
    {"HTTPS_PROXY": "http://p:1"},
    {"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"},
    {"HTTP_PROXY": "http://p:1"},
    {"ALL_PROXY": "http://p:1"},
    {"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:1"},
    {"HTTPS_PROXY": "p:3128"},
    {"HTTPS_PROXY": "", "ALL_PROXY": "http://p:1"},
    {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"},
    *(
        {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://p:1", "NO_PROXY": exempt}
        for exempt in (
            *("*", "mixpanel.com", ".mixpanel.com", "api.mixpanel.com", "API.mixpanel.com", "other.com"),
            *("api.mixpanel.com:443", "api-eu.mixpanel.com:8443", "localhost,127.0.0.1", "127.0.0.0/8"),
            *("10.0.0.0/8, 192.168.0.0/16", " mixpanel.com , x", "com", "localhost:8484"),
        )
    ),
    {"HTTPS_PROXY": "http://p:1", "no_proxy": "mixpanel.com", "NO_PROXY": "x"},
]
ADDRESSES = [
    *(HOST, "https://api-eu.mixpanel.com:8443/mp", "http://localhost:8484", "http://127.0.0.1:8484"),
    *("http://10.1.2.3", "https://[::1]:8484"),
]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_environment_is_read_as_requests_reads_it(monkeypatch, environment, address):
    """Which is what the official library sends with."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    theirs = requests.utils.select_proxy(address, requests.utils.get_environ_proxies(address))
    ours = proxy_for(address, ENVIRONMENT)
    assert ours == (parse(theirs) if theirs else None)


def test_networks_of_ipv6_and_addresses_with_ports_are_exempt_as_well(monkeypatch):
    """There requests knows networks of IPv4 only, and ports after names only."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://p:1")
    monkeypatch.setenv("NO_PROXY", "fd00::/8,127.0.0.1:8484")
    assert proxy_for("http://127.0.0.1:8484", ENVIRONMENT) is None
    assert proxy_for("http://127.0.0.1:8485", ENVIRONMENT) is not None
    assert proxy_for("https://[fd00::1]:8484", ENVIRONMENT) is None
    assert proxy_for("https://[fe80::1]:8484", ENVIRONMENT) is not None


def test_what_is_no_proxy_raises(monkeypatch):
    """It names the variable."""
    monkeypatch.setenv("ALL_PROXY", "socks5h://p:1")
    with pytest.raises(ProxyError, match="ALL_PROXY must be an HTTP proxy"):
        proxy_for(HOST, ENVIRONMENT)


# --- authorities --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_of_the_environment_is_believed(authority, tmp_path, monkeypatch, name):
    """As requests, curl and OpenSSL have it."""
    server = ScriptedServer(answering(http()), context=context_for(authority, "localhost"))
    monkeypatch.setenv(name, str(tmp_path / "authority.pem"))
    with contextlib.closing(server):
        api = MixpanelAPI(f"https://localhost:{server.port}", "the-token")
        assert api.post("import", BODIES).status == 200
        api.close()


def test_the_first_of_two_bundles_counts(tmp_path, monkeypatch):
    """A directory will do."""
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    assert authorities() == (str(tmp_path / "file"), None)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert authorities() == (None, str(tmp_path))


def test_a_bundle_that_is_not_there_is_told(authority, tmp_path, monkeypatch):
    """And nothing is sent without it."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing"))
    with pytest.raises(AuthoritiesError):
        authorities()
    server = ScriptedServer(answering(http()), context=context_for(authority, "localhost"))
    with contextlib.closing(server):
        api = MixpanelAPI(f"https://localhost:{server.port}", "the-token")
        assert api.post("import", BODIES).failure.startswith("tls: REQUESTS_CA_BUNDLE names ")
        api.close()
