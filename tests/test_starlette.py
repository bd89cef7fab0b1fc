"""The door for Starlette: how handlers, templates and sockets get the visitor."""

import jinja2
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.templating import Jinja2Templates
from starlette.testclient import TestClient
from support.spools import RecordingSpool
from support.trackers import COOKIE, tracker_into

from mixpanel_visitor.core.identity.spid_browser import signed_payload
from mixpanel_visitor.errors import NoVisitorError
from mixpanel_visitor.starlette import VisitorMiddleware, current_visitor, get_visitor, visitor_context


@pytest.fixture
def spool():
    """What the tracker has stored."""
    return RecordingSpool()


@pytest.fixture
def tracker(spool):
    """Store into `spool`, deliver nothing."""
    tracker = tracker_into(spool)
    yield tracker
    tracker.close()


@pytest.fixture
def serve(tracker):
    """Serve handlers by path under Starlette's own client, with our middleware between others."""
    clients = []

    def serve(*, outer=(), inner=(), routes=(), **handlers):
        app = Starlette(
            routes=[Route("/" + path, handler) for path, handler in handlers.items()] + list(routes),
            middleware=[*outer, Middleware(VisitorMiddleware, tracker=tracker), *inner],
        )
        client = TestClient(app)
        clients.append(client)
        return client

    yield serve
    for client in clients:
        client.close()


async def tell(request):
    """Return the visitor's ID in every way there is."""
    return JSONResponse(
        {
            "state": request.state.visitor_id,
            "state.visitor": request.state.visitor.id,
            "get_visitor": get_visitor(request).id,
            "proxy": current_visitor.id,
        }
    )


def tell_in_a_thread(request):
    """Return the visitor's ID from a sync handler."""
    return PlainTextResponse(f"{request.state.visitor_id} {current_visitor.id}")


def test_every_way_to_the_visitor_gives_the_same(serve):
    """The request's state, the accessor and the proxy speak of one visitor."""
    assert len(set(serve(tell=tell).get("/tell").json().values())) == 1


def test_starlettes_own_client_keeps_the_cookie(serve):
    """Over http://testserver the visitor comes back; another client is somebody else."""
    client = serve(tell=tell)
    first, second = client.get("/tell"), client.get("/tell")
    assert first.json() == second.json()
    assert (len(first.headers.get_list("set-cookie")), second.headers.get_list("set-cookie")) == (1, [])
    assert serve(tell=tell).get("/tell").json() != first.json()


def test_over_https_the_cookie_is_prefixed_and_kept(serve):
    """The scheme decides about the name; the client keeps that as well."""
    client = serve(tell=tell)
    first, second = (client.get("https://testserver/tell") for _ in range(2))
    assert first.headers["set-cookie"].startswith(f"__Host-{COOKIE}=")
    assert first.json() == second.json()


def test_a_sync_handler_in_the_threadpool_has_the_visitor(serve):
    """The context goes along into the thread."""
    state, proxy = serve(tell=tell_in_a_thread).get("/tell").text.split()
    assert state == proxy


def test_what_a_thread_does_to_the_visitor_is_seen(serve, spool):
    """Log-in and events in a sync handler count for the request: the visitor travels by reference."""

    def login(request):
        current_visitor.identify("user-42")
        current_visitor.track("Logged in")
        return PlainTextResponse("hello")

    client = serve(login=login, tell=tell)
    assert "set-cookie" in client.get("/login").headers
    (event,) = spool.events
    assert event["properties"]["$user_id"] == "user-42"
    assert client.get("/tell").json()["state"] == event["properties"]["$device_id"]


def test_background_tasks_may_track(serve, spool, tracker):
    """They run after the response, in the loop and in threads, and their events are stored."""

    async def in_the_loop():
        current_visitor.track("In the loop")

    def in_a_thread():
        current_visitor.track("In a thread")

    async def handler(request):
        tasks = BackgroundTasks([BackgroundTask(in_the_loop), BackgroundTask(in_a_thread)])
        return PlainTextResponse("hello", background=tasks)

    serve(handler=handler).get("/handler")
    assert tracker.flush()
    assert spool.names == ["In the loop", "In a thread"]


def test_a_response_object_for_two_visitors_has_two_cookies(serve):
    """Starlette sends the response's own list of headers; it must not keep the first visitor's cookie."""
    page = PlainTextResponse("hello")

    async def handler(request):
        return page

    client = serve(handler=handler)
    cookies = []
    for _ in range(2):
        client.cookies.clear()
        cookies.append(client.get("/handler").headers.get_list("set-cookie"))
    assert [len(values) for values in cookies] == [1, 1]
    assert cookies[0] != cookies[1]
    assert "set-cookie" not in page.headers


class Passing(BaseHTTPMiddleware):
    """Runs the application in another task and in other streams, as many middlewares do."""

    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-visitor"] = getattr(request.state, "visitor_id", "nobody")
        return response


@pytest.mark.parametrize("place", ["outer", "inner"])
def test_it_works_above_and_below_a_base_http_middleware(serve, spool, tracker, place):
    """The visitor, its events and its cookie are the same; an outer one can read the visitor as well."""

    async def handler(request):
        current_visitor.track("Page")
        return PlainTextResponse(request.state.visitor_id)

    client = serve(handler=handler, **{place: [Middleware(Passing)]})
    first, second = client.get("/handler"), client.get("/handler")
    assert first.text == second.text == first.headers["x-visitor"]
    assert tracker.flush()
    assert spool.names == ["Page", "Page"]


def test_a_mounted_application_has_the_same_visitor(serve):
    """Mounts change the path, not the visitor."""
    client = serve(tell=tell, routes=[Mount("/below", routes=[Route("/tell", tell)])])
    assert client.get("/tell").json() == client.get("/below/tell").json()


def test_added_twice_it_does_nothing_twice(serve, spool, tracker):
    """One cookie, each event once."""

    async def handler(request):
        request.state.visitor.track("Page")
        return PlainTextResponse("hello")

    client = serve(handler=handler, inner=[Middleware(VisitorMiddleware, tracker=tracker)])
    assert len(client.get("/handler").headers.get_list("set-cookie")) == 1
    assert spool.names == ["Page"]


def test_templates_have_the_visitor(serve):
    """`visitor_context` is a context processor for Jinja2Templates."""
    loader = jinja2.DictLoader({"page": "{{ visitor_id }} {{ visitor.id }} {{ title }}"})
    templates = Jinja2Templates(
        env=jinja2.Environment(loader=loader, autoescape=True), context_processors=[visitor_context]
    )

    async def page(request):
        return templates.TemplateResponse(request, "page", {"title": "Hello"})

    client = serve(page=page, tell=tell)
    visitor_id = client.get("/tell").json()["state"]
    assert client.get("/page").text == f"{visitor_id} {visitor_id} Hello"


def test_templates_sign_traits_for_spid():
    """The text stands in a script as it is."""
    settings = {"token": "t", "secret_key": "a-key-of-some-length", "spid_sign_secret": "s"}
    page = jinja2.Environment(autoescape=True).from_string(
        "VGS.setTraits('{{ sign_traits({'Plan': 'pro'}) }}')"
    )
    app = Starlette(
        routes=[Route("/", lambda request: PlainTextResponse(page.render(visitor_context(request))))]
    )
    app.add_middleware(VisitorMiddleware, **settings, spool="memory:", deliver=False)
    text = TestClient(app).get("/").text
    assert signed_payload(text.removeprefix("VGS.setTraits('").removesuffix("')"), "s")["Plan"] == "pro"


def test_without_the_middleware_the_accessor_says_what_to_do():
    """Whoever forgot the middleware learns its name."""
    with pytest.raises(NoVisitorError, match="VisitorMiddleware"):
        get_visitor(Request({"type": "http", "headers": []}))


async def socket(websocket):
    """Track, and give the visitor's ID in every way there is."""
    await websocket.accept()
    get_visitor(websocket).track("Connected")
    await websocket.send_json([websocket.state.visitor_id, get_visitor(websocket).id, current_visitor.id])
    await websocket.close()


def test_a_socket_has_the_pages_visitor(serve, spool, tracker):
    """The cookie of the page identifies the socket's visitor."""
    client = serve(tell=tell, routes=[WebSocketRoute("/socket", socket)])
    visitor_id = client.get("/tell").json()["state"]
    with client.websocket_connect("/socket") as session:
        assert session.receive_json() == [visitor_id] * 3
    assert tracker.flush()
    assert [event["properties"]["$device_id"] for event in spool.events] == [visitor_id]


def test_a_new_visitors_socket_sets_the_cookie(serve):
    """Where the socket comes first, its accept carries the cookie."""
    client = serve(routes=[WebSocketRoute("/socket", socket)])
    with client.websocket_connect("/socket") as session:
        session.receive_json()
        names = [value for name, value in session.extra_headers if name == b"set-cookie"]
    assert len(names) == 1
    assert names[0].startswith(f"{COOKIE}=".encode())


def test_an_exception_passes_and_keeps_the_events(serve, spool):
    """Starlette's error handling is outside of us and sees the very exception."""
    problem = RuntimeError("of the handler")

    async def handler(request) -> Response:
        request.state.visitor.track("Failing")
        raise problem

    with pytest.raises(RuntimeError) as caught:
        serve(handler=handler).get("/handler")
    assert caught.value is problem
    assert spool.names == ["Failing"]


def test_wrapping_the_whole_application_covers_the_error_page(tracker):
    """From outside, the answer to an exception that nobody caught carries the cookie as well."""

    async def handler(request) -> Response:
        raise RuntimeError("of the handler")

    app = VisitorMiddleware(Starlette(routes=[Route("/", handler)]), tracker=tracker)
    seen = TestClient(app, raise_server_exceptions=False).get("/")
    assert seen.status_code == 500
    assert seen.headers["set-cookie"].startswith(f"{COOKIE}=")
