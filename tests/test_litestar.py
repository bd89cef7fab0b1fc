"""The door for Litestar: the plugin, the dependency, the hand-over's routes, and the shut-down."""

import json
import subprocess
import sys
from typing import Any

import pytest
from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import (
    AbstractAuthenticationMiddleware,
    AuthenticationResult,
    DefineMiddleware,
)
from litestar.params import FromPath, FromQuery
from litestar.response import Response
from litestar.testing import TestClient
from support.spools import RecordingSpool
from support.trackers import tracker_into

from mixpanel_visitor import SettingsError, Tracker
from mixpanel_visitor.asgi import VisitorMiddleware as ASGIVisitorMiddleware
from mixpanel_visitor.litestar import CurrentVisitor, VisitorMiddleware, VisitorPlugin, current_visitor

OWN_PAGE = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"


@get("/tell")
async def tell(visitor: CurrentVisitor, request: Request[Any, Any, Any]) -> list[str]:
    return [visitor.id, request.state.visitor.id, request.state.visitor_id, current_visitor.id]


@get("/thread", sync_to_thread=True)
def thread(visitor: CurrentVisitor) -> list[str]:
    return [visitor.id, current_visitor.id]


async def plan_of(visitor: CurrentVisitor) -> str:
    return "free" if visitor.user_id is None else "pro"


@get("/plan", dependencies={"plan": Provide(plan_of)})
async def plan(plan: NamedDependency[str]) -> str:
    return plan


async def welcome() -> None:
    current_visitor.track("Welcomed")


@post("/signup")
async def signup(visitor: CurrentVisitor, coupon: FromQuery[str] = "") -> Response[dict[str, str]]:
    visitor.identify("user-42")
    visitor.track("Signed up", coupon=coupon)
    return Response({"distinct_id": visitor.distinct_id}, background=BackgroundTask(welcome))


@get("/shoes/{number:int}", media_type="text/html")
async def shoes(number: FromPath[int]) -> str:
    return f"<h1>{number}</h1>"


@get("/error")
async def error() -> None:
    current_visitor.track("Failing")
    raise RuntimeError("of the handler")


@websocket("/socket")
async def socket(socket: WebSocket[Any, Any, Any], visitor: CurrentVisitor) -> None:
    await socket.accept()
    visitor.track("Connected")
    await socket.send_json([visitor.id, current_visitor.id])
    await socket.close()


HANDLERS = [tell, thread, plan, signup, shoes, error, socket]


def site(**settings):
    """An application that says in every way who the visitor is."""
    return Litestar(HANDLERS, plugins=[VisitorPlugin(**settings)], logging_config=None)


@pytest.fixture
def client(mixpanel_events):
    """Litestar's own client, and nothing is sent."""
    with TestClient(site(page_views=True)) as client:
        yield client


def test_every_way_to_the_visitor_gives_the_same(client):
    """The dependency, the state and the proxy speak of one visitor, in the loop and in a thread."""
    assert len({*client.get("/tell").json(), *client.get("/thread").json()}) == 1


def test_the_shortest_complete_test(client, mixpanel_events):
    """An event of a handler and one of a background task are the visitor's."""
    assert client.post("/signup", params={"coupon": "autumn"}).json() == {"distinct_id": "user-42"}
    mixpanel_events.assert_tracked("Signed up", coupon="autumn", distinct_id="user-42")
    mixpanel_events.assert_tracked("Welcomed", distinct_id="user-42")


def test_other_dependencies_take_it(client):
    """And see the log-in of an earlier request."""
    assert client.get("/plan").text == "free"
    client.post("/signup")
    assert client.get("/plan").text == "pro"


def test_a_socket_has_the_pages_visitor(client, mixpanel_events):
    """The same dependency."""
    visitor_id = client.get("/tell").json()[0]
    with client.websocket_connect("/socket") as session:
        assert session.receive_json() == [visitor_id] * 2
    mixpanel_events.assert_tracked("Connected", **{"$device_id": visitor_id})


def test_a_page_view_has_the_routes_template(client, mixpanel_events):
    """Litestar's own, not the address."""
    client.get("/shoes/7", headers={"accept": "text/html"})
    mixpanel_events.assert_tracked("$mp_web_page_view", route="/shoes/{number}", current_url_path="/shoes/7")


def test_an_error_page_carries_the_cookie_and_keeps_the_events(mixpanel_events):
    """Litestar answers exceptions inside of us."""
    with TestClient(site(), raise_server_exceptions=False) as client:
        assert "set-cookie" in client.get("/error").headers
    mixpanel_events.assert_tracked("Failing")


def test_openapi_is_unchanged(client):
    """Neither the dependency nor the hand-over's routes are in it."""
    told = client.get("/schema/openapi.json").json()
    assert sorted(told["paths"]) == ["/error", "/plan", "/shoes/{number}", "/signup", "/tell", "/thread"]
    assert "isitor" not in json.dumps(told)
    assert [each["name"] for each in told["paths"]["/signup"]["post"]["parameters"]] == ["coupon"]


def test_the_hand_overs_routes_answer(client):
    """Litestar asks middleware only where there is a handler; the browser's ID is the visitor's after it."""
    assert client.get("/_visitor.js").status_code == 200
    answer = client.post("/_visitor", headers=OWN_PAGE, content=b'{"device_id": "%s"}' % DEVICE.encode())
    assert answer.status_code == 204
    assert client.get("/tell").json()[0] == DEVICE


def test_the_hand_over_can_have_another_path(mixpanel_events):
    """Or none."""
    with TestClient(site(handover_path="/id")) as client:
        assert [client.get(path).status_code for path in ("/id.js", "/_visitor.js")] == [200, 404]
    with TestClient(site(handover_path=None)) as client:
        assert client.get("/_visitor.js").status_code == 404


def test_a_hand_over_that_is_left_alone_is_not_found(mixpanel_events):
    """As any address without a handler."""
    with TestClient(site(request_filter=lambda facts: True)) as client:
        assert client.get("/_visitor.js").status_code == 404


class Locked(AbstractAuthenticationMiddleware):
    """Lets in who says the word, as Litestar's own authentication does."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]):
        if connection.headers.get("authorization") != "word":
            raise NotAuthorizedException
        return AuthenticationResult(user="user-42", auth=None)


def lock(config):
    """Put it before all others, as Litestar's authentication does."""
    config.middleware.insert(0, DefineMiddleware(Locked))
    return config


class LockingPlugin(VisitorPlugin):
    """The door, and authentication that comes before it."""

    def on_app_init(self, app_config):
        return lock(super().on_app_init(app_config))


def test_neither_authentication_nor_csrf_is_in_the_hand_overs_way(mixpanel_events):
    """The page has checked all that there is to check: it is of the same origin."""
    app = Litestar(
        HANDLERS,
        plugins=[LockingPlugin()],
        logging_config=None,
        csrf_config=CSRFConfig(secret="of the site"),
    )
    with TestClient(app) as client:
        assert client.get("/tell").status_code == 401
        assert client.get("/_visitor.js").status_code == 200
        body = b'{"device_id": "%s"}' % DEVICE.encode()
        assert client.post("/_visitor", headers=OWN_PAGE, content=body).status_code == 204
        assert client.get("/tell", headers={"authorization": "word"}).json()[0] == DEVICE


def test_a_dependency_of_the_applications_own_stays(mixpanel_events):
    """It may have been there before us, and tests replace it so."""
    anna = Tracker().visitor(user_id="anna")
    own = Provide(lambda: anna, sync_to_thread=False)

    @get("/mine")
    async def mine(visitor: NamedDependency[Any]) -> str:
        return str(visitor.user_id)

    app = Litestar([mine], plugins=[VisitorPlugin()], dependencies={"visitor": own}, logging_config=None)
    with TestClient(app) as client:
        assert client.get("/mine").text == "anna"


def test_wrong_settings_raise_where_the_plugin_is_made():
    """Before there is an application."""
    with pytest.raises(SettingsError, match="region"):
        VisitorPlugin(token="t", region="mars")


@pytest.mark.parametrize("middleware", [VisitorMiddleware, ASGIVisitorMiddleware])
def test_define_middleware_works_too(middleware):
    """Where a tracker is shared; it gives `app` by its name."""
    spool = RecordingSpool()
    tracker = tracker_into(spool)

    @get("/")
    async def front() -> str:
        current_visitor.track("Front")
        return current_visitor.id

    app = Litestar([front], middleware=[DefineMiddleware(middleware, tracker=tracker)], logging_config=None)
    with TestClient(app) as client:
        assert client.get("/").text == client.get("/").text
    assert tracker.flush()
    assert spool.names == ["Front", "Front"]
    tracker.close()


def test_the_whole_application_may_be_wrapped(mixpanel_events):
    """Then what has no handler has a visitor as well, and the plugin beside it does nothing twice."""
    with TestClient(ASGIVisitorMiddleware(site())) as client:
        assert "set-cookie" in client.get("/nowhere").headers
        client.post("/signup")
    mixpanel_events.assert_tracked("Signed up", times=1)


def test_the_shut_down_stores_what_is_left():
    """What was tracked last is in the spool when the lifespan has ended."""
    spool = RecordingSpool()
    with TestClient(site(tracker=tracker_into(spool))) as client:
        client.post("/signup")
    assert set(spool.names) >= {"Signed up", "Welcomed"}


def test_the_door_loads_litestar_and_no_other_framework():
    """Not Starlette, which is another door's."""
    code = (
        "import mixpanel_visitor.litestar, sys;"
        "print([name for name in ('starlette', 'fastapi', 'flask') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
