"""`durability="delivered"` under Django: the response waits until Mixpanel has what the view has tracked."""

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from support.inbox import Inbox
from support.waiting import PATIENCE_S

from mixpanel_visitor.django import VisitorMiddleware, get_tracker
from mixpanel_visitor.emulator import LocalMixpanel


@pytest.fixture
def inbox(changed):
    """What has arrived at the local Mixpanel to which the site's events go."""
    with LocalMixpanel() as mixpanel:
        changed(
            MIXPANEL_API_HOST=mixpanel.url,
            MIXPANEL_VISITOR_DELIVER=True,
            MIXPANEL_VISITOR_DURABILITY="delivered",
            MIXPANEL_VISITOR_DELIVERY_TIMEOUT_S=PATIENCE_S,
        )
        yield Inbox(mixpanel.url)


def names(inbox):
    """The names of the events that have arrived."""
    return [event["event"] for event in inbox.events()]


def test_a_view_waits(inbox):
    """When the middleware returns the response, the event has been acknowledged."""

    def view(request):
        request.visitor.track("View")
        return HttpResponse("hello")

    response = VisitorMiddleware(view)(RequestFactory().get("/"))
    assert names(inbox) == ["View"]
    assert get_tracker().stats()["delivered"] == 1
    response.close()


def test_an_async_view_waits(inbox):
    """In a thread, so that the loop goes on."""

    async def view(request):
        request.visitor.track("View")
        return HttpResponse("hello")

    response = async_to_sync(VisitorMiddleware(view))(AsyncRequestFactory().get("/"))
    assert names(inbox) == ["View"]
    response.close()


def test_a_stream_waits_before_each_part(inbox):
    """Any part may be the last that the client needs."""

    def view(request):
        def parts():
            for number in (1, 2):
                request.visitor.track(f"Part {number}")
                yield b"part"

        return StreamingHttpResponse(parts())

    response = VisitorMiddleware(view)(RequestFactory().get("/"))
    assert [names(inbox) for _ in response] == [["Part 1"], ["Part 1", "Part 2"]]
    response.close()


def test_an_async_stream_waits_before_each_part(inbox):
    """The same, without blocking the loop."""

    async def view(request):
        async def parts():
            for number in (1, 2):
                request.visitor.track(f"Part {number}")
                yield b"part"

        return StreamingHttpResponse(parts())

    async def main():
        response = await VisitorMiddleware(view)(AsyncRequestFactory().get("/"))
        arrived = [names(inbox) async for _ in response]
        response.close()
        return arrived

    assert async_to_sync(main)() == [["Part 1"], ["Part 1", "Part 2"]]
