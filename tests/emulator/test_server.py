"""The server on its socket: its life, broken clients, and requests that are no Mixpanel's."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import threading
import urllib.parse
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel


def talk(local: LocalMixpanel, data: bytes) -> bytes:
    """Send bytes, end our side, and give all that comes back."""
    with socket.create_connection(("127.0.0.1", local.port), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        # Our bytes may still be on their way when the server has said enough and hangs up.
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                received += piece
    return received


def events_body(*events: Any) -> bytes:
    """Write events as JSON."""
    return json.dumps(list(events)).encode()


def test_it_listens_only_between_start_and_stop(connect):
    """Nothing is bound at construction, nothing stays bound after the end."""
    local = LocalMixpanel()
    assert local.port == 0
    with local:
        assert connect(local).get("/_local/health").status == 200
    with pytest.raises(ConnectionRefusedError):
        connect(local).get("/_local/health")


def test_it_starts_again_at_the_same_port_with_what_it_had(connect, event):
    """As a server that was down for a while."""
    local = LocalMixpanel(now_ms=lambda: 1_800_000_000_000)
    with local:
        port = local.port
        connect(local).import_([event("before")])
    with local:
        assert local.port == port
        connect(local).import_([event("after")])
    assert [each.name for each in local.store.events()] == ["before", "after"]


def test_starting_twice_is_a_mistake(local):
    """It says where it listens."""
    with pytest.raises(RuntimeError, match=str(local.port)):
        local.start()


def test_stopping_twice_does_nothing(local):
    """Whoever cleans up need not know."""
    local.stop()
    local.stop()


def test_a_port_that_is_taken_is_an_os_error(local):
    """And the second one can try again later."""
    other = LocalMixpanel(port=local.port)
    with pytest.raises(OSError, match="in use"):
        other.start()
    local.stop()
    with other:
        assert other.port == local.port


def test_stop_hangs_up_on_idle_connections(local, client):
    """A kept-alive connection does not keep the server's thread."""
    others = set(threading.enumerate())
    assert client.get("/_local/health").status == 200
    local.stop()
    client.connection.auto_open = 0
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.get("/_local/health")
    left = set(threading.enumerate()) - others
    assert not [thread for thread in left if "process_request_thread" in thread.name]


def test_a_connection_is_kept_alive(client):
    """One socket for many requests."""
    client.get("/_local/health")
    first = client.connection.sock
    assert first is not None  # as it would be after an answer that ends the connection
    client.get("/nothing")
    client.post("/track", {})
    assert client.connection.sock is first


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_it_does_not_listen_to_the_network_by_accident(host):
    """What arrives is nobody else's business."""
    with pytest.raises(ValueError, match="loopback"):
        LocalMixpanel(host)


def test_it_listens_to_the_network_if_told_so(connect):
    """Then any name is good; its address stays one that can be used."""
    with LocalMixpanel("0.0.0.0", allow_remote=True) as local:
        assert local.url == f"http://127.0.0.1:{local.port}"
        assert connect(local).get("/_local/stats", Host="mixpanel.internal:8484").status == 200


def test_it_listens_on_ipv6():
    """Its URL has brackets."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    local = LocalMixpanel("::1")
    try:
        local.start()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    with contextlib.closing(http.client.HTTPConnection("::1", local.port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/_local/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
    assert local.url == f"http://[::1]:{local.port}"
    local.stop()


def test_the_date_is_that_of_its_clock(client):
    """A sender measures the difference of the clocks by it."""
    assert client.get("/_local/health").headers["date"] == "Fri, 15 Jan 2027 08:00:00 GMT"


def test_a_chunked_body_is_taken(client, event):
    """Clients that do not know the length beforehand send it so."""
    pieces = iter([b"[", events_body(event())[1:-1], b"]"])
    headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    client.connection.request("POST", "/track", pieces, headers, encode_chunked=True)
    assert client.connection.getresponse().read() == b"1"


def test_a_client_that_asks_first_is_told_to_go_on(local, event):
    """As curl does for large bodies (Expect: 100-continue)."""
    body = events_body(event())
    with socket.create_connection(("127.0.0.1", local.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"POST /track HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n")
        connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: x",
        b"Content-Length: -5",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
    ],
)
def test_a_body_of_unclear_length_is_refused(local, head):
    """400, and the connection ends: what follows could be anything."""
    answer = talk(local, b"POST /track HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"-1\r\n", b"0\r\n" + b"a: b\r\n" * 200]
)
def test_malformed_chunks_are_refused(local, chunks):
    """400, in JSON."""
    head = b"POST /track HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert talk(local, head + chunks).startswith(b"HTTP/1.1 400 ")


def test_a_chunk_header_without_end_is_refused(local):
    """It is not read for ever."""
    head = b"POST /track HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert talk(local, head + b"0" * 10_000).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 9\r\n\r\n[{",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\n[{",
        b"Transfer-Encoding: chunked\r\n\r\n9",
    ],
)
def test_half_a_body_is_not_answered(local, rest):
    """The client has left; nothing of it is stored."""
    assert talk(local, b"POST /track HTTP/1.1\r\nHost: localhost\r\n" + rest) == b""
    assert local.store.stats()["requests"] == {}


def test_a_body_beyond_all_measure_is_refused_unread(local):
    """Nobody is read for minutes."""
    answer = talk(local, b"POST /track HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_what_is_not_http_is_answered_in_json_or_not_at_all(local, data):
    """No HTML page of the standard library, no traceback."""
    answer = talk(local, data)
    assert not answer or json.loads(answer.rpartition(b"\r\n")[2])["code"] >= 400


def test_a_query_of_a_thousand_fields_is_refused(client, event):
    """400, and the connection lives on."""
    assert client.post("/track?" + "&".join(f"a{n}=1" for n in range(1_001)), event()).status == 400
    assert client.post("/track", event()).body == b"1"


def test_an_old_client_gets_its_answer(local):
    """HTTP/1.0 without any header, then the end."""
    answer = talk(local, b"GET /_local/health HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"status":"ok"}')


def test_a_client_that_leaves_is_no_error(local, client, caplog, capfd):
    """Nothing is stored, nothing is printed, and the next one is served."""
    with caplog.at_level(logging.DEBUG):
        for cut in (b"POST /tr", b"POST /track HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n[{"):
            connection = socket.create_connection(("127.0.0.1", local.port), timeout=PATIENCE_S)
            # Closing with linger 0 sends a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(cut)
            connection.close()
        assert client.get("/_local/health").status == 200
        local.stop()
    assert local.store.stats()["received"] == 0
    assert capfd.readouterr().err == ""
    assert caplog.records == []


def test_many_clients_at_once_lose_nothing(local, connect, event):
    """Every event of every thread is counted once."""
    batches = [[event() for _ in range(50)] for _ in range(16)]
    clients = [connect(local) for _ in batches]
    statuses: list[int] = []

    def send(client: Any, batch: list[Any]) -> None:
        statuses.extend(client.import_(batch).status for _ in range(3))

    threads = [threading.Thread(target=send, args=pair) for pair in zip(clients, batches, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200] * 48
    stats = local.store.stats()
    assert (stats["unique"], stats["duplicates"], stats["altered"]) == (800, 1600, 0)
    assert [each.number for each in local.store.events()] == list(range(1, 801))


def test_an_error_of_ours_is_a_500_in_json(local, client, monkeypatch, caplog):
    """And the connection lives on."""

    def fail(**_filters):
        raise ZeroDivisionError

    monkeypatch.setattr(local.store, "events", fail)
    assert client.get("/_local/events").status == 500
    assert client.get("/_local/health").status == 200
    assert "ZeroDivisionError" in caplog.text


PATHS = ["/import?strict=1", "/import", "/track?verbose=1", "/track", "/engage?strict=1", "/groups?verbose=1"]
TYPES = ["application/json", "application/x-ndjson", "application/x-www-form-urlencoded", "text/plain", ""]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "event": json_values | st.sampled_from(["a", "$merge", "$identify"]),
        "properties": json_values
        | st.dictionaries(st.sampled_from(["time", "distinct_id", "token"]), json_values),
        "$token": st.just("t") | json_values,
        "$distinct_id": st.just("u") | json_values,
        "$group_key": st.just("k") | json_values,
        "$group_id": st.just("g") | json_values,
        "$set": json_values,
        "$add": json_values,
        "$union": json_values,
        "$unset": json_values,
    },
)
bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(likely, max_size=3).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    likely.map(lambda value: b"data=" + urllib.parse.quote(json.dumps(value)).encode()),
)


@given(
    path=st.sampled_from(PATHS),
    content_type=st.sampled_from(TYPES),
    encoding=st.sampled_from(["", "gzip", "identity", "br"]),
    body=bodies,
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_makes_it_fail(client, path, content_type, encoding, body):
    """Whatever arrives at an endpoint is answered, never with a 5xx."""
    headers = {"Content-Type": content_type, "Content-Encoding": encoding, "Authorization": "Basic dDo="}
    answer = client.request("POST", path, body, headers)
    assert answer.status < 500


@given(
    path=st.sampled_from(["/", "/_local/events", "/_local/rejected", "/track", "/import", "/x"]),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80),
    header=st.text(
        st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f\x85"), max_size=40
    ),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_query_and_no_header_makes_it_fail(client, path, query, header):
    """Neither what is asked for nor who says so."""
    name_and_value = {"Origin": header.encode("latin-1"), "Authorization": header.encode("latin-1")}
    assert client.request("GET", f"{path}?{query}", headers=name_and_value).status < 500


@given(
    data=st.binary(max_size=120),
    start=st.sampled_from([b"", b"GET ", b"POST /track HTTP/1.1\r\n", b"POST /import "]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_on_the_wire_make_it_fail(local, client, caplog, start, data):
    """It never says 5xx but for methods that do not exist, logs nothing, and serves the next one."""
    answer = talk(local, start + data)
    status = answer[9:12] if answer.startswith(b"HTTP/") else b""
    assert status in (b"", b"501", b"505") or not status.startswith(b"5")
    assert client.get("/_local/health").status == 200
    assert caplog.records == []
