"""Between services: a header says for whom a request is made, to hosts and from networks that are named."""

import asyncio
import threading
from contextlib import contextmanager

import aiohttp
import flask
import httpx
import orjson
import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route
from support.facts import facts
from support.spools import RecordingSpool
from support.trackers import WallClock, known, recording_tracker, tracker_into
from support.waiting import PATIENCE_S, wait_until
from werkzeug.serving import make_server

from mixpanel_visitor import current_visitor
from mixpanel_visitor.aiohttp import visitor_middleware
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.httpx import send_visitor, send_visitor_async
from mixpanel_visitor.requests import VisitorAdapter
from mixpanel_visitor.starlette import VisitorMiddleware
from mixpanel_visitor.tracking.tracker import engine_of
from mixpanel_visitor.tracking.visitor_header import HEADER, header_for

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
LOOPBACK = "127.0.0.0/8, ::1"


@pytest.fixture
def shop():
    """The service that the browser talks to; it may tell a host that is called localhost."""
    return tracker_into(RecordingSpool(), visitor_header_hosts="localhost")


@pytest.fixture
def spool():
    """What the other service has stored."""
    return RecordingSpool()


@contextmanager
def flask_service(tracker):
    app = flask.Flask(__name__)
    MixpanelVisitor(app, tracker=tracker)

    @app.get("/bill")
    def bill():
        current_visitor.track("Billed")
        return {"user": current_visitor.user_id, "header": HEADER in flask.request.headers}

    @app.get("/away")
    def away():
        return flask.redirect(flask.request.args["to"])

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join(PATIENCE_S)
        server.server_close()


@contextmanager
def starlette_service(tracker):
    async def bill(request):
        request.state.visitor.track("Billed")
        return JSONResponse({"user": current_visitor.user_id, "header": HEADER in request.headers})

    async def away(request):
        return RedirectResponse(request.query_params["to"])

    app = Starlette(routes=[Route("/bill", bill), Route("/away", away)])
    app.add_middleware(VisitorMiddleware, tracker=tracker)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert wait_until(lambda: server.started, PATIENCE_S)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


@pytest.fixture(params=[flask_service, starlette_service], ids=["flask", "starlette"])
def billing(request, spool):
    """The service that is called, by its port; it trusts this machine."""
    with request.param(tracker_into(spool, visitor_header_networks=LOOPBACK)) as port:
        yield port


def by_requests(tracker, url):
    with requests.Session() as session:
        session.mount("http://", VisitorAdapter(tracker))
        return session.get(url, timeout=PATIENCE_S).json()


def by_httpx(tracker, url):
    with httpx.Client(event_hooks={"request": [send_visitor(tracker)]}, follow_redirects=True) as client:
        return client.get(url).json()


def by_async_httpx(tracker, url):
    async def get():
        hooks = {"request": [send_visitor_async(tracker)]}
        async with httpx.AsyncClient(event_hooks=hooks, follow_redirects=True) as client:
            return (await client.get(url)).json()

    return asyncio.run(get())


def by_aiohttp(tracker, url):
    async def get():
        async with aiohttp.ClientSession(middlewares=[visitor_middleware(tracker)]) as session:
            return await (await session.get(url)).json()

    return asyncio.run(get())


CLIENTS = [by_requests, by_httpx, by_async_httpx, by_aiohttp]


@pytest.mark.parametrize("get", CLIENTS)
def test_the_service_that_is_called_tracks_for_the_visitor(shop, billing, spool, get):
    """The same person in both, with any client."""
    with shop.visitor(device_id=DEVICE, user_id="ann"):
        assert get(shop, f"http://localhost:{billing}/bill")["user"] == "ann"
    assert wait_until(lambda: spool.records, PATIENCE_S)
    properties = orjson.loads(spool.records[0].body)["properties"]
    assert (properties["$device_id"], properties["$user_id"]) == (DEVICE, "ann")


@pytest.mark.parametrize("get", CLIENTS)
def test_a_host_that_is_not_named_is_not_told(shop, billing, get):
    """At once, or after a redirect from one that is."""
    stranger = f"http://127.0.0.1:{billing}/bill"
    with shop.visitor("ann"):
        assert get(shop, stranger)["header"] is False
        assert get(shop, f"http://localhost:{billing}/away?to={stranger}")["header"] is False


@pytest.mark.parametrize("get", CLIENTS)
def test_a_redirect_to_a_named_host_is_told(shop, billing, get):
    """From one that is not."""
    with shop.visitor("ann"):
        address = f"http://127.0.0.1:{billing}/away?to=http://localhost:{billing}/bill"
        assert get(shop, address) == {"user": "ann", "header": True}


@pytest.mark.parametrize("get", CLIENTS)
def test_without_a_visitor_nothing_is_sent(shop, billing, get):
    """A cron job asks for nobody."""
    assert get(shop, f"http://localhost:{billing}/bill")["header"] is False


@pytest.mark.parametrize("get", CLIENTS)
def test_who_may_not_be_tracked_is_not_tracked_there_either(shop, billing, spool, get):
    """Their "no" travels as well."""
    with shop.visitor("ann") as visitor:
        visitor.opt_out()
        assert get(shop, f"http://localhost:{billing}/bill") == {"user": None, "header": True}
    assert not spool.records


# --- what the service that is called believes ------------------------------------------------------


@pytest.fixture
def clock():
    return WallClock()


@pytest.fixture
def called(clock):
    """The tracker of a service that trusts its own network, and what it stored."""
    return recording_tracker(clock=clock, visitor_header_networks="10.0.0.0/8")


@pytest.fixture
def header(clock):
    """What a service says of Ann, who is on a page of its."""
    tracker, _ = recording_tracker(clock=clock, visitor_header_hosts=".internal")
    given = {**known(DEVICE, user_id="ann"), "user-agent": "Mozilla/5.0 (X11; Linux) Firefox/140.0"}
    _, visitor = engine_of(tracker).begin(facts(given, path="/prices"), in_background=False)
    visitor.register(plan="pro")
    return engine_of(tracker).exports.as_of_now(visitor.export())


def ask(tracker, text, *, client="10.1.2.3", **headers):
    """Return exchange and visitor of a request that a service at 10.1.2.3 makes."""
    given = {"x-visitor": text, "user-agent": "python-httpx/0.28.1", **headers}
    return engine_of(tracker).begin(facts(given, client=client, path="/api"), in_background=False)


def end(tracker, exchange, status=200):
    added = engine_of(tracker).on_response_start(exchange, status, list)
    engine_of(tracker).on_response_end(exchange, in_background=False)
    return added


def test_an_event_says_what_the_page_said(called, header):
    """Page and browser are the person's; super properties come along, and no cookie goes back."""
    tracker, spool = called
    exchange, visitor = ask(tracker, header)
    visitor.track("Billed")
    assert end(tracker, exchange) == []
    properties = orjson.loads(spool.records[0].body)["properties"]
    expected = {"$user_id": "ann", "$browser": "Firefox", "plan": "pro"}
    assert properties | expected == properties
    assert properties["$current_url"].endswith("/prices")


@pytest.mark.parametrize(
    ("client", "headers", "note"),
    [
        ("192.0.2.1", {}, "visitor_header_stranger"),
        (None, {}, "visitor_header_stranger"),
        ("10.1.2.3", {"sec-fetch-site": "same-origin"}, "visitor_header_browser"),
        ("10.1.2.3", {"origin": "https://shop.example.com"}, "visitor_header_browser"),
    ],
)
def test_strangers_and_browsers_are_not_believed(called, header, client, headers, note):
    """It is a request like any other then, and it is counted."""
    tracker, _ = called
    _, visitor = ask(tracker, header, client=client, **headers)
    assert visitor.user_id is None
    assert tracker.stats()["notes"][note] == 1


def test_what_is_forged_or_old_is_not_believed(called, header, clock):
    """A request like any other, counted by reason."""
    tracker, _ = called
    assert ask(tracker, header[:-1] + "_")[1].user_id is None
    clock.now_s += 301
    assert ask(tracker, header)[1].user_id is None
    assert tracker.stats()["notes"].keys() >= {"resume_bad_signature", "resume_expired"}


def test_off_by_default(header):
    """Without the setting the header says nothing."""
    tracker, _ = recording_tracker()
    assert ask(tracker, header, client="127.0.0.1")[1].user_id is None


def test_behind_a_proxy_the_service_counts_and_not_the_proxy(header):
    """The trusted proxy says who has called it."""
    tracker, _ = recording_tracker(trusted_proxies="10.0.0.1", visitor_header_networks="10.0.0.0/8")
    engine = engine_of(tracker)
    for address, user in (("10.1.2.3", "ann"), ("192.0.2.1", None)):
        given = {"x-visitor": header, "x-forwarded-for": address}
        seen = engine.behind_proxies(facts(given, client="10.0.0.1"))
        assert engine.begin(seen, in_background=False)[1].user_id == user


def test_consent_is_asked_by_the_ids(header):
    """The cookies of the browser are not here."""
    tracker, spool = recording_tracker(
        consent=lambda request: "denied" if request.user_id == "ann" else "granted",
        visitor_header_networks="10.0.0.0/8",
    )
    exchange, visitor = ask(tracker, header)
    visitor.track("Billed")
    end(tracker, exchange)
    assert (visitor.consent, tracker.stats()["refused"], spool.records) == (
        "denied",
        {"consent_denied": 1},
        [],
    )


@pytest.mark.parametrize("id_mode", ["simplified", "original"])
def test_a_log_in_joins_nobody(header, id_mode):
    """Only the service with the browser knows whose the device is."""
    tracker, spool = recording_tracker(visitor_header_networks="10.0.0.0/8", id_mode=id_mode)
    exchange, visitor = ask(tracker, header)
    visitor.identify("bob")
    visitor.track("Billed")
    end(tracker, exchange)
    (record,) = spool.records
    properties = orjson.loads(record.body)["properties"]
    assert (properties["distinct_id"], "$device_id" in properties) == ("bob", False)


def test_an_opt_out_there_sets_no_cookie_and_counts(called, header):
    """The service that is called cannot reach the browser."""
    tracker, spool = called
    exchange, visitor = ask(tracker, header)
    visitor.track("Billed")
    visitor.opt_out()
    visitor.opt_in()
    visitor.track("Billed")
    assert end(tracker, exchange) == []
    assert tracker.stats()["refused"] == {"consent_denied": 2}
    assert not spool.records


def test_a_page_view_is_the_browsers(header):
    """A service that fetches a page has not viewed it."""
    tracker, spool = recording_tracker(page_views=True, visitor_header_networks="10.0.0.0/8")
    exchange, _ = ask(tracker, header, accept="text/html")
    end(tracker, exchange)
    assert not spool.records


def test_a_job_of_the_service_is_resumed(called, header):
    """What came by a header can be exported again."""
    tracker, _ = called
    _, visitor = ask(tracker, header)
    with tracker.resume(visitor.export()) as resumed:
        assert (resumed.user_id, resumed.device_id) == ("ann", DEVICE)


def test_a_job_tells_services_as_of_now(clock):
    """It runs an hour later, and the header is for this request."""
    tracker, _ = recording_tracker(clock=clock, visitor_header_hosts=".internal")
    exported = tracker.visitor("ann").export()
    clock.now_s += 3600
    called, _ = recording_tracker(clock=clock, visitor_header_networks="10.0.0.0/8")
    with tracker.resume(exported):
        assert ask(called, header_for(tracker, "billing.internal"))[1].user_id == "ann"


def test_the_visitor_of_another_project_is_not_told():
    """Its text would not be believed."""
    ours, _ = recording_tracker(visitor_header_hosts=".internal")
    theirs, _ = recording_tracker(token="f" * 32)
    with theirs.visitor("ann"):
        assert header_for(ours, "billing.internal") == "-"
