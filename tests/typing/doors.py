"""How users' code looks to type checkers in each framework: never run, only checked by mypy and pyright."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

from dramatiq.brokers.stub import StubBroker
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar, get
from quart import Quart
from starlette.middleware import Middleware
from starlette.requests import Request
from taskiq import InMemoryBroker
from werkzeug.routing import Map
from werkzeug.wrappers import Request as WerkzeugRequest
from werkzeug.wrappers import Response as WerkzeugResponse

from mixpanel_visitor import Tracker, Visitor
from mixpanel_visitor.dramatiq import VisitorMiddleware as DramatiqVisitors
from mixpanel_visitor.fastapi import CurrentVisitor, VisitorMiddleware, VisitorRequest, VisitorWebSocket
from mixpanel_visitor.flask import MixpanelVisitor as FlaskVisitors
from mixpanel_visitor.flask import current_visitor as flask_visitor
from mixpanel_visitor.flask import sign_traits, visitor_script
from mixpanel_visitor.litestar import CurrentVisitor as LitestarVisitor
from mixpanel_visitor.litestar import VisitorPlugin
from mixpanel_visitor.quart import MixpanelVisitor
from mixpanel_visitor.quart import current_visitor as quart_visitor
from mixpanel_visitor.starlette import VisitorState
from mixpanel_visitor.taskiq import VisitorMiddleware as TaskiqVisitors
from mixpanel_visitor.werkzeug import VisitorMiddleware as WerkzeugMiddleware
from mixpanel_visitor.werkzeug import get_visitor as werkzeug_visitor

api = FastAPI()
api.add_middleware(VisitorMiddleware, token="t", secret_key="s")
api.add_middleware(VisitorMiddleware, tokn="t")  # type: ignore[call-arg]
api.add_middleware(VisitorMiddleware, region="europe")  # type: ignore[arg-type]
FastAPI(middleware=[Middleware(VisitorMiddleware, secret_key="s", regoin="eu")])  # type: ignore[call-arg]


@api.get("/")
async def fastapi_handler(visitor: CurrentVisitor, request: VisitorRequest) -> None:
    """The parameter and the state are the visitor."""
    assert_type(visitor, Visitor)
    assert_type(request.state.visitor, Visitor)
    assert_type(request.state.visitor_id, str)
    visitor.track("Signed up", {"plan": "pro"}, seats=3)
    visitor.trak("Signed up")  # type: ignore[attr-defined]


@api.websocket("/socket")
async def fastapi_socket(websocket: VisitorWebSocket) -> None:
    """A socket's state is the same."""
    assert_type(websocket.state.visitor, Visitor)


class ShopState(VisitorState):
    """An application's own state beside ours."""

    cart: list[str]


async def starlette_handler(request: Request[VisitorState], shop: Request[ShopState]) -> None:
    """Starlette's request takes the type of its state."""
    assert_type(request.state.visitor, Visitor)
    assert_type(shop.state.visitor_id, str)
    assert_type(shop.state.cart, list[str])


@WerkzeugRequest.application
def werkzeug_app(request: WerkzeugRequest) -> WerkzeugResponse:
    """Werkzeug's request leads to the visitor."""
    assert_type(werkzeug_visitor(request), Visitor)
    werkzeug_visitor(request).trak("Signed up")  # type: ignore[attr-defined]
    return WerkzeugResponse(werkzeug_visitor(request).id)


WerkzeugMiddleware(werkzeug_app, token="t", secret_key="s", url_map=Map())
WerkzeugMiddleware(werkzeug_app, tokn="t")  # type: ignore[call-arg]


@get("/")
async def litestar_handler(visitor: LitestarVisitor) -> str:
    """Litestar's dependency is the visitor."""
    assert_type(visitor, Visitor)
    visitor.trak("Signed up")  # type: ignore[attr-defined]
    return visitor.id


Litestar([litestar_handler], plugins=[VisitorPlugin(token="t", secret_key="s")])
VisitorPlugin(tokn="t")  # type: ignore[call-arg]

FlaskVisitors(Flask(__name__), token="t", secret_key="s", identify_users=lambda user, request: user.email)
FlaskVisitors(identify_users=3)  # type: ignore[arg-type]
assert_type(FlaskVisitors().tracker, Tracker)
assert_type(flask_visitor, Visitor)
assert_type(visitor_script("nonce"), str)
assert_type(sign_traits({"plan": "pro"}), str)
flask_visitor.trak("Signed up")  # type: ignore[attr-defined]

MixpanelVisitor(Quart(__name__), token="t", secret_key="s")
MixpanelVisitor(Flask(__name__))  # type: ignore[arg-type]
MixpanelVisitor(tokn="t")  # type: ignore[call-arg]
assert_type(quart_visitor, Visitor)
quart_visitor.trak("Signed up")  # type: ignore[attr-defined]

StubBroker().add_middleware(DramatiqVisitors(Tracker(), max_age_s=600))
StubBroker().add_middleware(DramatiqVisitors(Tracker.from_env))
DramatiqVisitors("token")  # type: ignore[arg-type]

InMemoryBroker().add_middlewares(TaskiqVisitors(Tracker(), max_age_s=600))
InMemoryBroker().add_middlewares(TaskiqVisitors(Tracker.from_env))
TaskiqVisitors("token")  # type: ignore[arg-type]
