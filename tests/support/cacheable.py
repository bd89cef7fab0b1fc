"""Answers that shared caches may or may not store, each at a path of its own, as Flask and as Starlette."""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flask
import starlette.responses
import uvicorn
import waitress
from starlette.applications import Starlette
from starlette.routing import Route

from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.starlette import VisitorMiddleware

from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from mixpanel_visitor.tracking.tracker import Tracker

ETAG = {"etag": '"v1"'}
MODIFIED = {"last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
EXPIRES = {"expires": "Wed, 21 Oct 2037 07:28:00 GMT"}
EXPIRED = {"expires": "Wed, 21 Oct 2015 07:28:00 GMT"}


def cc(value: str) -> dict[str, str]:
    """Return a Cache-Control header."""
    return {"cache-control": value}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `public`: shared caches may keep it, so it carries no cookie of ours."""

    headers: dict[str, str]
    status: int = 200
    public: bool = False
    session: bool = False
    """The application sets a cookie of its own."""

    def __str__(self) -> str:
        head = "; ".join(f"{name}: {value}" for name, value in self.headers.items())
        return f"{self.status} {head or 'nothing'}{' and a session' if self.session else ''}"


PERSONAL = [
    *(Answer({**headers, **validator}) for headers in (
        {}, cc("no-cache"), cc("max-age=0"), cc("max-age=0, must-revalidate"), cc("no-transform"),
        cc("proxy-revalidate"), cc("s-maxage=0"),
    ) for validator in (ETAG, MODIFIED, {**ETAG, **MODIFIED})),
    *(Answer({**cc(value), **MODIFIED}) for value in (
        "private", "no-store", "no-cache, private", 'private="x-user"', 'no-cache="x-user"',
        "must-revalidate", "stale-while-revalidate=60", "must-understand, no-store", "x-public=1", "PRIVATE",
    )),
    *(Answer(MODIFIED, status) for status in (203, 300, 301, 404, 410)),
    *(Answer({**cc("no-cache"), **MODIFIED}, status) for status in (203, 301, 404)),
    Answer({**EXPIRED, **MODIFIED}),
    Answer({"expires": "0", **MODIFIED}),
    Answer({"x-accel-expires": "0", **MODIFIED}),
    Answer({"surrogate-control": "no-store", **MODIFIED}),
    Answer({"cdn-cache-control": "max-age=0", **ETAG}),
    Answer({"edge-control": "no-store", **MODIFIED}),
    Answer({"vary": "cookie", **MODIFIED}),
    Answer({"vary": "accept-encoding", **cc("no-cache"), **ETAG}),
    Answer({**cc("no-cache"), **ETAG}, session=True),
    Answer(MODIFIED, session=True),
]  # fmt: skip
PUBLIC = [
    Answer(cc("public, max-age=60"), public=True),
    Answer(cc("max-age=60"), public=True),
    Answer(cc("max-age=0, s-maxage=60"), public=True),
    Answer({**cc("public, max-age=60, immutable"), **ETAG}, public=True),
    Answer({**cc("public, max-age=60"), **MODIFIED}, 404, public=True),
    Answer({**cc("public, max-age=60")}, 301, public=True),
    Answer(EXPIRES, public=True),
]
ACCELERATED = Answer({"x-accel-expires": "60"}, public=True)
"""Only nginx knows this; it keeps the answer."""

FOR_SOME = [
    ACCELERATED,
    Answer({"x-accel-expires": "@32503680000", **cc("private")}, public=True),
    Answer({"x-accel-expires": "@1", **cc("private"), **MODIFIED}, public=True),
    Answer({"surrogate-control": 'content="ESI/1.0"', **MODIFIED}, public=True),
    Answer({"surrogate-control": "max-age=60", **cc("private")}, public=True),
    Answer({"cdn-cache-control": "max-age=60", **cc("private")}, public=True),
    Answer({"edge-control": "cache-maxage=1h", **cc("no-cache")}, public=True),
    Answer({"edge-control": "!no-store, max-age=1d", **cc("no-store")}, public=True),
]
"""What only some caches know."""

ANSWERS = [*PERSONAL, *PUBLIC, *FOR_SOME]


class _Site:
    """Counts the answers that were made, so that one that was stored can be told from a fresh one."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def answer(self, number: int, conditions: dict[str, str]) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body; 304 where the conditions hold."""
        answer = ANSWERS[number]
        headers = {"content-type": "text/html", **answer.headers}
        if answer.session:
            headers["set-cookie"] = f"session={next(self._numbers)}"
        if answer.status == 301:
            headers["location"] = "/elsewhere"
        etag, modified = conditions.get("if-none-match"), conditions.get("if-modified-since")
        if (etag and etag == headers.get("etag")) or (modified and modified == headers.get("last-modified")):
            return 304, headers, ""
        return answer.status, headers, f"answer {next(self._numbers)}"


def flask_site(tracker: Tracker) -> Any:
    """Build the site with Flask."""
    app, site = flask.Flask(__name__), _Site()
    MixpanelVisitor(app, tracker=tracker)

    @app.get("/flask/<int:number>")
    def answer(number: int) -> flask.Response:
        conditions = {name.lower(): value for name, value in flask.request.headers.items()}
        status, headers, body = site.answer(number, conditions)
        return flask.Response(body, status, headers)

    return app


def starlette_site(tracker: Tracker) -> Any:
    """Build the site with Starlette."""
    site = _Site()

    async def answer(request: Request) -> starlette.responses.Response:
        status, headers, body = site.answer(request.path_params["number"], dict(request.headers))
        return starlette.responses.Response(body, status, headers)

    app = Starlette(routes=[Route("/starlette/{number:int}", answer)])
    app.add_middleware(VisitorMiddleware, tracker=tracker)
    return app


@contextlib.contextmanager
def serving_flask(tracker: Tracker) -> Iterator[int]:
    """Serve it with waitress; give the port."""
    server = waitress.create_server(flask_site(tracker), host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield int(server.effective_port)
    finally:
        server.trigger.pull_trigger(server.close)
        thread.join(PATIENCE_S)


@contextlib.contextmanager
def serving_starlette(tracker: Tracker) -> Iterator[int]:
    """Serve it with uvicorn; give the port."""
    config = uvicorn.Config(starlette_site(tracker), port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert wait_until(lambda: server.started, PATIENCE_S)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
