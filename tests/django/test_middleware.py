"""The middleware in Django's own clients and handlers: what a view, a visitor and Mixpanel see."""

import asyncio
import gc
import warnings

import pytest
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import re_path
from support.apps import FILE
from support.asgi_driver import call_asgi, http_scope
from support.django_site import MIDDLEWARE, build_asgi, urls_of

from mixpanel_visitor import asgi, current_visitor, wsgi
from mixpanel_visitor.django import VisitorMiddleware, get_tracker
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.tracking.visitor import Visitor

PAGE = {"sec-fetch-dest": "document", "accept": "text/html", "user-agent": "Mozilla/5.0 Chrome/142.0.0.0"}


def hello(request):
    """Track, and answer with the ID."""
    current_visitor.track("Hello")
    return HttpResponse(request.visitor_id)


async def hello_async(request):
    """Track after a pause."""
    await asyncio.sleep(0)
    current_visitor.track("Hello")
    return HttpResponse(request.visitor_id)


def ask(client, *args, **more):
    """Ask with either client."""
    answer = client.get(*args, **more)
    return asyncio.run(_awaited(answer)) if isinstance(client, AsyncClient) else answer


async def _awaited(answer):
    return await answer


@pytest.mark.parametrize("view", [hello, hello_async], ids=["sync", "async"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_test_clients_see_what_production_sees(urls, mixpanel_events, kind, view):
    """A visitor, its cookie, the same visitor again, and what the view tracked."""
    urls(hello=view)
    client = kind()
    first, second = ask(client, "/hello/"), ask(client, "/hello/")
    assert first.content == second.content
    assert [name for name in client.cookies if name.startswith("mpv_")]
    assert not second.cookies
    mixpanel_events.of(first.content.decode()).assert_tracked("Hello", times=2)


def test_the_request_has_its_visitor(urls):
    """With its ID, and `current_visitor` is the same one."""
    seen = []

    def view(request):
        seen.append((request.visitor, request.visitor_id, current_visitor == request.visitor))
        return HttpResponse()

    urls(page=view)
    Client().get("/page/")
    ((visitor, visitor_id, is_current),) = seen
    assert isinstance(visitor, Visitor)
    assert visitor_id == visitor.id
    assert is_current
    assert not current_visitor


def test_no_query_and_no_session_is_needed(urls):
    """The site has no database, and `request.user` is not there."""
    urls(hello=hello)
    assert not hasattr(Client().get("/hello/").wsgi_request, "user")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_exception_is_answered_with_the_cookie(urls, mixpanel_events, kind):
    """The answer to an exception is a response as any other; what was tracked counts for the visitor."""

    def failing(request):
        request.visitor.track("Failing")
        raise RuntimeError("in the view")

    urls(page=failing)
    answer = ask(kind(raise_request_exception=False), "/page/")
    assert answer.status_code == 500
    assert [name for name in answer.cookies if name.startswith("mpv_")]
    assert mixpanel_events.assert_tracked("Failing").distinct_id.startswith("$device:")


def test_an_exception_that_passes_through_ends_the_exchange(urls, changed, mixpanel_events):
    """With DEBUG_PROPAGATE_EXCEPTIONS there is no response; nothing is lost."""

    def failing(request):
        request.visitor.track("Failing")
        raise RuntimeError("in the view")

    urls(page=failing)
    changed(DEBUG_PROPAGATE_EXCEPTIONS=True)
    with pytest.raises(RuntimeError, match="in the view"):
        Client().get("/page/")
    assert not current_visitor
    mixpanel_events.assert_tracked("Failing")


def test_a_stream_knows_its_visitor(urls, mixpanel_events):
    """While it is read and when it is closed, long after the middleware has returned."""

    def parts():
        try:
            current_visitor.track("Part")
            yield "one"
        finally:
            current_visitor.track("Closed")

    urls(page=lambda _request: StreamingHttpResponse(parts()))
    answer = Client().get("/page/")
    assert next(iter(answer)) == b"one"
    answer.close()
    assert mixpanel_events.names == ["Part", "Closed"]
    assert len({event.distinct_id for event in mixpanel_events}) == 1
    assert not current_visitor


def test_an_async_stream_knows_its_visitor(urls, mixpanel_events):
    """Each part of it, in whatever task it is read."""

    async def parts():
        current_visitor.track("Part")
        yield "one"
        await asyncio.sleep(0)
        current_visitor.track("Part")
        yield "two"

    async def view(_request):
        return StreamingHttpResponse(parts())

    async def read():
        answer = await AsyncClient().get("/page/")
        return [part async for part in answer]

    urls(page=view)
    assert asyncio.run(read()) == [b"one", b"two"]
    assert len(mixpanel_events.find("Part")) == 2


def test_a_file_is_left_to_the_server(changed):
    """It stays a file that `wsgi.file_wrapper` can send."""
    answer = VisitorMiddleware(lambda _request: FileResponse(FILE.open("rb")))(RequestFactory().get("/"))
    assert answer.file_to_stream is not None
    assert b"".join(answer) == FILE.read_bytes()
    answer.close()


def test_a_response_that_nobody_closes(urls):
    """Its exchange ends when it is thrown away."""

    def view(request):
        request.visitor.track("Hello")
        return HttpResponse()

    request = RequestFactory().get("/")
    VisitorMiddleware(view)(request)
    gc.collect()
    assert get_tracker().stats()["buffered"] == 0


def test_request_factory_gets_a_visitor_from_the_middleware(changed, mixpanel_events):
    """Around the view alone."""
    answer = VisitorMiddleware(hello)(RequestFactory().get("/"))
    mixpanel_events.of(answer.content.decode()).assert_tracked("Hello")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_hand_over_and_its_script_are_answered(urls, kind):
    """By the middleware: there is no URL for them."""
    device = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
    urls(hello=hello_async)
    client = kind()
    script = ask(client, "/_visitor.js")
    assert (script.status_code, script["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    taken = client.post(
        "/_visitor",
        f'{{"device_id": "{device}"}}',
        content_type="application/json",
        headers={"sec-fetch-site": "same-origin"},
    )
    if kind is AsyncClient:
        taken = asyncio.run(_awaited(taken))
    assert (taken.status_code, taken.content, "Content-Type" in taken) == (204, b"", False)
    assert ask(client, "/hello/").content == device.encode()


def test_listed_twice_it_is_there_once(urls, changed, mixpanel_events):
    """One visitor, one cookie."""
    changed(MIDDLEWARE=[MIDDLEWARE, MIDDLEWARE])
    urls(hello=hello)
    answer = Client().get("/hello/")
    mixpanel_events.of(answer.content.decode()).assert_tracked("Hello", times=1)


def test_the_visitor_of_a_middleware_around_django_is_taken(urls, mixpanel_events):
    """As under Channels, where the whole router is wrapped."""
    urls(hello=hello_async)
    app = asgi.VisitorMiddleware(build_asgi(), tracker=get_tracker())
    seen = call_asgi(app, http_scope("GET", "/hello/", {}))
    assert len(seen.our_cookies) == 1
    mixpanel_events.of(seen.text).assert_tracked("Hello", times=1)
    assert wsgi.VISITOR_KEY not in http_scope()


def test_wrong_settings_stop_the_start(changed):
    """With all that is wrong, when the server loads its middleware."""
    changed(MIXPANEL_VISITOR_DURABILTY="x", MIXPANEL_REGION="mars")
    with pytest.raises(SettingsError) as caught:
        Client().handler.load_middleware()
    assert len(caught.value.problems) == 2


def test_cookies_of_one_name_all_leave(urls):
    """A log-out removes what could shadow the new one, on this host and on its domain."""

    def view(request):
        request.visitor.reset()
        return HttpResponse()

    urls(page=view)
    answer = Client().get("/page/", headers={**PAGE, "host": "www.example.com"})
    lines = [morsel.OutputString() for morsel in answer.cookies.values()]
    sdk = [line for line in lines if line.startswith("mp_django_mixpanel=")]
    assert len(sdk) == 2
    assert len([line for line in sdk if "Domain=example.com" in line]) == 1
    assert len([name for name in answer.cookies if name == "mp_django_mixpanel"]) == 1


def test_cache_control_of_the_application_stays(urls):
    """Ours is added to it."""

    def view(request):
        request.visitor.track("Hello")
        return HttpResponse(headers={"Cache-Control": "max-age=0"})

    urls(page=view)
    assert Client().get("/page/")["Cache-Control"] == "max-age=0, private"


def test_the_route_of_a_page_view(urls, changed, mixpanel_events):
    """It is the pattern of the URL, whether a path or a regular expression."""

    def page(request, **_found):
        return HttpResponse("<html>", content_type="text/html")

    urls.at({"shop/<int:number>/": page})
    changed(MIXPANEL_VISITOR_PAGE_VIEWS=True)
    Client().get("/shop/7/", headers=PAGE)
    changed(ROOT_URLCONF=urls_of(re_path(r"^old/(?P<number>\d+)/$", page)))
    Client().get("/old/7/", headers=PAGE)
    routes = [event.properties["route"] for event in mixpanel_events]
    assert routes == ["/shop/<int:number>/", r"/old/(?P<number>\d+)/"]


def test_a_path_beyond_ascii(urls, mixpanel_events):
    """Events have the URL as it was on the wire, though WSGIRequest writes another one into the environ."""
    urls(käse=hello)
    Client().get("/k%C3%A4se/", headers={**PAGE, "host": "testserver"})
    assert mixpanel_events[0].properties["$current_url"] == "http://testserver/k%C3%A4se/"


def test_the_scheme_is_djangos(urls, changed):
    """SECURE_PROXY_SSL_HEADER says that it is https: the cookie is Secure then."""
    urls(hello=hello)
    changed(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
    answer = Client().get("/hello/", headers={"x-forwarded-proto": "https"})
    (ours,) = [morsel for name, morsel in answer.cookies.items() if name.startswith("__Host-mpv_")]
    assert ours["secure"]


def test_the_host_is_djangos(urls, changed, mixpanel_events):
    """USE_X_FORWARDED_HOST: events and hand-over know the host by which the browser knows the site."""
    urls(hello=hello)
    changed(USE_X_FORWARDED_HOST=True)
    outside = {**PAGE, "host": "inside:8000", "x-forwarded-host": "shop.example.com"}
    client = Client()
    client.get("/hello/", headers=outside)
    assert mixpanel_events[0].properties["$current_url"] == "http://shop.example.com/hello/"
    answer = client.post(
        "/_visitor",
        '{"device_id": "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"}',
        content_type="application/json",
        headers={**outside, "origin": "http://shop.example.com"},
    )
    assert answer.status_code == 204


def test_before_response_stores_before_the_answer_leaves(urls, changed):
    """The event is in the spool when the view's response is there, not yet closed."""
    changed(MIXPANEL_VISITOR_DURABILITY="before-response")
    VisitorMiddleware(hello)(RequestFactory().get("/")).items()
    assert get_tracker().stats()["accepted"] == 1
    response = VisitorMiddleware(hello)(RequestFactory().get("/"))
    assert get_tracker().stats()["buffered"] == 0
    response.close()


def test_a_file_in_async_code(urls, mixpanel_events):
    """Django reads it as a whole, and warns; that is its own affair."""

    async def view(request):
        request.visitor.track("File")
        return FileResponse(FILE.open("rb"))

    urls(page=view)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = call_asgi(build_asgi(), http_scope("GET", "/page/", {}))
    assert seen.body == FILE.read_bytes()
    mixpanel_events.assert_tracked("File")
