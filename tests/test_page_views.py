"""Page views that the server sends: for which requests, with what, and once."""

import contextlib

import flask
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH, facts
from support.spools import RecordingSpool
from support.trackers import tracker_into
from werkzeug.routing import Map, Rule
from werkzeug.test import Client as WerkzeugClient
from werkzeug.wrappers import Request as WerkzeugRequest
from werkzeug.wrappers import Response as WerkzeugResponse

from mixpanel_visitor import current_visitor
from mixpanel_visitor.core.enrichment.page_views import EVENT, PageViews, is_page
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.starlette import VisitorMiddleware
from mixpanel_visitor.wsgi import VisitorMiddleware as WSGIVisitorMiddleware

HTML = [("Content-Type", "text/html; charset=utf-8")]


def names_routes():
    """Ask whether this Starlette tells the route that it has found; older releases do not."""
    seen = []

    async def page(request):
        seen.append("route" in request.scope)
        return PlainTextResponse("")

    TestClient(Starlette(routes=[Route("/", page)])).get("/")
    return seen == [True]


NAMES_ROUTES = names_routes()


@pytest.mark.parametrize(
    ("patterns", "path", "chosen"),
    [
        (["*"], "/", True),
        (["/shop/*"], "/shop/7", True),
        (["/shop/*"], "/shop", False),
        (["/shop*", "/blog"], "/blog", True),
        (["!/admin*"], "/admin/users", False),
        (["!/admin*"], "/shop", True),
        (["/a/*", "!/a/b/*"], "/a/b/c", False),
        (["/a.b"], "/aXb", False),
        (["/*.html"], "/x/y.html", True),
    ],
)
def test_patterns_choose_paths(patterns, path, chosen):
    """A star stands for anything, a mark of exclamation excludes."""
    assert PageViews(patterns).may_come(facts(BROWSER_DOCUMENT, path=path)) is chosen


@pytest.mark.parametrize(
    ("headers", "more", "may"),
    [
        (BROWSER_DOCUMENT, {}, True),
        ({"accept": "text/html,*/*"}, {}, True),
        ({"accept": "*/*"}, {}, False),
        (BROWSER_FETCH, {}, False),
        (BROWSER_DOCUMENT, {"method": "POST"}, False),
        (BROWSER_DOCUMENT, {"method": "HEAD"}, False),
        (BROWSER_DOCUMENT, {"protocol": "websocket"}, False),
        ({**BROWSER_DOCUMENT, "sec-purpose": "prefetch"}, {}, False),
        ({"sec-fetch-dest": "iframe"}, {}, False),
    ],
)
def test_only_a_page_that_somebody_asks_for_may_be_a_view(headers, more, may):
    """What a page loads, sends or fetches ahead is none."""
    assert PageViews(["*"]).may_come(facts(headers, **more)) is may


@pytest.mark.parametrize(
    ("status", "content_type", "page"),
    [
        (200, "text/html; charset=utf-8", True),
        (200, "TEXT/HTML", True),
        (200, "application/xhtml+xml", True),
        (203, "text/html", True),
        (304, None, True),
        (200, "application/json", False),
        (200, None, False),
        (302, "text/html", False),
        (404, "text/html", False),
        (500, "text/html", False),
    ],
)
def test_only_a_page_that_is_shown_is_a_view(status, content_type, page):
    """Successful HTML; what the browser shows from its cache is a page as well."""
    headers = [] if content_type is None else [("Content-Type", content_type)]
    assert is_page(status, headers) is page


@pytest.fixture
def spool():
    return RecordingSpool()


@contextlib.contextmanager
def starlette(spool, **settings):
    """A client of a Starlette application with a page, a mounted page, data and an error."""

    async def page(request):
        return HTMLResponse("<h1>page</h1>")

    async def data(request):
        return PlainTextResponse("data")

    routes = [Route("/shoes/{number:int}", page), Route("/data", data)]
    routes.append(Mount("/blog", routes=[Route("/{slug}", page)]))
    tracker = tracker_into(spool, **{"page_views": True, **settings})
    app = Starlette(routes=routes, middleware=[Middleware(VisitorMiddleware, tracker=tracker)])
    with TestClient(app, headers={"accept": "text/html"}) as client:
        yield client
    tracker.close()


def views(spool):
    return [event["properties"] for event in spool.events if event.get("event") == EVENT]


def test_a_page_is_viewed_once(spool):
    """With the properties of the SDK's own event, the route's template, and the ID that the cookie says."""
    with starlette(spool) as client:
        answer = client.get("/shoes/7?utm_source=ad&password=x")
    (view,) = views(spool)
    assert view["current_url_path"] == "/shoes/7"
    assert view["current_url_search"] == "?utm_source=ad&password=REDACTED"
    assert view["current_domain"] == "testserver"
    assert view["current_url_protocol"] == "http:"
    assert view.get("route") == ("/shoes/{number:int}" if NAMES_ROUTES else None)
    assert view["utm_source"] == "ad"
    assert view["$device_id"] in answer.headers["set-cookie"]


def test_a_known_visitors_page_is_viewed_as_well(spool):
    """Though its answer needs no cookie; each page counts once."""
    with starlette(spool) as client:
        for _ in range(3):
            client.get("/shoes/7")
    assert len(views(spool)) == 3
    assert len({view["$device_id"] for view in views(spool)}) == 1


def test_the_template_of_a_mounted_route_is_whole(spool):
    """As the page's address is."""
    with starlette(spool) as client:
        client.get("/blog/first")
    assert [view.get("route") for view in views(spool)] == ["/blog/{slug}" if NAMES_ROUTES else None]


def test_what_is_no_page_is_not_viewed(spool):
    """Data, what is not there, a bot's visit; and nothing at all where nobody has asked for it."""
    with starlette(spool) as client:
        client.get("/data")
        client.get("/nowhere")
        client.get("/shoes/7", headers={"user-agent": "Googlebot/2.1"})
    with starlette(spool, page_views=False) as client:
        client.get("/shoes/7")
    assert views(spool) == []


def test_flask_tells_the_rule(spool):
    """The extension and its adapter need no help."""
    app = flask.Flask(__name__)
    MixpanelVisitor(app, tracker=tracker_into(spool, page_views=["/shoes/*"]))

    @app.get("/shoes/<int:number>")
    def shoe(number):
        return f"<h1>{number}</h1>"

    client = app.test_client()
    for _ in range(2):
        assert client.get("/shoes/7", headers={"accept": "text/html"}).text == "<h1>7</h1>"
    assert [view["route"] for view in views(spool)] == ["/shoes/<int:number>"] * 2


def test_a_werkzeug_application_may_note_its_rule(spool):
    """It matches URLs itself, and says by which rule where Flask does."""
    urls = Map([Rule("/shoes/<name>", endpoint="shoe")])

    @WerkzeugRequest.application
    def app(request):
        request.url_rule, _ = urls.bind_to_environ(request.environ).match(return_rule=True)
        current_visitor.track("Shoe seen")
        return WerkzeugResponse("<p>Shoe</p>", content_type="text/html")

    wrapped = WSGIVisitorMiddleware(app, tracker=tracker_into(spool, page_views=True))
    WerkzeugClient(wrapped).get("/shoes/red", headers={"Accept": "text/html"}).close()
    assert "Shoe seen" in spool.names
    assert [view["route"] for view in views(spool)] == ["/shoes/<name>"]


def test_a_bare_application_has_no_route(spool):
    """The path alone is told."""

    def app(environ, start_response):
        start_response("200 OK", HTML)
        return [b"<h1>page</h1>"]

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/page",
        "SERVER_NAME": "shop.test",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "HTTP_ACCEPT": "text/html",
        "REMOTE_ADDR": "127.0.0.1",
    }
    wrapped = WSGIVisitorMiddleware(app, tracker=tracker_into(spool, page_views=True))
    list(wrapped(environ, lambda status, headers, exc_info=None: lambda data: None))
    (view,) = views(spool)
    assert view["current_url_path"] == "/page"
    assert "route" not in view


@pytest.mark.parametrize(
    ("given", "patterns"),
    [
        (True, ("*",)),
        (False, ()),
        (None, ()),
        ("true", ("*",)),
        ("off", ()),
        ("/a/*, !/a/b", ("/a/*", "!/a/b")),
        (["/a"], ("/a",)),
    ],
)
def test_the_setting_takes_a_word_or_patterns(given, patterns):
    """In code and in the environment."""
    assert Settings(token="t", secret_key="a-key-of-some-length", page_views=given).page_views == patterns


@pytest.mark.parametrize("given", ["shop", 7, [""], ["!"]])
def test_a_pattern_that_is_no_path_is_refused(given):
    """A mistake is told at once."""
    with pytest.raises(SettingsError, match="page_views"):
        Settings(token="t", secret_key="a-key-of-some-length", page_views=given)
