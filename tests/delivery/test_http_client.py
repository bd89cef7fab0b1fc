"""MixpanelAPI against real sockets on loopback: what it sends, and what each misbehaviour becomes."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import warnings

import pytest
import trustme
from support.scripted_server import (
    OK,
    ScriptedServer,
    answering,
    answering_once,
    http,
    repeating,
    resetting,
    silent,
)

from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI, Response, Timeouts
from mixpanel_visitor.delivery.sending.request_attempt import ANSWER_MAX_BYTES

BODIES = [b'{"event":"A"}', b'{"event":"B"}']


@pytest.fixture
def serve():
    """Start scripted servers, and end them with the test."""
    with contextlib.ExitStack() as stack:

        def start(*scenes, context=None) -> ScriptedServer:
            server = ScriptedServer(*scenes, context=context)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def connect():
    """Make clients, and close them with the test."""
    with contextlib.ExitStack() as stack:

        def make(url: str, token="the-token", service_account=None, **options) -> MixpanelAPI:
            options.setdefault("timeouts", Timeouts(connect_s=5.0, read_s=5.0, total_s=10.0))
            api = MixpanelAPI(url, token, service_account, **options)
            stack.callback(api.close)
            return api

        yield make


class Ticking:
    """A monotonic clock that moves on with every look at it."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


# --- what is sent ------------------------------------------------------------------------------


def test_events_are_sent_as_one_gzipped_array(serve, connect):
    """The body is the stored bytes, joined and compressed."""
    server = serve(answering(http()))
    connect(server.url).post("import", BODIES)
    request = server.requests[0]
    assert gzip.decompress(request.body) == b'[{"event":"A"},{"event":"B"}]'
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["content-type"] == "application/json"


def test_isal_compresses_where_it_is_installed(serve, connect):
    """What arrives is the same, whichever of the two it was."""
    server = serve(answering(http(), http()))
    connect(server.url).post("import", BODIES)
    assert "isal.igzip" in sys.modules
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "isal.igzip", None)
        connect(server.url).post("import", BODIES)
    by_isal, by_zlib = (request.body for request in server.requests)
    assert by_isal != by_zlib
    assert gzip.decompress(by_isal) == gzip.decompress(by_zlib) == b'[{"event":"A"},{"event":"B"}]'


def test_events_are_imported_strictly_with_the_token(serve, connect):
    """The token is the user name of the basic authorization, with no password."""
    server = serve(answering(http()))
    connect(server.url).post("import", BODIES)
    request = server.requests[0]
    assert request.line == "POST /import?strict=1 HTTP/1.1"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"the-token:").decode()


def test_a_service_account_authorizes_with_its_project(serve, connect):
    """Name and secret authorize, the project stands in the query."""
    server = serve(answering(http()))
    account = ("worker", "hush", "12 3")
    connect(server.url, service_account=account).post("import", BODIES)
    request = server.requests[0]
    assert request.line == "POST /import?strict=1&project_id=12%203 HTTP/1.1"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"worker:hush").decode()


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [("engage", "/engage?verbose=1&strict=1&ip=0"), ("groups", "/groups?verbose=1&strict=1")],
)
def test_profiles_ask_for_details_without_authorization(serve, connect, endpoint, target):
    """A profile update carries the token itself; the answer is to name what is wrong."""
    server = serve(answering(http(b"1")))
    connect(server.url).post(endpoint, BODIES)
    assert server.requests[0].line == f"POST {target} HTTP/1.1"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("endpoint", ["engage", "groups"])
def test_profiles_are_sent_uncompressed(serve, connect, endpoint):
    """Mixpanel's reference says that the profile API takes no gzip."""
    server = serve(answering(http(b"1")))
    connect(server.url).post(endpoint, BODIES)
    assert server.requests[0].body == b'[{"event":"A"},{"event":"B"}]'
    assert "content-encoding" not in server.requests[0].headers


def test_a_path_of_the_host_is_kept(serve, connect):
    """A proxy of one's own may live under a path."""
    server = serve(answering(http()))
    connect(f"{server.url}/mp/").post("import", BODIES)
    assert server.requests[0].line == "POST /mp/import?strict=1 HTTP/1.1"


def test_the_package_names_itself(serve, connect):
    """Mixpanel can tell who sends."""
    server = serve(answering(http()))
    connect(server.url).post("import", BODIES)
    assert server.requests[0].headers["user-agent"].startswith("mixpanel-visitor/")


def test_a_large_body_arrives_whole(serve, connect):
    """Sending in pieces changes nothing for the server."""
    bodies = [json.dumps({"event": secrets.token_hex(500)}).encode() for _ in range(1_000)]
    server = serve(answering(http()))
    assert connect(server.url).post("import", bodies).status == 200
    assert gzip.decompress(server.requests[0].body) == b"[" + b",".join(bodies) + b"]"


@pytest.mark.parametrize("url", ["api.mixpanel.com", "ftp://api.mixpanel.com", "https://"])
def test_an_address_that_is_none_is_refused(url):
    """A mistake in the host is told at once."""
    with pytest.raises(ValueError, match="address"):
        MixpanelAPI(url, "the-token")


# --- what is returned --------------------------------------------------------------------------


def test_an_answer_has_status_headers_and_body(serve, connect):
    """Header names are lower case; the Date is there for comparing clocks."""
    server = serve(answering(http(status="429 Too Many", headers=("Date: Thu, 09 Oct 2025 08:53:20 GMT",))))
    answer = connect(server.url).post("import", BODIES)
    assert (answer.status, answer.body, answer.failure, answer.sent) == (429, OK, "", True)
    assert answer.headers["date"] == "Thu, 09 Oct 2025 08:53:20 GMT"


def test_a_chunked_answer_is_read(serve, connect):
    """An answer may come in chunks."""
    server = serve(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
    assert connect(server.url).post("import", BODIES).body == b"{}"


def test_a_redirect_is_not_followed(serve, connect):
    """Nothing is sent to an address that was not configured."""
    elsewhere = serve(answering(http()))
    server = serve(answering(http(b"", status="302 Found", headers=(f"Location: {elsewhere.url}/import",))))
    assert connect(server.url).post("import", BODIES).status == 302
    assert elsewhere.requests == []


def test_no_more_than_a_mebibyte_is_read(serve, connect):
    """A huge answer costs a bounded amount of memory, and does not disturb the next one."""
    server = serve(answering_once(http(b"x" * 3_000_000)), answering(http()))
    api = connect(server.url)
    assert len(api.post("import", BODIES).body) == ANSWER_MAX_BYTES
    assert api.post("import", BODIES).body == OK


# --- connections -------------------------------------------------------------------------------


def test_a_connection_is_kept(serve, connect):
    """Two requests need one connection."""
    server = serve(answering(http()))
    api = connect(server.url)
    assert [api.post("import", BODIES).status for _ in range(2)] == [200, 200]
    assert server.connections == 1


def test_a_connection_that_the_server_closed_is_replaced(serve, connect):
    """A server may hang up between two requests."""
    hung_up = threading.Event()

    def once_then_hang_up(server, sock):
        answering_once(http())(server, sock)
        sock.shutdown(socket.SHUT_RDWR)
        hung_up.set()

    server = serve(once_then_hang_up, answering(http()))
    api = connect(server.url)
    api.post("import", BODIES)
    assert hung_up.wait(5)
    assert api.post("import", BODIES).status == 200


def test_a_connection_that_was_idle_for_long_is_replaced(serve, connect):
    """A firewall in between may have forgotten it without a word."""
    now = [0.0]
    server = serve(answering(http()))
    api = connect(server.url, monotonic=lambda: now[0])
    api.post("import", BODIES)
    now[0] += 51.0
    assert api.post("import", BODIES).status == 200
    assert server.connections == 2


def test_a_closed_client_opens_anew(serve, connect):
    """Closing gives the socket back, and no more."""
    server = serve(answering(http()))
    api = connect(server.url)
    api.post("import", BODIES)
    api.close()
    assert api.post("import", BODIES).status == 200
    assert server.connections == 2


def test_a_forked_child_has_its_own_connection(serve, connect):
    """Parent and child never write to one socket."""
    server = serve(answering(http()))
    api = connect(server.url)
    api.post("import", BODIES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what is tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if api.post("import", BODIES).status == 200 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert api.post("import", BODIES).status == 200
    assert server.connections == 2


# --- trouble -----------------------------------------------------------------------------------


def no_name_service(*args, **kwargs):
    """Fail as look-ups do while the resolver is away."""
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


class Authority:
    """A certificate authority of the test's own, for any host name."""

    def __init__(self, directory):
        self._authority = trustme.CA()
        self.file = str(directory / "authority.pem")
        self._authority.cert_pem.write_to_path(self.file)

    def context(self, host):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def outcome(answer: Response) -> tuple[int, str, bool]:
    """What the sender decides by."""
    return answer.status, answer.failure.partition(":")[0], answer.sent


def test_a_refused_connection_is_an_answer(connect):
    """Nobody listens: nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert outcome(connect(f"http://127.0.0.1:{port}").post("import", BODIES)) == (0, "refused", False)


def test_an_unknown_name_is_an_answer(connect):
    """The name service does not know the host: nothing was sent."""
    assert outcome(connect("http://mixpanel.invalid").post("import", BODIES)) == (0, "dns", False)


def test_an_address_needs_no_name_service(serve, connect, monkeypatch):
    """Under gevent a look-up at exit would need a thread, which nobody gets any more then."""
    server = serve(answering(http()))
    monkeypatch.setattr(socket, "getaddrinfo", no_name_service)
    assert connect(server.url).post("import", BODIES).status == 200


def test_an_outage_of_the_name_service_is_survived(serve, connect, authority, monkeypatch):
    """A host that was reached before is found again; its certificate proves that it is still the same."""
    server = serve(answering(http()), context=authority.context("localhost"))
    api = connect(f"https://localhost:{server.port}", ca_file=authority.file)
    assert api.post("import", BODIES).status == 200
    api.close()
    monkeypatch.setattr(socket, "getaddrinfo", no_name_service)
    assert api.post("import", BODIES).status == 200
    assert server.connections == 2


def test_without_tls_an_old_address_is_not_believed(serve, connect, monkeypatch):
    """Nothing would prove that whoever has it now is still Mixpanel."""
    server = serve(answering(http()))
    api = connect(f"http://localhost:{server.port}")
    assert api.post("import", BODIES).status == 200
    api.close()
    monkeypatch.setattr(socket, "getaddrinfo", no_name_service)
    assert outcome(api.post("import", BODIES)) == (0, "dns", False)


def test_a_path_that_http_does_not_allow_is_an_answer(serve, connect):
    """Even what no network is to blame for does not raise into the sender."""
    server = serve(answering(http()))
    api = connect(f"{server.url}/with a space")
    assert outcome(api.post("import", BODIES)) == (0, "protocol", False)


def test_a_server_that_never_answers_times_out(serve, connect):
    """The request was sent, so its outcome is unknown."""
    server = serve(silent)
    api = connect(server.url, timeouts=Timeouts(read_s=0.05))
    assert outcome(api.post("import", BODIES)) == (0, "timeout", True)


def test_a_server_that_never_reads_times_out(serve, connect):
    """A body that does not fit into the sockets' buffers is not sent; nothing is unknown."""
    server = serve(lambda server, sock: server.closing.wait(20))
    api = connect(server.url, timeouts=Timeouts(read_s=0.05))
    incompressible = [secrets.token_bytes(16 * 1024 * 1024)]
    assert outcome(api.post("import", incompressible)) == (0, "timeout", False)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["headers", "body", "chunks"],
)
def test_a_server_that_trickles_ends_at_the_deadline(serve, connect, head, piece):
    """Signs of life do not prolong the time for the whole request."""
    server = serve(repeating(head, piece))
    clock = Ticking(step_s=5.0)
    api = connect(server.url, timeouts=Timeouts(total_s=60.0), monotonic=clock)
    answer = api.post("import", BODIES)
    # Python 3.14 gives up after a hundred interim answers by itself.
    assert answer.failure.startswith(("timeout", "protocol: got more than 100 interim responses"))
    assert clock.now_s < 90.0


def test_the_caller_can_shorten_the_time(serve, connect):
    """At exit only a moment is left."""
    now_s = [0.0]

    def late(server, sock):
        answering_once(http())(server, sock)
        server.read(sock)
        now_s[0] += 3.0
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        server.closing.wait(20)

    server = serve(late)
    api = connect(server.url, monotonic=lambda: now_s[0])
    api.post("import", BODIES)
    assert outcome(api.post("import", BODIES, timeout_s=2.0)) == (0, "timeout", True)


def test_no_time_at_all_sends_nothing(serve, connect):
    """Without any time left there is no attempt."""
    server = serve(answering(http()))
    assert outcome(connect(server.url).post("import", BODIES, timeout_s=0.0)) == (0, "timeout", False)
    assert server.connections == 0


def test_a_reset_after_the_body_leaves_the_outcome_unknown(serve, connect):
    """Mixpanel may have taken the records before the line broke."""
    server = serve(resetting)
    assert outcome(connect(server.url).post("import", BODIES)) == (0, "reset", True)


def test_a_server_that_hangs_up_without_a_word_is_a_reset(serve, connect):
    """No status line is no answer."""
    server = serve(answering_once(b""))
    assert outcome(connect(server.url).post("import", BODIES)) == (0, "reset", True)


def test_what_is_not_http_is_a_protocol_failure(serve, connect):
    """Some other service listens there."""
    server = serve(answering_once(b"220 mail.example.com ESMTP\r\n"))
    assert outcome(connect(server.url).post("import", BODIES)) == (0, "protocol", True)


def test_a_body_shorter_than_announced_keeps_the_status(serve, connect):
    """The status came whole, the body did not: both are told."""
    server = serve(answering_once(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\n{}"))
    answer = connect(server.url).post("import", BODIES)
    assert (answer.status, answer.failure.partition(":")[0], answer.body) == (401, "protocol", b"{}")


def test_after_a_failure_the_next_request_gets_its_own_answer(serve, connect):
    """A late answer to a request that was given up is never taken for the next one's."""
    server = serve(silent, answering(http(b"{}")))
    api = connect(server.url, timeouts=Timeouts(read_s=0.05))
    api.post("import", BODIES)
    assert api.post("import", BODIES).body == b"{}"


def test_an_answer_before_the_body_was_read_is_heard(serve, connect):
    """A server may refuse a request by its headers alone."""

    def refuse_early(server, sock):
        sock.recv(1)
        sock.sendall(http(b"{}", status="413 Too Large", headers=("Connection: close",)))
        while sock.recv(65536):
            pass

    server = serve(refuse_early)
    assert connect(server.url).post("import", [secrets.token_bytes(4 * 1024 * 1024)]).status == 413


# --- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that only its own file vouches for, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 "
        "-addext keyUsage=critical,digitalSignature,keyCertSign"
    )
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def tls(certificate):
    """The server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_tls_with_a_known_authority_works(serve, connect, certificate, tls):
    """An authority of one's own can be configured."""
    server = serve(answering(http()), context=tls)
    api = connect(server.url, ca_file=str(certificate[0]))
    assert [api.post("import", BODIES).status for _ in range(2)] == [200, 200]


def test_an_unknown_authority_is_refused(serve, connect, tls):
    """Nothing is sent to a server that cannot prove who it is."""
    server = serve(answering(http()), context=tls)
    assert outcome(connect(server.url).post("import", BODIES)) == (0, "tls", False)
    assert server.requests == []


def test_a_certificate_for_another_host_is_refused(serve, connect, certificate, tls):
    """The certificate must name the host that was asked for."""
    server = serve(answering(http()), context=tls)
    api = connect(f"https://localhost:{server.port}", ca_file=str(certificate[0]))
    assert outcome(api.post("import", BODIES)) == (0, "tls", False)


def test_tls_never_falls_back_to_plain(serve, connect):
    """A server that speaks plain HTTP on the secure port gets nothing."""

    def complain(server, sock):
        sock.recv(1)
        sock.sendall(http(b"plain HTTP, please", status="400 Bad Request"))

    server = serve(complain)
    assert outcome(connect(f"https://127.0.0.1:{server.port}").post("import", BODIES)) == (0, "tls", False)


def test_a_tls_server_that_trickles_ends_at_the_deadline(serve, connect, certificate, tls):
    """The deadline holds under TLS as well."""
    server = serve(repeating(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n", b"x"), context=tls)
    clock = Ticking(step_s=5.0)
    api = connect(server.url, ca_file=str(certificate[0]), timeouts=Timeouts(), monotonic=clock)
    assert api.post("import", BODIES).failure.startswith("timeout")
    assert clock.now_s < 90.0


# --- cost --------------------------------------------------------------------------------------


def test_making_a_client_does_not_load_urllib3():
    """urllib3 is loaded with the first request, not with the package."""
    program = (
        "import sys; from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI;"
        "MixpanelAPI('https://api.mixpanel.com', 't'); sys.exit('urllib3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- our own mistakes ----------------------------------------------------------------------------


def test_a_mistake_of_our_own_is_named_as_one(serve, connect):
    """With its type and its place: it is no trouble on the network."""
    server = serve(answering(http()))
    looks = iter(["0", "1", "no number", *map(str, range(2, 99))])
    api = connect(server.url, monotonic=lambda: float(next(looks)))
    answer = api.post("import", BODIES)
    assert (answer.status, answer.sent) == (0, False)
    assert re.match(r"internal: ValueError at delivery/[\w/]+\.py:\d+: ", answer.failure), answer.failure
    assert api.post("import", BODIES).status == 200


def test_a_note_that_fails_costs_no_answer(serve, connect):
    """The request has left by then: sent again, it would be there twice."""

    def on_sent():
        raise OSError("disk full")

    server = serve(answering(http()))
    answer = connect(server.url, on_sent=on_sent).post("import", BODIES)
    assert (answer.status, answer.failure) == (200, "")


def test_a_name_that_no_name_service_takes_is_an_answer(connect):
    """It is the address that is wrong, not this package."""
    assert outcome(connect(f"http://{'a' * 70}.example").post("import", BODIES))[1] in ("dns", "network")
