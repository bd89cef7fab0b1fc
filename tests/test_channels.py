"""Consumers of channels: sync ones reach our `send` by the bridge of asgiref, and nothing warns."""

import asyncio

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from support import django_site  # noqa: F401  # configures Django
from support.asgi_driver import REQUEST, http_scope, websocket_scope
from support.spools import RecordingSpool
from support.trackers import tracker_into
from support.waiting import PATIENCE_S

from mixpanel_visitor.asgi import VisitorMiddleware

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"hello"}


class Sync(WebsocketConsumer):
    """A socket in sync code."""

    def connect(self):
        self.scope["state"]["visitor"].track("Connected")
        self.accept()


class Async(AsyncWebsocketConsumer):
    """A socket in async code."""

    async def connect(self):
        self.scope["state"]["visitor"].track("Connected")
        await self.accept()


class SyncPage(SyncConsumer):
    """A page in sync code."""

    def http_request(self, message):
        self.scope["state"]["visitor"].track("Page")
        self.send(START)
        self.send(BODY)
        raise StopConsumer


class AsyncPage(AsyncConsumer):
    """A page in async code."""

    async def http_request(self, message):
        self.scope["state"]["visitor"].track("Page")
        await self.send(START)
        await self.send(BODY)
        raise StopConsumer


@pytest.fixture
def spool():
    """What the tracker has stored."""
    return RecordingSpool()


@pytest.mark.parametrize("consumer", [Sync, Async])
def test_a_socket_is_accepted_and_tracks(spool, consumer):
    """Warnings are errors here."""

    async def main():
        app = VisitorMiddleware(consumer.as_asgi(), tracker=tracker_into(spool))
        talk = ApplicationCommunicator(app, websocket_scope())
        await talk.send_input({"type": "websocket.connect"})
        accepted = await talk.receive_output(PATIENCE_S)
        await talk.send_input({"type": "websocket.disconnect", "code": 1000})
        await talk.wait(PATIENCE_S)
        assert app.tracker.flush()
        return accepted["type"]

    assert asyncio.run(main()) == "websocket.accept"
    assert spool.names == ["Connected"]


@pytest.mark.parametrize("consumer", [SyncPage, AsyncPage])
def test_a_page_is_answered_with_the_cookie(spool, consumer):
    """The head passes through the bridge."""

    async def main():
        app = VisitorMiddleware(consumer.as_asgi(), tracker=tracker_into(spool))
        talk = ApplicationCommunicator(app, http_scope())
        await talk.send_input(REQUEST)
        answer = [await talk.receive_output(PATIENCE_S) for _ in range(2)]
        await talk.wait(PATIENCE_S)
        assert app.tracker.flush()
        return answer

    head, body = asyncio.run(main())
    assert body["body"] == b"hello"
    assert b"set-cookie" in dict(head["headers"])
    assert spool.names == ["Page"]
