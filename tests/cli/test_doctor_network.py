"""`mixpanel-visitor doctor` on the way to Mixpanel: against servers that fail in each way there is."""

import datetime as dt
import email.utils
import json
import socket
import ssl

import pytest
import trustme
from click.testing import CliRunner
from support.egress_proxy import EgressProxy
from support.scripted_server import ScriptedServer, answering_once, http, resetting

from mixpanel_visitor.cli import main
from mixpanel_visitor.cli.doctor.network import other_regions
from mixpanel_visitor.settings import Settings

TOKEN = "0123456789abcdef0123456789abcdef"
KEY = "a-key-of-some-length"
ACCOUNT = {
    "MIXPANEL_SERVICE_ACCOUNT_USERNAME": "robot",
    "MIXPANEL_SERVICE_ACCOUNT_SECRET": "hush-hush",
    "MIXPANEL_PROJECT_ID": "4711",
}
NOW = dt.datetime.now(dt.UTC)
TAKEN = http(b'{"code":200,"num_records_imported":0,"status":"OK"}')
EMPTY = http(b'{"code":400,"error":"no events","status":"Bad Request"}', status="400 Bad Request")
REFUSED = http(
    b'{"code":401,"error":"Invalid credentials","status":"Unauthorized"}', status="401 Unauthorized"
)


@pytest.fixture
def serve():
    """Run servers that answer so, connection by connection, until the test ends."""
    running = []

    def run(*answers, **options):
        scenes = [answer if callable(answer) else answering_once(answer) for answer in answers]
        running.append(ScriptedServer(*scenes, **options))
        return running[-1]

    yield run
    for server in running:
        server.close()


def examine(host_url, **environment):
    """Run the doctor with this API host; give what it says of the network, by its text."""
    environment = {
        "MIXPANEL_TOKEN": TOKEN,
        "MIXPANEL_VISITOR_SECRET_KEY": KEY,
        "MIXPANEL_API_HOST": host_url,
        "MIXPANEL_VISITOR_SPOOL": "memory:",
        **NOTHING_ON_THE_WAY,
        **environment,
    }
    result = CliRunner().invoke(main, ["doctor", "--json"], env=environment)
    findings = json.loads(result.stdout)["findings"]
    start = next(at for at, finding in enumerate(findings) if "token looks like" in finding["what"]) + 1
    found = [finding for finding in findings[start:] if "memory" not in finding["what"]]
    assert result.exit_code == any(finding["level"] == "problem" for finding in found)
    assert all(finding["level"] == "ok" or (finding["why"] and finding["fix"]) for finding in found)
    return found


def levels(found):
    return [finding["level"] for finding in found]


HEAD = http(b"")
NOTHING_ON_THE_WAY = dict.fromkeys(
    (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "https_proxy",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
    )
)
"""Of this machine's own."""


# --- credentials ------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [TAKEN, EMPTY])
def test_a_token_that_is_let_in_is_fine(serve, answer):
    """Asked in the way that events go, with none in it."""
    server = serve(HEAD, answer)
    found = examine(server.url)
    assert [finding["what"] for finding in found] == [
        f"{server.url} is reached",
        "Mixpanel accepts the project token",
    ]
    head, post = server.requests
    assert head.line == "HEAD / HTTP/1.1"
    assert post.line == "POST /import?strict=1 HTTP/1.1"
    assert post.headers["content-encoding"] == "gzip"


def test_a_token_that_is_refused_is_a_problem(serve):
    """With where to copy it from."""
    *_, finding = examine(serve(HEAD, REFUSED).url)
    assert finding["level"] == "problem"
    assert finding["what"].startswith(
        "the project token is refused: Mixpanel refused the credentials (401: Inva"
    )
    assert "Project Settings, Access Keys" in finding["fix"]


def test_a_service_account_that_is_refused_is_a_problem(serve):
    """It takes the token's place, so the token does not help."""
    server = serve(HEAD, REFUSED)
    *_, finding = examine(server.url, **ACCOUNT)
    assert finding["level"] == "problem"
    assert finding["what"].startswith("the service account is refused")
    assert "MIXPANEL_PROJECT_ID" in finding["fix"]
    assert "project_id=4711" in server.requests[1].line


@pytest.mark.parametrize(
    ("answer", "level", "told"),
    [
        (http(b"", status="404 Not Found"), "problem", "does not take events (404)"),
        (
            http(b"", status="302 Found", headers=("Location: /login",)),
            "problem",
            "redirects elsewhere (302)",
        ),
        (http(b"<html>Welcome!</html>"), "problem", "something other than Mixpanel answered"),
        (http(b"", status="503 Service Unavailable"), "warning", "Mixpanel is in trouble (503)"),
        (http(b"", status="429 Too Many Requests"), "warning", "rate limit"),
        (resetting, "warning", "could not be checked: Mixpanel was not reached"),
    ],
)
def test_another_answer_is_told(serve, answer, level, told):
    """What is not Mixpanel's is a problem, trouble that passes is none."""
    *_, finding = examine(serve(HEAD, answer).url)
    assert finding["level"] == level
    assert told in finding["what"]


@pytest.mark.parametrize("switch", [{"MIXPANEL_VISITOR_ENABLED": "0"}, {"MIXPANEL_VISITOR_DRY_RUN": "1"}])
def test_who_sends_nothing_is_not_asked_for_credentials(serve, switch):
    """They may be anything."""
    server = serve(HEAD)
    found = examine(server.url, **switch)
    assert f"{server.url} is reached" in [finding["what"] for finding in found]
    assert server.connections == 1


def test_the_region_that_lets_the_credentials_in_is_named(serve):
    """The data of a project is kept in one of them."""
    here, there, nowhere = serve(REFUSED), serve(TAKEN), serve(REFUSED)
    settings = Settings.resolve(
        {"token": TOKEN, "secret_key": KEY, "api_host": here.url, "spool": "memory:"}, environ={}
    )
    hosts = {"us": here.url, "eu": there.url, "in": nowhere.url}
    (finding,) = other_regions(settings, hosts)
    assert (finding.level, finding.fix) == ("problem", "set MIXPANEL_REGION=eu")
    assert finding.what == f"Mixpanel accepts the same credentials at {there.url}"
    assert here.connections == 0


def test_behind_a_proxy_of_ones_own_there_are_no_regions(serve):
    """Nobody else is asked."""
    settings = Settings.resolve(
        {"token": TOKEN, "secret_key": KEY, "api_host": "https://proxy.example.com", "spool": "memory:"},
        environ={},
    )
    assert list(other_regions(settings, {"eu": serve(TAKEN).url})) == []


# --- the clock --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "level", "told"),
    [
        (dt.timedelta(), "ok", "agrees"),
        (dt.timedelta(minutes=5), "warning", "it is behind"),
        (dt.timedelta(minutes=-5), "warning", "it is ahead"),
        (dt.timedelta(hours=-2), "problem", "it is ahead"),
    ],
)
def test_a_clock_that_is_wrong_is_found(serve, off, level, told):
    """By the Date of the host's answer; over an hour ahead, events are refused."""
    date = email.utils.format_datetime(dt.datetime.now(dt.UTC) + off, usegmt=True)
    _, finding, _ = examine(serve(http(b"", headers=(f"Date: {date}",)), TAKEN).url)
    assert finding["level"] == level
    assert told in finding["what"]


# --- connection and certificate ---------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path):
    """A certificate authority, and the variable by which this host believes it."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return made, {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}


def context(authority, host="127.0.0.1", **options):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, **options).configure_cert(made)
    return made


def test_a_good_certificate_is_fine(serve, authority):
    """By the authorities that this host believes, as delivery does."""
    made, believed = authority
    found = examine(serve(HEAD, TAKEN, context=context(made)).url, **believed)
    assert levels(found) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"not_before": NOW - dt.timedelta(90), "not_after": NOW - dt.timedelta(1)}, "clock and date"),
        ({"not_before": NOW + dt.timedelta(1), "not_after": NOW + dt.timedelta(90)}, "clock and date"),
        ({"host": "elsewhere.test"}, "something else answers at this address"),
        ({"authority": trustme.CA()}, "SSL_CERT_FILE"),
    ],
    ids=["expired", "not yet valid", "another host", "unknown authority"],
)
def test_a_bad_certificate_is_a_problem(serve, authority, options, fix):
    """Each has its own fix, and nothing is said to that server."""
    made, believed = authority
    server = serve(HEAD, context=context(**{"authority": made, **options}))
    (finding,) = examine(server.url, **believed)
    assert finding["level"] == "problem"
    assert "its certificate is not accepted" in finding["what"]
    assert fix in finding["fix"]
    assert server.requests == []


def test_a_server_without_tls_is_told(serve):
    """Where https was expected."""

    def plain(_server, sock):
        sock.recv(100)
        sock.sendall(http(b""))

    (finding,) = examine(serve(plain).url.replace("http:", "https:"))
    assert "not reached by TLS" in finding["what"]
    assert "scheme and port" in finding["fix"]


def test_a_name_that_is_not_found_is_told():
    """The name service is the first suspect."""
    (finding,) = examine("http://mixpanel.invalid")[-1:]
    assert "its name is not found" in finding["what"]
    assert "/etc/resolv.conf" in finding["fix"]


# --- egress proxies ---------------------------------------------------------------------------------


@pytest.fixture
def bundled(tmp_path):
    """Return an authority, and the variable of `requests` by which this host believes it."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return made, {"REQUESTS_CA_BUNDLE": str(tmp_path / "authority.pem")}


def tls_of(authority, host):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def test_mixpanel_is_asked_through_the_proxy(serve, bundled):
    """As delivery does it; a certificate of an authority in REQUESTS_CA_BUNDLE is accepted."""
    made, believed = bundled
    server = serve(HEAD, TAKEN, context=tls_of(made, "mixpanel.test"))
    with EgressProxy(server.port, credentials="ann:hush") as proxy:
        named = proxy.url.replace("//", "//ann:hush@")
        found = examine("https://mixpanel.test", HTTPS_PROXY=named, **believed)
    assert found[0]["what"] == f"https://mixpanel.test is reached through the proxy {proxy.url}"
    assert levels(found) == ["ok", "ok"]


def test_mixpanel_is_asked_through_a_proxy_with_tls(serve, bundled):
    """Then the credentials tell whether the way is open."""
    made, believed = bundled
    server = serve(TAKEN, context=tls_of(made, "mixpanel.test"))
    with EgressProxy(server.port, context=tls_of(made, "localhost")) as proxy:
        address = f"https://localhost:{proxy.port}"
        found = examine("https://mixpanel.test", MIXPANEL_VISITOR_PROXY=address, **believed)
    assert [finding["what"] for finding in found] == [
        f"https://mixpanel.test is asked through the proxy {address}",
        "Mixpanel accepts the project token",
    ]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://ann:hush@127.0.0.1:9", "is not reached through the proxy http://127.0.0.1:9"),
        ("socks5://ann:hush@127.0.0.1:9", "HTTPS_PROXY must be an HTTP proxy"),
        ("http://ann:hush@127.0.0.1:x", "HTTPS_PROXY must be the URL of a proxy"),
    ],
)
def test_a_proxy_that_does_not_work_is_told(address, told):
    """And no password."""
    (finding,) = examine("https://mixpanel.test", HTTPS_PROXY=address)
    assert told in finding["what"]
    assert "proxy" in finding["fix"].lower()
    assert "hush" not in str(finding)


def test_a_proxy_that_wants_another_password_is_told(serve, bundled):
    """Its own words stand there."""
    made, believed = bundled
    server = serve(HEAD, context=tls_of(made, "mixpanel.test"))
    with EgressProxy(server.port, credentials="ann:right") as proxy:
        (finding,) = examine("https://mixpanel.test", HTTPS_PROXY=proxy.url, **believed)
    assert "407 Proxy Authentication Required" in finding["what"]


def test_where_nothing_is_reached_a_proxy_is_thought_of():
    """It may be the only way out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (finding,) = examine(f"http://127.0.0.1:{port}")
    assert "is not reached (ConnectionRefusedError" in finding["what"]
    assert "name it in HTTPS_PROXY or MIXPANEL_VISITOR_PROXY" in finding["fix"]
