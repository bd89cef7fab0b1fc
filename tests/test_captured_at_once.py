"""What is tracked is there for tests and for `flush` at once, whether or not the response is read."""

import asyncio
import gc
import re
import warnings
from pathlib import Path
from urllib.parse import parse_qs

import django.http
import django.test
import django.urls
import fastapi
import flask
import httpx2
import pytest
import werkzeug.test
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support import django_site  # noqa: F401  # configures Django
from support.spools import RecordingSpool
from support.trackers import tracker_into
from support.wsgi_driver import Starter, environ_of

from mixpanel_visitor import Tracker, asgi, current_visitor, wsgi
from mixpanel_visitor.core.exchange import Exchange
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.starlette import VisitorMiddleware
from mixpanel_visitor.testing import capture_events

SETTINGS = {"token": "testing", "secret_key": "a-key-of-some-length", "spool": "memory:", "deliver": False}
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)


# --- one application in each framework ------------------------------------------------------------


def track_sign_up(form):
    """Track what the README's example looks for."""
    current_visitor.track("Signed up", plan=form["plan"], coupon="SPRING")
    current_visitor.track("Welcomed")
    return "hello"


def flask_application():
    """Build the Flask application."""
    app = flask.Flask("testing")
    app.secret_key = SETTINGS["secret_key"]
    MixpanelVisitor(app, **SETTINGS)
    app.post("/signup")(lambda: track_sign_up(flask.request.form))
    return app


async def sign_up(request: fastapi.Request) -> PlainTextResponse:
    """Sign up in Starlette and in FastAPI."""
    form = {name: value for name, (value,) in parse_qs((await request.body()).decode()).items()}
    return PlainTextResponse(track_sign_up(form))


def starlette_application():
    """Build the Starlette application."""
    app = Starlette(routes=[Route("/signup", sign_up, methods=["POST"])])
    app.add_middleware(VisitorMiddleware, **SETTINGS)
    return app


def fastapi_application():
    """Build the FastAPI application."""
    app = fastapi.FastAPI()
    app.add_middleware(VisitorMiddleware, **SETTINGS)
    app.post("/signup")(sign_up)
    return app


def django_application():
    """Build what a Django project has in its wsgi.py."""
    from django.core.wsgi import get_wsgi_application

    def view(request):
        return django.http.HttpResponse(track_sign_up(request.POST))

    class Urls:
        urlpatterns = (django.urls.path("signup", view),)

    application = get_wsgi_application()

    def with_urls(environ, start_response):
        # Each test has its own views, and Django one setting for the process.
        with django.test.override_settings(ROOT_URLCONF=Urls):
            return application(environ, start_response)

    return wsgi.VisitorMiddleware(with_urls, **SETTINGS)


def browsing(app):
    """Put a browser's name into the requests of a client that has no headers of its own."""
    return lambda environ, start_response: app({**environ, "HTTP_USER_AGENT": CHROME}, start_response)


def werkzeug_client(app):
    """Build werkzeug's client, which neither reads nor closes a body by itself."""
    return werkzeug.test.Client(browsing(app))


def flask_client(app):
    """Build Flask's client, as `app.test_client()` gives it."""
    client = app.test_client()
    client.environ_base["HTTP_USER_AGENT"] = CHROME
    return client


def starlette_client(app):
    """Build Starlette's client, which FastAPI has as well."""
    return TestClient(app, headers={"user-agent": CHROME})


FRAMEWORKS = {
    "flask": (flask_application, flask_client),
    "starlette": (starlette_application, starlette_client),
    "fastapi": (fastapi_application, starlette_client),
    "django": (django_application, werkzeug_client),
}


@pytest.fixture(params=FRAMEWORKS)
def client(request):
    """A test client of an application that signs people up."""
    build, client_of = FRAMEWORKS[request.param]
    return client_of(build())


def test_the_readmes_own_example_runs(client, mixpanel_events):
    """Verbatim, under each framework, and it reads nothing of the answers."""
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (example,) = re.findall(
        r"```python\n(def test_sign_up\(client, mixpanel_events\):\n.*?)```", readme, re.DOTALL
    )
    names = {}
    exec(example, names)
    names["test_sign_up"](client, mixpanel_events)


# --- every client -----------------------------------------------------------------------------------


def page(environ, start_response):
    """Answer in two parts, and track before, between and after them."""
    visitor = environ[wsgi.VISITOR_KEY]
    visitor.track("Asked")
    start_response("200 OK", [("Content-Type", "text/plain")])

    def parts():
        visitor.track("First part")
        yield b"one"
        visitor.track("Second part")
        yield b"two"
        visitor.track("Read")

    return parts()


async def async_page(scope, receive, send):
    """Response, and track before and after."""
    scope["state"]["visitor"].track("Asked")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
    scope["state"]["visitor"].track("Answered")


def ask_werkzeug(tracker):
    """Ask with werkzeug's client, unbuffered."""
    return werkzeug.test.Client(wsgi.VisitorMiddleware(page, tracker=tracker)).get("/", buffered=False)


def ask_webtest(tracker):
    """Ask with webtest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on Python 3.11 it imports cgi
        import webtest
    return webtest.TestApp(wsgi.VisitorMiddleware(page, tracker=tracker)).get("/")


def ask_starlette(tracker):
    """Ask with Starlette's client."""
    return TestClient(asgi.VisitorMiddleware(async_page, tracker=tracker)).get("/")


def ask_httpx(tracker):
    """Ask with the transport of httpx."""

    async def ask():
        transport = httpx2.ASGITransport(asgi.VisitorMiddleware(async_page, tracker=tracker))
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.get("/")

    return asyncio.run(ask())


CLIENTS = {
    "werkzeug": (ask_werkzeug, ["Asked", "First part"]),
    "webtest": (ask_webtest, ["Asked", "First part", "Second part", "Read"]),
    "starlette": (ask_starlette, ["Asked", "Answered"]),
    "httpx": (ask_httpx, ["Asked", "Answered"]),
}


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


@pytest.mark.parametrize("name", CLIENTS)
def test_events_are_seen_with_every_client(tracker, mixpanel_events, name):
    """As soon as the call has returned, with whatever the application's code has tracked by then."""
    ask, expected = CLIENTS[name]
    answer = ask(tracker)
    assert mixpanel_events.names == expected
    assert answer.status_code if hasattr(answer, "status_code") else answer.status


@pytest.mark.parametrize("name", CLIENTS)
def test_flush_sees_what_open_responses_hold(tracker, spool, name):
    """Without a capture, for tests with a local Mixpanel and for whoever flushes while others are served."""
    ask, expected = CLIENTS[name]
    answer = ask(tracker)
    assert tracker.flush()
    assert spool.names == expected
    del answer


def test_what_is_read_later_is_seen_once_more(tracker, mixpanel_events):
    """Nothing is lost and nothing comes twice where the body is read after all."""
    answer = ask_werkzeug(tracker)
    assert len(mixpanel_events) == 2
    assert answer.data == b"onetwo"
    assert mixpanel_events.names == ["Asked", "First part", "Second part", "Read"]


def test_a_closed_response_is_seen(tracker, mixpanel_events):
    """Closing is as good as reading."""
    ask_werkzeug(tracker).close()
    assert mixpanel_events.names == ["Asked", "First part"]


def test_what_is_not_tracked_is_not_seen_either(tracker, mixpanel_events):
    """`assert_not_tracked` fails on what an unread response holds."""
    answer = ask_werkzeug(tracker)
    with pytest.raises(AssertionError, match="was tracked"):
        mixpanel_events.assert_not_tracked("Asked")
    del answer


def test_a_profile_of_an_unread_response_is_seen(tracker, mixpanel_events):
    """Updates are, as events are."""

    def app(environ, start_response):
        environ[wsgi.VISITOR_KEY].people_set({"plan": "pro"})
        start_response("200 OK", [])
        return iter([b"hello"])

    answer = werkzeug.test.Client(wsgi.VisitorMiddleware(app, tracker=tracker)).get("/")
    assert [update.message["$set"] for update in mixpanel_events.updates] == [{"plan": "pro"}]
    del answer


def test_events_are_seen_after_the_block(tracker):
    """The capture ends with what was tracked within it, though the response is still open."""
    with capture_events() as events:
        answer = ask_werkzeug(tracker)
    assert events.names == ["Asked", "First part"]
    del answer


def test_an_earlier_tests_response_is_not_seen(tracker, spool):
    """What was tracked before the capture goes where it would have gone."""
    answer = ask_werkzeug(tracker)
    with capture_events() as events:
        assert events.names == []
    assert spool.names == ["Asked", "First part"]
    del answer


def test_an_earlier_tests_event_that_waits_for_its_thread_is_not_seen(tracker, spool):
    """ASGI's events are stored a moment later, by a thread; that moment may be over in the next test."""
    for _ in range(20):
        ask_starlette(tracker)
        with capture_events() as events:
            assert events.names == []
    assert spool.names == ["Asked", "Answered"] * 20


def test_clear_forgets_what_is_held(tracker, mixpanel_events):
    """What an unread response holds counts as tracked before."""
    answer = ask_werkzeug(tracker)
    mixpanel_events.clear()
    assert mixpanel_events.names == []
    del answer


def test_after_request_and_teardown_are_seen(mixpanel_events):
    """Flask's functions that run when the view has returned may track."""
    app = flask.Flask("testing")
    MixpanelVisitor(app, **SETTINGS)

    @app.get("/")
    def view():
        @flask.after_this_request
        def after(response):
            current_visitor.track("After")
            return response

        return "hello"

    app.teardown_request(lambda error: current_visitor.track("Teardown"))
    app.test_client().get("/")
    assert mixpanel_events.names == ["After", "Teardown"]


# --- jobs, and what cannot leave yet ----------------------------------------------------------------


def test_a_jobs_events_are_seen_within_its_block(tracker, mixpanel_events):
    """They are stored together at the block's end, and seen before."""
    with tracker.visitor("user-42") as visitor:
        visitor.track("Paid")
        assert mixpanel_events.names == ["Paid"]
        visitor.track("Mailed")
    assert mixpanel_events.names == ["Paid", "Mailed"]


def test_flush_within_a_jobs_block_stores_its_events(tracker, spool):
    """True means that everything so far has arrived."""
    with tracker.visitor("user-42") as visitor:
        visitor.track("Paid")
        assert tracker.flush()
        assert spool.names == ["Paid"]


def test_an_opt_out_in_a_job_is_counted(tracker, spool):
    """What it drops is refused, and nothing stays open for ever."""
    with tracker.visitor("user-42") as visitor:
        visitor.track("Paid")
        visitor.opt_out()
    stats = tracker.stats()
    assert (stats["refused"], stats["pending"], spool.names) == ({"consent_denied": 1}, 0, [])


def test_flush_is_false_where_an_event_waits_for_its_head(tracker, spool):
    """Whose events they are is decided by the head of the response; until then they cannot be stored."""
    seen = []

    def app(environ, start_response):
        environ[wsgi.VISITOR_KEY].track("Asked")
        seen.append((tracker.flush(), list(spool.names)))
        start_response("200 OK", [])
        seen.append((tracker.flush(), list(spool.names)))
        return [b"hello"]

    wsgi.VisitorMiddleware(app, tracker=tracker)(environ_of(), Starter())
    assert seen == [(False, []), (True, ["Asked"])]


def test_close_stores_what_open_responses_hold(tracker, spool):
    """At the end of a process as well."""
    answer = ask_werkzeug(tracker)
    tracker.close()
    assert spool.names == ["Asked", "First part"]
    del answer


# --- bodies that nobody closes ------------------------------------------------------------------------


def served(tracker, body, parts):
    """Serve so many parts of a body, and drop it without `close`, against PEP 3333."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return body(environ[wsgi.VISITOR_KEY])

    iterator = iter(wsgi.VisitorMiddleware(app, tracker=tracker)(environ_of(), Starter()))
    for _ in range(parts):
        next(iterator)


def tracking_parts(visitor):
    """Track in each part, and when the generator is closed."""
    try:
        for number in range(5):
            visitor.track(f"Part {number}")
            yield b"part"
    finally:
        visitor.track("Closed")


class Sized:
    """A body that knows its number of parts."""

    def __init__(self, visitor):
        self._visitor = visitor

    def __len__(self):
        return 1

    def __iter__(self):
        self._visitor.track("Iterated")
        return iter([b"part"])


@pytest.mark.parametrize(
    ("body", "parts", "names"),
    [
        (tracking_parts, 3, ["Part 0", "Part 1", "Part 2", "Closed"]),
        (tracking_parts, 0, []),
        (Sized, 1, ["Iterated"]),
    ],
)
def test_a_dropped_body_keeps_its_events(tracker, spool, body, parts, names):
    """The finalizer ends the request, and what the generator tracks when it ends is stored as well."""
    served(tracker, body, parts)
    gc.collect()
    assert spool.names == names
    assert tracker.stats()["buffered"] == 0


def test_a_body_in_a_cycle_keeps_its_events(tracker, spool):
    """The garbage collector finds it."""
    cycle = []

    def app(environ, start_response):
        environ[wsgi.VISITOR_KEY].track("Asked")
        start_response("200 OK", [])
        return (part for part in [b"hello"])

    cycle += [wsgi.VisitorMiddleware(app, tracker=tracker)(environ_of(), Starter()), cycle]
    del cycle
    gc.collect()
    assert tracker.flush()
    assert spool.names == ["Asked"]


def test_nothing_is_kept_of_requests_that_are_over(tracker):
    """What is looked up for tests and for `flush` does not grow with the requests."""

    def alive():
        gc.collect()
        return sum(type(each) is Exchange for each in gc.get_objects())

    before = alive()
    for _ in range(20):
        served(tracker, tracking_parts, 1)
        ask_webtest(tracker)
    assert alive() <= before


def test_the_local_mixpanel_has_what_an_unread_response_tracked(live_mixpanel, monkeypatch):
    """`flush` is True, and it is there."""
    monkeypatch.delenv("MIXPANEL_TOKEN", raising=False)
    tracker = Tracker(token="testing", secret_key=SETTINGS["secret_key"])
    answer = ask_werkzeug(tracker)
    assert tracker.flush(10)
    assert [event.name for event in live_mixpanel.store.events()] == ["Asked", "First part"]
    del answer
    tracker.close()
