"""What a request costs with us, and with a session cookie: `python tests/benchmarks/middlewares.py`.

Callables in one process, no sockets. Starlette, FastAPI, Flask and Django applications that say hello: alone,
with our middleware, with the framework's own session. Batches come in a shuffled order, each between two
batches of the application alone; the figure is the median of the differences, in microseconds of processor
time for each request, with its quartiles. The ratios are what counts: the goals are those of the last column.
Not collected by pytest, because timing never fails a test; exit code 1 where a goal is missed. In the
environment that `python tests/benchmarks/peers requests` makes, PostHog's and Sentry's middlewares are
measured as well.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
from io import BytesIO
from itertools import count, cycle, repeat
from pathlib import Path
from time import process_time, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import django
import flask
import itsdangerous
from django.conf import settings
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.trackers import COOKIE, NOW_S, SECRET_KEY, TOKEN, known

from mixpanel_visitor.core.identity.mixpanel_browser import quoted_identity
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.django import site as django_site
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.starlette import VisitorMiddleware
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable

REQUESTS = 300
SETTLE_S = 0.02
MANY_VISITORS = 5_000
"""More than are remembered."""
DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
EVENT = {
    "plan": "pro",
    "seats": 3,
    "price": 9.5,
    "trial": False,
    "country": "NO",
    "step": 2,
    "from": "menu",
    "a": "b",
}
SESSION = {"user": 42, "flash": "saved"}
DJANGO_SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
DJANGO_OURS = "mixpanel_visitor.django.VisitorMiddleware"


def cookies(*more: str, device: str = DEVICE, issued_at_s: float = NOW_S) -> str:
    """The Cookie header of a known visitor of a site that has cookies of its own."""
    sdk = f"mp_{TOKEN}_mixpanel={quoted_identity(device)}"
    own = ["theme=dark", "_ga=GA1.1.1234567890.1700000000", "csrftoken=3f2a9c", "lang=nb"]
    return "; ".join(
        [*own, known(device, sdk_confirmed=True, issued_at_s=int(issued_at_s))["cookie"], sdk, *more]
    )


def changing(cookie: str) -> Callable[[], str]:
    """One other cookie is new in each request, as one that counts page views: what most sites have."""
    return map(f"{cookie}; seen=".__add__, map(str, count(1_700_000_000))).__next__


def unchanging(cookie: str) -> Callable[[], str]:
    """The very same Cookie header in each request."""
    return repeat(f"{cookie}; seen=1700000000").__next__


def many_visitors(how_many: int) -> Callable[[], str]:
    """Each request is of another known visitor, whom this process has not seen before, or long ago."""
    return cycle(
        [
            cookies(f"seen={number}", device=f"{number:08x}-4d5e-4f60-8a7b-9c0d1e2f3a4b")
            for number in range(how_many)
        ]
    ).__next__


def many_pages() -> Callable[[], str]:
    """Each request is of another page."""
    return map("/goods/%d".__mod__, count()).__next__


def headers(cookie: str) -> dict[str, str]:
    """The headers that a browser sends."""
    return {
        "host": "shop.example.com",
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142",
        "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "accept-language": "nb-NO,nb;q=0.9,en;q=0.8",
        "accept-encoding": "gzip, deflate, br, zstd",
        "referer": "http://shop.example.com/",
        "connection": "keep-alive",
        "upgrade-insecure-requests": "1",
        "sec-fetch-dest": "document",
        "sec-fetch-mode": "navigate",
        "sec-fetch-site": "same-origin",
        "sec-fetch-user": "?1",
        "cache-control": "max-age=0",
        **({"cookie": cookie} if cookie else {}),
    }


def tracker(**settings: Any) -> Tracker:
    """Stores in memory and sends nothing."""
    return Tracker(
        **settings,
        token=TOKEN,
        secret_key=SECRET_KEY,
        spool="memory:",
        deliver=False,
        dependencies=Dependencies(clock=lambda: NOW_S, spool=MemorySpool(2**34)),
    )


# --- ASGI ------------------------------------------------------------------------------------------


def starlette(
    *middleware: Middleware,
    events: int = 0,
    use: str = "",
    track: Callable[[dict[str, Any]], object] | None = None,
) -> Any:
    """A Starlette application that says hello, and tracks, reads or writes a session before.

    `track`: how another library does that.
    """

    async def hello(request: Any) -> PlainTextResponse:
        if use == "read":
            request.session.get("user")
        elif use == "write":
            request.session["user"] = 42
        for _ in range(events):
            if track is None:
                request.state.visitor.track("Seen", EVENT)
            else:
                track(EVENT)
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/{page:path}", hello)], middleware=list(middleware))


def fastapi_app(*middleware: Middleware, use: str = "") -> Any:
    """The same with FastAPI, whose sessions are Starlette's."""
    app = FastAPI(middleware=list(middleware))

    @app.get("/", response_class=PlainTextResponse)
    async def hello(request: Request) -> str:
        if use == "read":
            request.session.get("user")
        return "hello"

    return app


def asgi(
    app: Any, cookies: Callable[[], str], *, pages: Callable[[], str] = lambda: "/", settle_s: float = 0.0
) -> Callable[[], float]:
    """Make a batch of requests; it gives the microseconds for each.

    `settle_s`: so long a thread may still write what was tracked. It is this batch's, not the next one's.
    """
    raw = [(name.encode(), value.encode()) for name, value in headers("").items()]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        pass

    async def requests() -> None:
        for _ in range(REQUESTS):
            page = pages()
            scope = {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "GET",
                "path": page,
                "raw_path": page.encode(),
                "root_path": "",
                "scheme": "http",
                "query_string": b"",
                "headers": [*raw, (b"cookie", cookies().encode())],
                "client": ("127.0.0.1", 50_000),
                "server": ("127.0.0.1", 80),
                "state": {},
            }
            await app(scope, receive, send)

    def batch() -> float:
        start_s = process_time()
        loop.run_until_complete(requests())
        sleep(settle_s)
        return (process_time() - start_s) / REQUESTS * 1e6

    loop = asyncio.new_event_loop()
    return batch


# --- WSGI ------------------------------------------------------------------------------------------


def flask_app(*, events: int = 0, use: str = "", ours: bool = False) -> Any:
    """The same with Flask, whose sessions need a key."""
    app = flask.Flask("hello")
    app.secret_key = SECRET_KEY if use else None
    if ours:
        MixpanelVisitor(app, tracker=tracker())

    @app.get("/")
    def hello() -> str:
        if use == "read":
            flask.session.get("user")
        for _ in range(events):
            flask.g.visitor.track("Seen", EVENT)
        return "hello"

    return app.wsgi_app


def django_app(*middleware: str) -> Any:
    """The same with Django; the session, in a signed cookie, is read where there is one."""
    with override_settings(MIDDLEWARE=list(middleware)):
        return WSGIHandler()


def django_hello(request: Any) -> HttpResponse:
    """Say hello: Django has one table of URLs for all of its handlers."""
    session = getattr(request, "session", None)
    if session is not None:
        session.get("user")
    return HttpResponse("hello", content_type="text/plain")


def set_up_django() -> None:
    """Configure Django, and give its middleware a tracker of our own making."""
    settings.configure(
        SECRET_KEY=SECRET_KEY,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=type("Urls", (), {"urlpatterns": [path("", django_hello)]}),
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    )
    django.setup()
    django_site._site = django_site.Site(tracker())


def wsgi(app: Any, cookies: Callable[[], str]) -> Callable[[], float]:
    """Make a batch of requests."""
    base = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers("").items()},
    }

    def start_response(status: str, answer: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        return lambda data: None

    def requests() -> float:
        start_s = process_time()
        for _ in range(REQUESTS):
            body = app({**base, "HTTP_COOKIE": cookies()}, start_response)
            for _ in body:
                pass
            if hasattr(body, "close"):
                body.close()
        return (process_time() - start_s) / REQUESTS * 1e6

    return requests


# --- peers -----------------------------------------------------------------------------------------


def peers() -> dict[str, Any]:
    """Return applications with PostHog's and Sentry's ASGI middlewares, where they are installed."""
    try:
        import sentry_sdk
        from posthog import Posthog
        from posthog.integrations.asgi import PosthogASGIMiddleware
        from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
    except ImportError:
        return {}
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=lambda _envelope: None,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    client = Posthog("phc_0123456789", host="http://127.0.0.1:9", send=False)
    return {
        "PostHog's": PosthogASGIMiddleware(starlette(), client=client),
        "Sentry's, errors only": SentryAsgiMiddleware(starlette()),
    }


# --- figures ---------------------------------------------------------------------------------------


class Added(NamedTuple):
    """What something adds to a request, in microseconds: the median of paired differences, and quartiles."""

    median: float
    low: float
    high: float


def measure(
    base: Callable[[], float], cases: dict[str, Callable[[], float]], rounds: int
) -> dict[str, Added]:
    """Run all in a shuffled order, each between two batches of the base."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for batch in (base, *cases.values()):
        batch()
    for _ in range(rounds):
        for name in random.sample(list(cases), len(cases)):
            before, took, after = base(), cases[name](), base()
            found[name].append(took - (before + after) / 2)
    return {
        name: Added(statistics.median(took), *statistics.quantiles(took, n=4)[::2])
        for name, took in found.items()
    }


def starlette_session(data: dict[str, Any]) -> str:
    """The cookie of Starlette's SessionMiddleware."""
    import base64
    import json

    signer = itsdangerous.TimestampSigner(SECRET_KEY)
    return "session=" + signer.sign(base64.b64encode(json.dumps(data).encode())).decode()


def flask_session(data: dict[str, Any]) -> str:
    """The cookie of Flask's session."""
    app = flask.Flask("hello")
    app.secret_key = SECRET_KEY
    serializer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    return f"session={serializer.dumps(data)}"


def django_session(data: dict[str, Any]) -> str:
    """The cookie of Django's session, signed."""
    store = SessionStore()
    store.update(data)
    store.save()
    return f"sessionid={store.session_key}"


def main() -> int:
    """Measure, print, compare with the goals."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=40)
    rounds = arguments.parse_args().rounds
    ours = Middleware(VisitorMiddleware, tracker=tracker())
    alone = Middleware(VisitorMiddleware, tracker=tracker(browser_sdk=()))
    sessions = Middleware(SessionMiddleware, secret_key=SECRET_KEY)
    with_session = cookies(starlette_session(SESSION))
    bare = cookies().partition(f"; {COOKIE}=")[0]
    others = peers()
    rows = measure(
        asgi(starlette(), changing(with_session)),
        {
            "session, read": asgi(starlette(sessions, use="read"), changing(with_session)),
            "session, written": asgi(starlette(sessions, use="write"), changing(with_session)),
            "ours, known visitor": asgi(starlette(ours), changing(cookies())),
            "ours, the very same Cookie header": asgi(starlette(ours), unchanging(cookies())),
            "ours, not seen before": asgi(starlette(ours), many_visitors(MANY_VISITORS)),
            "ours, one event": asgi(starlette(ours, events=1), changing(cookies()), settle_s=SETTLE_S),
            "ours, three events": asgi(starlette(ours, events=3), changing(cookies()), settle_s=SETTLE_S),
            "ours, new visitor": asgi(starlette(ours), changing(bare)),
            "ours, new visitor, our cookie alone": asgi(starlette(alone), changing(bare)),
            **{name: asgi(app, changing(with_session)) for name, app in others.items()},
        },
        rounds,
    )
    with_flask_session = cookies(flask_session(SESSION))
    rows |= measure(
        wsgi(flask_app(), changing(with_flask_session)),
        {
            "Flask's session, read": wsgi(flask_app(use="read"), changing(with_flask_session)),
            "ours in Flask, known visitor": wsgi(flask_app(ours=True), changing(cookies())),
        },
        rounds,
    )
    rows |= measure(
        asgi(fastapi_app(), changing(with_session)),
        {
            "session in FastAPI, read": asgi(fastapi_app(sessions, use="read"), changing(with_session)),
            "ours in FastAPI, known visitor": asgi(fastapi_app(ours), changing(cookies())),
        },
        rounds,
    )
    set_up_django()
    with_django_session = cookies(django_session(SESSION))
    rows |= measure(
        wsgi(django_app(), changing(with_django_session)),
        {
            "Django's session, read": wsgi(django_app(DJANGO_SESSIONS), changing(with_django_session)),
            "ours in Django, known visitor": wsgi(django_app(DJANGO_OURS), changing(cookies())),
        },
        rounds,
    )
    goals = [
        ("ours, the very same Cookie header", "session, read", 0.3),
        ("ours, known visitor", "session, read", 0.4),
        ("ours, known visitor", "PostHog's", 0.15),
        ("ours, known visitor", "Sentry's, errors only", 0.08),
        ("ours, new visitor", "session, written", 0.95),
        ("ours, new visitor, our cookie alone", "session, written", 1.0),
        ("ours in Flask, known visitor", "Flask's session, read", 0.18),
        ("ours in FastAPI, known visitor", "session in FastAPI, read", 0.4),
        ("ours in Django, known visitor", "Django's session, read", 0.25),
    ]
    missed = 0
    print("| | added us | quartiles |\n|---|---|---|")
    for name, added in rows.items():
        print(f"| {name} | {added.median:.2f} | {added.low:.2f} to {added.high:.2f} |")
    print("\n| | against | ratio | goal | |\n|---|---|---|---|---|")
    for name, against, goal in goals:
        if against in rows:
            ratio = rows[name].median / rows[against].median
            missed += ratio > goal
            print(f"| {name} | {against} | {ratio:.2f} | {goal} | {'missed' if ratio > goal else ''} |")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
