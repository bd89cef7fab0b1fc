"""The real mixpanel-browser talks to the local Mixpanel unchanged, with all that it can send."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading

import pytest
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel

pytestmark = pytest.mark.browser

CONFIG = {
    "persistence": "localStorage",
    "track_pageview": True,
    "flags": True,
    "record_sessions_percent": 100,
}
CALLS = """
    mixpanel.track("Clicked", {what: "tea"});
    mixpanel.track("Left", {}, {transport: "sendBeacon", send_immediately: true});
    mixpanel.identify("anna");
    mixpanel.track("Bought", {amount: 5});
    mixpanel.people.set({plan: "gold"});
    mixpanel.people.increment("visits");
    mixpanel.set_group("company", "Acme");
    mixpanel.get_group("company", "Acme").set({size: 5});
    mixpanel.alias("anna-alias");
"""
WAYS = [
    pytest.param({}, id="default"),
    pytest.param({"batch_requests": False}, id="one-by-one"),
    pytest.param({"api_payload_format": "json"}, id="json"),
    pytest.param({"api_method": "GET", "batch_requests": False}, id="get"),
    pytest.param({"batch_requests": False, "api_transport": "sendBeacon"}, id="beacon"),
]


@pytest.fixture
def local():
    """Return a local Mixpanel with the real clock."""
    with LocalMixpanel() as local:
        yield local


@pytest.fixture
def open_shop(chromium, local):
    """Open a page of another origin that runs the SDK; gives what it complained of."""
    from support import browser_sdk

    with contextlib.ExitStack() as running:

        def open_shop(config):
            config = {**CONFIG, "api_host": local.url, "recorder_src": "/mixpanel-recorder.min.js", **config}
            url = running.enter_context(served(browser_sdk.files(), config))
            context, errors = chromium.run(visited(chromium, url))
            running.callback(lambda: chromium.run(context.close()))
            return errors

        yield open_shop


async def visited(chromium, url):
    """Open the page and let it call all that there is."""
    context = await chromium.context()
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(url)
    await page.evaluate(CALLS)
    return context, errors


@contextlib.contextmanager
def served(dist, config):
    """Serve the page and the SDK's files on a free port: to a browser that is another origin."""
    tags = (
        "<!doctype html><title>Shop</title><link rel=icon href=data:,><p>Tea</p>"
        "<script src=/mixpanel.umd.js></script>"
        f"<script>mixpanel.init('some-token', {json.dumps(config)})</script>"
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            body = (dist / name).read_bytes() if name else tags.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if name else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("config", WAYS)
def test_all_that_it_sends_is_accepted_and_shown(open_shop, local, config, note_sent):
    """Nothing is refused, in whichever form it comes; what it was is listed at the end of the run."""
    from support import browser_sdk
    from support.waiting import wait_until

    wanted = {"$mp_web_page_view", "Clicked", "Left", "Bought", "$identify"}

    def arrived():
        stats = local.store.stats()
        names = {each.name for each in local.store.events()}
        return wanted <= names and stats["profile_updates"] >= 2 and stats["groups"] >= 1

    errors = open_shop(config)
    assert wait_until(arrived, PATIENCE_S), (local.store.stats(), errors)
    assert local.store.rejections() == []
    assert errors == []
    people = {each.person for each in local.store.events() if each.name in ("Clicked", "Bought")}
    assert people == {"anna"}
    note_sent(f"mixpanel-browser {browser_sdk.VERSION}", json.dumps(config), local)


def test_it_asks_for_settings_and_flags_and_records_sessions(open_shop, local, note_sent):
    """Each is answered with 200, to a page of another origin."""
    from support import browser_sdk
    from support.waiting import wait_until

    open_shop({"remote_settings_mode": "fallback"})
    asked = ("/settings", "/flags", "/record")

    def all_asked():
        requests = local.store.stats()["requests"]
        return all(requests.get(path, {}).get("200") for path in asked)

    assert wait_until(all_asked, PATIENCE_S), local.store.stats()["requests"]
    statuses = {path: set(found) for path, found in local.store.stats()["requests"].items() if path in asked}
    assert all(found <= {"200", "204"} for found in statuses.values())
    note_sent(f"mixpanel-browser {browser_sdk.VERSION}", "settings, flags, recording", local)
