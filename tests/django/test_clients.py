"""What Django's tests have: LiveServerTestCase, SimpleTestCase with its clients; async streams."""

import asyncio
import json
import urllib.request

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, LiveServerTestCase, SimpleTestCase, override_settings
from django.urls import path
from support.django_site import MIDDLEWARE, urls_of

from mixpanel_visitor import current_visitor


def page(request):
    """Track, and answer with the ID."""
    request.visitor.track("Page")
    return HttpResponse(json.dumps(request.visitor_id), content_type="application/json")


SETTINGS = {
    "MIDDLEWARE": [MIDDLEWARE],
    "ROOT_URLCONF": urls_of(path("page/", page)),
    "STATIC_URL": "/static/",  # a live server serves them itself
    "MEDIA_URL": "/media/",
    "MIXPANEL_TOKEN": "django",
    "MIXPANEL_VISITOR_SPOOL": "memory:",
    "MIXPANEL_VISITOR_DELIVER": False,
}


class _WithEvents:
    @pytest.fixture(autouse=True)
    def _events(self, mixpanel_events):
        self.events = mixpanel_events


@override_settings(**SETTINGS)
class TestLiveServer(_WithEvents, LiveServerTestCase):
    """A server in a thread of the test's process."""

    databases = ()

    def test_a_browser_of_its_own(self):
        """Is a visitor with a cookie, and what the view tracks is captured."""
        request = urllib.request.Request(
            f"{self.live_server_url}/page/", headers={"User-Agent": "Mozilla/5.0"}
        )
        with urllib.request.urlopen(request) as answer:
            visitor_id = json.load(answer)
            assert any(value.startswith("mpv_") for value in answer.headers.get_all("Set-Cookie"))
        self.events.of(visitor_id).assert_tracked("Page")


@override_settings(**SETTINGS)
class TestTestCase(_WithEvents, SimpleTestCase):
    """Django's classes for tests, with the client that they bring."""

    def test_the_client(self):
        """Has a visitor."""
        visitor_id = self.client.get("/page/").json()
        self.events.of(visitor_id).assert_tracked("Page")

    async def test_the_async_client(self):
        """As well."""
        visitor_id = (await self.async_client.get("/page/")).json()
        self.events.of(visitor_id).assert_tracked("Page")


def test_an_async_stream_that_is_left(urls, mixpanel_events):
    """What it tracked is there when the response is closed, and nobody is the current visitor."""

    async def parts():
        while True:
            current_visitor.track("Part")
            yield b"part"

    async def view(_request):
        return StreamingHttpResponse(parts())

    async def read_one():
        answer = await AsyncClient().get("/page/")
        stream = aiter(answer)
        part = await anext(stream)
        await stream.aclose()
        answer.close()
        return part, bool(current_visitor)

    urls(page=view)
    assert asyncio.run(read_one()) == (b"part", False)
    assert set(mixpanel_events.names) == {"Part"}


class _Nosy:
    def __bool__(self):
        raise AssertionError("it was asked for")

    __str__ = __getattr__ = __bool__


def put_user(get_response):
    """Put a user into each request who must not be looked at."""

    def put(request):
        request.user = _Nosy()
        return get_response(request)

    async def put_async(request):
        request.user = _Nosy()
        return await get_response(request)

    return markcoroutinefunction(put_async) if iscoroutinefunction(get_response) else put


put_user.sync_capable = put_user.async_capable = True


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_nobody_asks_for_the_user(urls, changed, mixpanel_events, kind):
    """`request.user` would cost a query, and refuse in async code."""

    async def view(request):
        request.visitor.track("Page")
        return HttpResponse(request.visitor_id)

    async def ask():
        return await AsyncClient().get("/page/")

    changed(MIDDLEWARE=[f"{__name__}.put_user", MIDDLEWARE])
    urls(page=view)
    answer = Client().get("/page/") if kind is Client else asyncio.run(ask())
    mixpanel_events.of(answer.content.decode()).assert_tracked("Page")
