"""MixpanelAPI against real sockets on loopback: what each failure of a network, a server or TLS becomes."""

from __future__ import annotations

import secrets
import shutil
import socket
import ssl
import subprocess

import pytest
import trustme
from support.scripted_server import (
    BODIES,
    answering,
    answering_once,
    http,
    repeating,
    resetting,
    silent,
)

from mixpanel_visitor.delivery.sending.http_client import Response, Timeouts


class Ticking:
    """A monotonic clock that moves on with every look at it."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


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


def test_a_name_that_no_name_service_takes_is_an_answer(connect):
    """It is the address that is wrong, not this package."""
    assert outcome(connect(f"http://{'a' * 70}.example").post("import", BODIES))[1] in ("dns", "network")


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
