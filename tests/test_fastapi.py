"""The door for FastAPI: the visitor as a parameter, in OpenAPI, under overrides, and at the start."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import HTMLResponse
from fastapi.testclient import TestClient
from support.spools import RecordingSpool
from support.trackers import tracker_into
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor import SettingsError, Tracker
from mixpanel_visitor.errors import NoVisitorError
from mixpanel_visitor.fastapi import (
    CurrentVisitor,
    VisitorMiddleware,
    VisitorRequest,
    VisitorWebSocket,
    current_visitor,
    get_visitor,
)


async def plan_of(visitor: CurrentVisitor):
    """A dependency that takes ours."""
    return "free" if visitor.user_id is None else "pro"


def site(**settings):
    """An application that says in every way who the visitor is."""
    app = FastAPI()
    app.add_middleware(VisitorMiddleware, **settings)

    @app.get("/tell")
    async def tell(visitor: CurrentVisitor, request: VisitorRequest):
        return [visitor.id, request.state.visitor.id, request.state.visitor_id, current_visitor.id]

    @app.get("/thread")
    def thread(visitor: CurrentVisitor):
        return [visitor.id, current_visitor.id]

    @app.get("/plan")
    async def plan(plan: Annotated[str, Depends(plan_of)]):
        return plan

    @app.post("/signup")
    async def signup(visitor: CurrentVisitor, tasks: BackgroundTasks, coupon: str = ""):
        visitor.identify("user-42")
        visitor.track("Signed up", coupon=coupon)
        tasks.add_task(welcome, "Anna")
        return {"distinct_id": visitor.distinct_id}

    def welcome(name):
        current_visitor.track("Welcomed", name=name)

    @app.get("/shoes/{number}", response_class=HTMLResponse)
    async def shoes(number: int):
        return f"<h1>{number}</h1>"

    @app.websocket("/socket")
    async def socket(websocket: VisitorWebSocket, visitor: CurrentVisitor):
        await websocket.accept()
        visitor.track("Connected")
        await websocket.send_json([visitor.id, websocket.state.visitor_id, current_visitor.id])
        await websocket.close()

    return app


@pytest.fixture
def client(mixpanel_events):
    """FastAPI's own client, and nothing is sent."""
    with TestClient(site(page_views=True)) as client:
        yield client


def test_every_way_to_the_visitor_gives_the_same(client):
    """The parameter, the typed state and the proxy speak of one visitor, in the loop and in a thread."""
    assert len({*client.get("/tell").json(), *client.get("/thread").json()}) == 1


def test_the_shortest_complete_test(client, mixpanel_events):
    """An event of a handler and one of a background task are the visitor's."""
    answer = client.post("/signup", params={"coupon": "autumn"})
    assert answer.json() == {"distinct_id": "user-42"}
    mixpanel_events.assert_tracked("Signed up", coupon="autumn", distinct_id="user-42")
    mixpanel_events.assert_tracked("Welcomed", name="Anna", distinct_id="user-42")


def test_other_dependencies_take_it(client):
    """And see the log-in of an earlier request."""
    assert client.get("/plan").json() == "free"
    client.post("/signup")
    assert client.get("/plan").json() == "pro"


def test_a_socket_has_the_pages_visitor(client, mixpanel_events):
    """The same parameter and the same typed state."""
    visitor_id = client.get("/tell").json()[0]
    with client.websocket_connect("/socket") as session:
        assert session.receive_json() == [visitor_id] * 3
    mixpanel_events.assert_tracked("Connected", **{"$device_id": visitor_id})


def test_a_page_view_has_the_routes_template(client, mixpanel_events):
    """FastAPI's own, not the address."""
    client.get("/shoes/7", headers={"accept": "text/html"})
    mixpanel_events.assert_tracked("$mp_web_page_view", route="/shoes/{number}")


def test_openapi_is_unchanged(client):
    """Neither the parameter nor the hand-over path is in it."""
    told = client.get("/openapi.json").json()
    assert not any(path.startswith("/_visitor") for path in told["paths"])
    assert "isitor" not in json.dumps(told)
    assert [each["name"] for each in told["paths"]["/signup"]["post"]["parameters"]] == ["coupon"]


def test_openapi_is_that_of_an_application_without_us(mixpanel_events):
    """To the letter."""

    async def nobody():
        """Depend on nothing."""

    def described(kind, *, wrapped):
        async def signup(visitor, coupon: str = ""):
            """Sign up."""

        signup.__annotations__["visitor"] = kind
        app = FastAPI()
        app.post("/signup")(signup)
        if wrapped:
            app.add_middleware(VisitorMiddleware)
        with TestClient(app) as client:
            return client.get("/openapi.json").text

    plain = described(Annotated[None, Depends(nobody)], wrapped=False)
    assert described(CurrentVisitor, wrapped=True) == plain


def test_the_hand_over_answers(client):
    """A single-page app gets its script from here."""
    assert client.get("/_visitor.js").status_code == 200


def test_an_override_replaces_the_visitor(client, mixpanel_events):
    """As for any dependency, under the name that `CurrentVisitor` depends on."""
    anna = Tracker().visitor(user_id="anna")
    client.app.dependency_overrides[get_visitor] = lambda: anna
    assert client.get("/plan").json() == "pro"
    client.post("/signup")
    mixpanel_events.assert_tracked("Signed up", distinct_id="user-42")


def test_an_override_holds_for_sockets_too(client, mixpanel_events):
    """They have the same dependency."""
    anna = Tracker().visitor(user_id="anna")
    client.app.dependency_overrides[get_visitor] = lambda: anna
    with client.websocket_connect("/socket") as session:
        session.receive_json()
    mixpanel_events.assert_tracked("Connected", distinct_id="anna")


def test_events_of_background_tasks_are_stored_while_the_server_runs():
    """Nobody has to wait for its end, or for the next request."""
    spool = RecordingSpool()
    with TestClient(site(tracker=tracker_into(spool))) as client:
        client.post("/signup")
        assert wait_until(lambda: {"Signed up", "Welcomed"} <= set(spool.names), PATIENCE_S)


def test_wrong_settings_stop_the_start():
    """All of them at once, before the first request."""
    app = site(token="", region="mars")
    with pytest.raises(SettingsError, match=r"(?s)region.*mars|mars.*region"), TestClient(app):
        pass


def test_without_the_middleware_the_parameter_says_what_to_do():
    """Whoever forgot the middleware learns its name."""
    app = FastAPI()

    @app.get("/")
    async def front(visitor: CurrentVisitor):
        return visitor.id

    with pytest.raises(NoVisitorError, match="VisitorMiddleware"):
        TestClient(app).get("/")


def test_frameworks_own_classes_still_do(mixpanel_events):
    """A handler that takes the plain WebSocket is not concerned."""
    app = FastAPI()
    app.add_middleware(VisitorMiddleware)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text(get_visitor(websocket).id)
        await websocket.close()

    with TestClient(app).websocket_connect("/socket") as session:
        assert session.receive_text()
