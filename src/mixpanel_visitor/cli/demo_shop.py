"""The shop of `mixpanel-visitor demo`: a small Starlette application that tracks what its visitors do."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.routing import Route

from mixpanel_visitor.starlette import VisitorMiddleware

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

PRODUCTS = {"tea": 4.5, "mug": 12.0, "kettle": 39.9}


async def front_page(request: Request) -> Response:
    """Show what there is to buy."""
    request.state.visitor.track("Page viewed", page="front")
    links = "".join(f'<li><a href="/product/{name}">{name}</a></li>' for name in PRODUCTS)
    display_name = escape(request.state.visitor.user_id or "visitor")
    return HTMLResponse(
        f"<!doctype html><title>Shop</title><h1>Hello, {display_name}</h1><ul>{links}</ul>"
        f"<p>Your visitor ID is <code>{escape(request.state.visitor_id)}</code>.</p>"
        '<form method="post" action="/login"><input name="user" value="anna"><button>Log in</button></form>'
    )


async def product(request: Request) -> Response:
    """Show one product."""
    name = request.path_params["name"]
    if name not in PRODUCTS:
        return HTMLResponse("<h1>No such product</h1>", status_code=404)
    request.state.visitor.track("Product viewed", product=name, price=PRODUCTS[name])
    return HTMLResponse(
        f"<!doctype html><title>{name}</title><h1>{name}</h1><p>{PRODUCTS[name]:.2f}</p>"
        f'<form method="post" action="/buy/{name}"><button>Buy</button></form>'
    )


async def login(request: Request) -> Response:
    """Log in; a real shop would ask for a password."""
    user = (await request.body()).decode().partition("user=")[2] or "anna"
    visitor = request.state.visitor
    visitor.identify(user)
    visitor.track("Logged in")
    visitor.people_set({"$name": user, "plan": "gold"})
    return RedirectResponse("/", status_code=303)


async def buy(request: Request) -> Response:
    """Buy a product."""
    name = request.path_params["name"]
    if name not in PRODUCTS:
        return HTMLResponse("<h1>No such product</h1>", status_code=404)
    request.state.visitor.track("Bought", product=name, amount=PRODUCTS[name])
    request.state.visitor.people_increment({"purchases": 1})
    return HTMLResponse(f"<!doctype html><title>Thanks</title><h1>Thanks for buying the {name}</h1>")


async def logout(request: Request) -> Response:
    """Log out: the next visitor on this browser is somebody new."""
    request.state.visitor.track("Logged out")
    request.state.visitor.reset()
    return RedirectResponse("/", status_code=303)


async def whoami(request: Request) -> Response:
    """Return who the visitor is, as JSON."""
    visitor = request.state.visitor
    return JSONResponse(
        {"visitor_id": visitor.id, "distinct_id": visitor.distinct_id, "user_id": visitor.user_id}
    )


app = Starlette(
    routes=[
        Route("/", front_page),
        Route("/product/{name}", product),
        Route("/buy/{name}", buy, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/whoami", whoami),
    ],
    middleware=[Middleware(VisitorMiddleware)],  # its settings come from the environment
)
