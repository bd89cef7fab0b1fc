"""MixpanelAPI against real sockets on loopback: what it sends, what it returns, and its connections."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import warnings

import pytest
from support.scripted_server import (
    BODIES,
    OK,
    answering,
    answering_once,
    http,
)

from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI
from mixpanel_visitor.delivery.sending.request_attempt import RESPONSE_MAX_BYTES

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
    assert len(api.post("import", BODIES).body) == RESPONSE_MAX_BYTES
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
