"""Wrong settings stop the start: under each server, in each way to add the middleware to a framework."""

import contextlib
import os
import subprocess
import sys
import tempfile

import fastapi
import litestar
import pytest
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router
from starlette.testclient import TestClient
from support.asgi_driver import Conversation, http_scope, run
from support.spools import RecordingSpool
from support.trackers import tracker_into
from support.waiting import PATIENCE_S

from mixpanel_visitor.asgi import VisitorMiddleware as ASGIMiddleware
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.starlette import VisitorMiddleware

WRONG = {"token": "t", "secret_key": "a-key-of-some-length", "spool": "memory:", "regoin": "eu"}
HINT = "did you mean region?"


async def page(request):
    """Answer."""
    return PlainTextResponse("hello")


def starlette_add():
    """Add it to a Starlette application."""
    app = Starlette(routes=[Route("/", page)])
    app.add_middleware(VisitorMiddleware, **WRONG)
    return app


def starlette_list():
    """Return it with Starlette's list of middlewares, between others."""
    return Starlette(
        middleware=[Middleware(Passing), Middleware(ASGIMiddleware, **WRONG), Middleware(Passing)]
    )


def fastapi_add():
    """Add it to a FastAPI application."""
    app = fastapi.FastAPI()
    app.add_middleware(VisitorMiddleware, **WRONG)
    return app


def fastapi_tracker():
    """Return something as the tracker that is none."""
    app = fastapi.FastAPI()
    app.add_middleware(VisitorMiddleware, tracker="regoin")
    return app


class Passing:
    """Another middleware, which calls its application by a name of its own."""

    def __init__(self, app):
        self._inner = app

    async def __call__(self, scope, receive, send):
        await self._inner(scope, receive, send)


LAZY = {build.__name__: build for build in (starlette_add, starlette_list, fastapi_add, fastapi_tracker)}
"""Ways in which the framework builds the middleware when the server has started."""

EAGER = {
    "around the application": lambda: ASGIMiddleware(Starlette(), **WRONG),
    "a router's": lambda: Router(middleware=[Middleware(VisitorMiddleware, **WRONG)]),
    "a route's": lambda: Route("/", page, middleware=[Middleware(VisitorMiddleware, **WRONG)]),
    "a mount's": lambda: Mount("/a", routes=[], middleware=[Middleware(VisitorMiddleware, **WRONG)]),
    "litestar": lambda: litestar.Litestar(
        [litestar.get("/")(handler)], middleware=[DefineMiddleware(ASGIMiddleware, **WRONG)]
    ),
}
"""Ways in which it is built when the application's module is imported."""


async def handler() -> str:
    """Answer in Litestar."""
    return "hello"


@pytest.mark.parametrize("build", LAZY.values(), ids=LAZY)
def test_the_start_fails_with_the_message(build):
    """The server is told so; an exception alone it takes for an application without a lifespan."""
    sent = start(build())
    (message,) = sent
    assert message["type"] == "lifespan.startup.failed"
    assert "regoin" in message["message"]


def start(app):
    """Start an application as a server does; give what it has sent before its error."""

    async def main():
        conversation = Conversation({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, STARTUP)
        with pytest.raises((SettingsError, TypeError), match="regoin"):
            await conversation.with_app(app)
        return conversation.sent

    return run(main())


STARTUP = [{"type": "lifespan.startup"}]


@pytest.mark.parametrize("build", LAZY.values(), ids=LAZY)
def test_a_test_client_raises_it(build):
    """Whoever enters the client's block sees the very error."""
    with pytest.raises((SettingsError, TypeError), match="regoin"), TestClient(build()):
        pass


@pytest.mark.parametrize("build", LAZY.values(), ids=LAZY)
def test_without_a_lifespan_each_request_raises_it(build):
    """No request is served half, where the server has no lifespan or goes on all the same."""
    app = build()
    for _ in range(2):
        with pytest.raises((SettingsError, TypeError), match="regoin"):
            TestClient(app).get("/")


def test_after_a_failed_start_each_request_raises_it():
    """A server that goes on all the same serves nothing without visitors."""
    app = starlette_add()
    start(app)
    for _ in range(2):
        with pytest.raises(SettingsError, match="regoin"):
            run(Conversation(http_scope()).with_app(app))


@pytest.mark.parametrize("build", EAGER.values(), ids=EAGER)
def test_built_at_import_it_raises_there(build):
    """All mistakes at once, with the fix."""
    with pytest.raises(SettingsError) as caught:
        build()
    assert HINT in str(caught.value)


def test_built_in_an_applications_own_lifespan_it_raises_there():
    """Nobody would ask that middleware for its lifespan: the application's own start fails."""

    @contextlib.asynccontextmanager
    async def lifespan(app):
        ASGIMiddleware(Starlette(), **WRONG)
        yield

    with pytest.raises(SettingsError), TestClient(Starlette(lifespan=lifespan)):
        pass


def test_a_good_start_runs_the_applications_own_lifespan():
    """Start and end, with its state, are the application's as without us."""
    seen = []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            seen.append(message["type"])
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    wrapped = ASGIMiddleware(app, tracker=tracker_into(RecordingSpool()))
    conversation = Conversation({"type": "lifespan"}, [*STARTUP, {"type": "lifespan.shutdown"}])
    run(conversation.with_app(wrapped))
    assert seen == ["lifespan.startup", "lifespan.shutdown"]
    assert [message["type"] for message in conversation.sent] == [f"{kind}.complete" for kind in seen]


# --- real servers ---------------------------------------------------------------------------------

PROGRAM = """
from starlette.applications import Starlette
from fastapi import FastAPI
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware
from mixpanel_visitor.starlette import VisitorMiddleware

added = Starlette()
added.add_middleware(VisitorMiddleware)
fast = FastAPI()
fast.add_middleware(VisitorMiddleware)

@get("/")
async def hello() -> str:
    return "hello"

def lite():
    return Litestar([hello], middleware=[DefineMiddleware(VisitorMiddleware)])
"""

SERVERS = {
    "uvicorn": ["uvicorn", "--port", "0"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:0"],
    "granian": ["granian", "--interface", "asgi", "--port", "0"],
    "gunicorn": ["gunicorn", "--bind", "127.0.0.1:0", "--worker-class", "uvicorn_worker.UvicornWorker"],
}


@pytest.mark.servers
@pytest.mark.parametrize(
    ("server", "app"),
    [*((name, "added") for name in SERVERS), ("uvicorn", "fast"), ("uvicorn", "lite"), ("granian", "fast")],
)
def test_the_server_does_not_start(tmp_path, server, app):
    """It ends by itself, and the last that it says of the matter is the message."""
    (tmp_path / "shop.py").write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXPANEL_")}
    factory = ["--factory"] if app == "lite" else []
    with tempfile.TemporaryDirectory(prefix="mpv-") as home:  # short: gunicorn puts a Unix socket there
        done = subprocess.run(
            [sys.executable, "-m", *SERVERS[server], *factory, f"shop:{app}"],
            cwd=tmp_path,
            env={**environment, "HOME": home, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode != 0 or server == "hypercorn"  # which ends with 0 whatever a worker does
    assert "token" in done.stdout
    last = done.stdout[done.stdout.rindex("mistakes in the settings") :]
    assert "MIXPANEL_TOKEN" in last
    assert "Traceback" not in last
