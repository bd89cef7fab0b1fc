"""A broken application with Mixpanel's own libraries on both sides: its mistakes are red on the page."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid

import flask
import mixpanel
import pytest
from werkzeug.serving import make_server

from mixpanel_visitor.emulator import LocalMixpanel

pytestmark = pytest.mark.browser

TOKEN = "0123456789abcdef0123456789abcdef"


def broken_shop(local, dist):
    """Build the application as people write it at first: an ID of its own, and values as they come."""
    app = flask.Flask(__name__)
    app.secret_key = "secret"
    consumer = mixpanel.Consumer(
        events_url=f"{local.url}/track", people_url=f"{local.url}/engage", request_timeout=10, retry_limit=0
    )
    server = mixpanel.Mixpanel(TOKEN, consumer=consumer)

    @app.get("/")
    def page():
        visitor = flask.session.setdefault("visitor", str(uuid.uuid4()))
        server.track(visitor, "Page viewed")
        config = json.dumps({"api_host": local.url, "track_pageview": True, "batch_requests": False})
        return (
            "<!doctype html><title>Shop</title><link rel=icon href=data:,><p>Tea</p>"
            f"<script src=/sdk.js></script><script>mixpanel.init({TOKEN!r}, {config})</script>"
        )

    @app.get("/sdk.js")
    def sdk():
        return flask.send_from_directory(dist, "mixpanel.umd.js")

    @app.get("/mistakes")
    def mistakes():
        user = None
        with contextlib.suppress(mixpanel.MixpanelException):
            server.track(str(user), "Signed up")
        with contextlib.suppress(mixpanel.MixpanelException):
            server.track("bert", "Paid", {"amount": float("nan")})
        with contextlib.suppress(mixpanel.MixpanelException):
            server.track("bert", "Searched", {f"result {number}": number for number in range(300)})
        return "Done"

    return app, consumer._session.close


@pytest.fixture
def local():
    """Return a local Mixpanel with the real clock."""
    with LocalMixpanel() as local:
        yield local


@pytest.fixture
def visit(chromium, local):
    """Return a way to open pages of the broken shop in a browser."""
    from support import browser_sdk

    app, close = broken_shop(local, browser_sdk.files())
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    context = chromium.run(chromium.context())

    def visit(path):
        tab = chromium.run(context.new_page())
        chromium.run(tab.goto(f"http://127.0.0.1:{server.server_port}{path}"))

    yield visit
    chromium.run(context.close())
    server.shutdown()
    thread.join(10)
    server.server_close()
    close()


@pytest.fixture
def live(chromium, local):
    """Return the local Mixpanel's page."""
    from support.live_page import LivePage

    page = LivePage(chromium, local)
    yield page
    assert page.errors == []
    page.close()


def pictured(live, selector):
    """Return the text of each element, and how many pixels of its picture are red."""
    elements = live.do(lambda it: it.locator(selector).all())
    return [(live.do(lambda _, each=each: each.inner_text()), live.red_pixels(each)) for each in elements]


def test_two_ids_in_one_visit_are_red_in_the_picture(visit, live, local):
    """Nobody told browser and server of each other: the list shows both in red, the card says what to do."""
    visit("/")
    live.see("#alarm", "A visit has two IDs")
    live.see("#events li.bad .what", "$mp_web_page_view")
    live.press("3")
    live.see(".problem .fix", "Wrap the application with VisitorMiddleware")
    ((text, red),) = pictured(live, ".problem")
    assert "One visit has two IDs" in text
    assert red > 200
    (found,) = local.store.two_ids()
    assert found.server_id != found.browser_id


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("'None' is not allowed", "str(None)"),
        ("malformed JSON", "NaN"),
        ("fewer than 255 properties", "Send fewer than 255 properties"),
    ],
)
def test_what_mixpanel_refuses_is_red_in_the_picture(visit, live, reason, fix):
    """A banned ID, NaN and 300 properties: each card is red and says what to do."""
    visit("/mistakes")
    live.see("#problem-count", "3")
    live.press("3")
    live.see(".problem", reason)
    ((text, red),) = [(text, red) for text, red in pictured(live, ".problem") if reason in text]
    assert fix in text
    assert red > 200


def test_nothing_is_red_where_nothing_is_wrong(live, local):
    """The measure of the pictures, turned round."""
    from support import live_page

    live_page.shop(local)
    live.see("#events .row", "Bought")
    for view in "1234":
        live.press(view)
        ((_, red),) = pictured(live, "body")
        assert red == 0
