"""Channels: the whole router in the ASGI middleware, with a Django site in it that has ours as well."""

import asyncio

from asgiref.testing import ApplicationCommunicator
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from support.asgi_driver import call_asgi, http_scope, websocket_scope
from support.waiting import PATIENCE_S

from mixpanel_visitor import current_visitor
from mixpanel_visitor.asgi import VisitorMiddleware
from mixpanel_visitor.django import get_tracker


class Chat(AsyncWebsocketConsumer):
    """A socket."""

    async def connect(self):
        current_visitor.track("Connected")
        await self.accept()


def page(request):
    """A page."""
    request.visitor.track("Page")
    return HttpResponse(request.visitor_id)


async def connected(app, cookie):
    """Open the socket with the browser's cookie, and close it."""
    scope = websocket_scope(path="/chat/", headers={"cookie": cookie})
    talk = ApplicationCommunicator(app, scope)
    await talk.send_input({"type": "websocket.connect"})
    answer = await talk.receive_output(PATIENCE_S)
    await talk.send_input({"type": "websocket.disconnect", "code": 1000})
    await talk.wait(PATIENCE_S)
    return answer["type"]


def test_pages_and_sockets_have_one_visitor(urls, mixpanel_events):
    """The page's cookie is the wrapper's, there is one of it, and the socket knows it."""
    urls(page=page)
    sockets = URLRouter([path("chat/", Chat.as_asgi())])
    router = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": sockets})
    app = VisitorMiddleware(router, tracker=get_tracker())
    seen = call_asgi(app, http_scope("GET", "/page/", {}))
    (cookie,) = seen.our_cookies
    assert asyncio.run(connected(app, cookie.partition(";")[0])) == "websocket.accept"
    visitor = mixpanel_events.of(seen.text)
    visitor.assert_tracked("Page", times=1)
    visitor.assert_tracked("Connected", times=1)
