"""A shop with mixpanel-browser on its pages, as Starlette and as Flask application.

`/`, `/tea` and any other one-word path are pages that the server tracks too. `/static` is one that caches may
keep, and that nobody tracks on the server; `/bare` has no SDK. `/api/...` and `/who` are for scripts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import flask
import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.routing import Route

from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.starlette import VisitorMiddleware, visitor_context

from . import browser_sdk
from .apps import NOBODY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from mixpanel_visitor.tracking.tracker import Tracker

HandoverScript = Literal["tag", "inline", "none"]
"""How a page has our own script: from `/_visitor.js`, by the template helper, or not at all."""

STATIC = "/static"
BARE = "/bare"
_CACHED = {"cache-control": "public, max-age=60"}
_HELPER = jinja2.Environment(autoescape=True).from_string("{{ visitor_script() }}")


@dataclass(slots=True, kw_only=True)
class Shop:
    """What the pages of one shop have in them; `base_url` is where the SDK's builds are."""

    base_url: str
    token: str
    loading: browser_sdk.Loading = "module"
    config: dict[str, Any] = field(default_factory=dict)
    snippet: HandoverScript = "none"
    extra_head: str = ""

    def page(self, path: str, helper: str) -> str:
        """Build a page; `helper` is what the template helper gave for this request."""
        ours = {"tag": '<script src="/_visitor.js"></script>', "inline": helper, "none": ""}[self.snippet]
        sdk = "" if path == BARE else self._sdk()
        return f"""<!doctype html><title>Shop {path}</title>
            <link rel="icon" href="data:,">{ours}{sdk}{self.extra_head}
            <h1>{path}</h1><a id="tea" href="/tea">Tea</a> <a id="mug" href="/mug">Mug</a>
            <form id="log-in" method="post" action="/log-in"><input name="user"><button>Log in</button></form>
            <form id="log-out" method="post" action="/log-out"><button>Log out</button></form>
            <p id="loaded"></p>"""

    def _sdk(self) -> str:
        return browser_sdk.tags(self.loading, base_url=self.base_url, token=self.token, config=self.config)


def _order(visitor: Any, item: str) -> dict[str, Any]:
    visitor.track("Ordered", item=item)
    return {"ordered": item, "visitor": visitor.id}


def _log_in(visitor: Any, user: str, *, quiet: bool = False) -> None:
    visitor.identify(user)
    if not quiet:
        visitor.track("Logged in", item=user)


def _log_out(visitor: Any, item: str) -> None:
    visitor.track("Logged out", item=item)
    visitor.reset()


# --- Starlette -------------------------------------------------------------------------------


def starlette_shop(shop: Shop, tracker: Tracker | None) -> Any:
    """Build the shop with Starlette; without a tracker our middleware is not installed (yet)."""

    def visitor_of(request: Request) -> Any:
        return getattr(request.state, "visitor", NOBODY)

    def html(request: Request, headers: Mapping[str, str] | None = None) -> Response:
        path = request.url.path
        helper = ""
        if shop.snippet == "inline":
            helper = _HELPER.render(visitor_context(request))
        return HTMLResponse(shop.page(path, helper), headers=headers)

    async def page(request: Request) -> Response:
        visitor_of(request).track("Page viewed", item=request.url.path)
        return html(request)

    async def static(request: Request) -> Response:
        return html(request, _CACHED)

    async def log_in(request: Request) -> Response:
        _log_in(visitor_of(request), (await request.body()).decode().partition("user=")[2])
        return RedirectResponse("/welcome", status_code=303)

    async def paid(request: Request) -> Response:
        visitor_of(request).track("Paid", item="back")
        return RedirectResponse("/thanks", status_code=303)

    async def log_out(request: Request) -> Response:
        _log_out(visitor_of(request), "form")
        return RedirectResponse("/goodbye", status_code=303)

    async def who(request: Request) -> Response:
        return JSONResponse({"vouched": visitor_of(request).vouched})

    async def api_order(request: Request) -> Response:
        return JSONResponse(_order(visitor_of(request), request.path_params["item"]))

    async def api_flags(request: Request) -> Response:
        return JSONResponse(dict(visitor_of(request).flags()))

    async def api_log_in(request: Request) -> Response:
        _log_in(visitor_of(request), **(await request.json()))
        return JSONResponse({})

    async def api_log_out(request: Request) -> Response:
        _log_out(visitor_of(request), "fetch")
        return JSONResponse({})

    return Starlette(
        routes=[
            Route(STATIC, static),
            Route("/log-in", log_in, methods=["POST"]),
            Route("/log-out", log_out, methods=["POST"]),
            Route("/paid", paid, methods=["POST"]),
            Route("/api/flags", api_flags),
            Route("/who", who),
            Route("/api/order/{item}", api_order, methods=["POST"]),
            Route("/api/log-in", api_log_in, methods=["POST"]),
            Route("/api/log-out", api_log_out, methods=["POST"]),
            Route("/", page),
            Route("/{page}", page),
        ],
        middleware=[Middleware(VisitorMiddleware, tracker=tracker)] if tracker is not None else [],
    )


# --- Flask -----------------------------------------------------------------------------------


def flask_shop(shop: Shop, tracker: Tracker | None) -> Any:
    """Build the shop with Flask; without a tracker our middleware is not installed (yet)."""
    app = flask.Flask(__name__)
    if tracker is not None:
        MixpanelVisitor(app, tracker=tracker)

    def visitor() -> Any:
        return flask.g.get("visitor", NOBODY)

    def html() -> str:
        helper = flask.render_template_string("{{ visitor_script() }}") if shop.snippet == "inline" else ""
        return shop.page(flask.request.path, helper)

    @app.get("/")
    @app.get("/<page>")
    def page(page: str = "") -> Any:
        visitor().track("Page viewed", item=f"/{page}")
        return html()

    @app.get(STATIC)
    def static_page() -> Any:
        return html(), _CACHED

    @app.post("/log-in")
    def log_in() -> Any:
        _log_in(visitor(), flask.request.form["user"])
        return flask.redirect("/welcome", code=303)

    @app.post("/paid")
    def paid() -> Any:
        visitor().track("Paid", item="back")
        return flask.redirect("/thanks", code=303)

    @app.post("/log-out")
    def log_out() -> Any:
        _log_out(visitor(), "form")
        return flask.redirect("/goodbye", code=303)

    @app.get("/who")
    def who() -> Any:
        return {"vouched": visitor().vouched}

    @app.post("/api/order/<item>")
    def api_order(item: str) -> Any:
        return _order(visitor(), item)

    @app.post("/api/log-in")
    def api_log_in() -> Any:
        _log_in(visitor(), **json.loads(flask.request.data))
        return {}

    @app.post("/api/log-out")
    def api_log_out() -> Any:
        _log_out(visitor(), "fetch")
        return {}

    return app.wsgi_app
