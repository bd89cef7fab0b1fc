"""Websockets over ASGI: the cookie, and when events are stored."""

from support.asgi_apps import answering, exchange
from support.asgi_driver import texts, websocket_scope
from support.trackers import COOKIE


def test_a_socket_gets_its_cookie_with_the_accept(wrap):
    """There is no other head in which a socket's visitor could be told."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "chat"})

    conversation = exchange(wrap(app), websocket_scope(), [{"type": "websocket.connect"}])
    (accept,) = conversation.sent
    assert accept["subprotocol"] == "chat"
    assert dict(texts(accept))["set-cookie"].startswith(f"{COOKIE}=")


def test_a_sockets_events_are_stored_while_it_is_open(wrap, spool):
    """A socket may live for days; its events do not wait for its end."""
    stored = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for number in (1, 2):
            scope["state"]["visitor"].track(f"Message {number}")
            assert wrapped.tracker.flush()
            stored.append(list(spool.names))
        await send({"type": "websocket.close"})

    wrapped = wrap(app)
    exchange(wrapped, websocket_scope(), [{"type": "websocket.connect"}])
    assert stored == [["Message 1"], ["Message 1", "Message 2"]]


def test_a_denied_socket_gets_its_cookie_with_the_denial(wrap):
    """The denial is an HTTP response and carries headers as one."""
    denial = {"type": "websocket.http.response.start", "status": 403, "headers": []}
    conversation = exchange(
        wrap(answering(denial, {"type": "websocket.http.response.body", "body": b"no"})),
        websocket_scope(extensions={"websocket.http.response": {}}),
    )
    assert dict(texts(conversation.sent[0]))["set-cookie"].startswith(f"{COOKIE}=")
    assert conversation.sent[0]["status"] == 403


def test_a_socket_closed_before_its_accept_passes(wrap, spool):
    """A bare refusal has no headers and stays as it is."""
    close = {"type": "websocket.close", "code": 1008}
    assert exchange(wrap(answering(close)), websocket_scope()).sent == [close]
    assert spool.names == ["Page"]
