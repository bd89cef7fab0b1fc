"""One suite for every server and framework: what a visitor, the application and Mixpanel see."""

from __future__ import annotations

import subprocess
import time

import pytest
from support.apps import APPS_COOKIE, CHUNKS, ENDLESS_CHUNK, FILE, UNWRAPPED, USER
from support.collecting import PAGE, form
from support.collecting import event as browser_event
from support.components import needs
from support.harnesses import COLLECTOR, TOKEN
from support.inbox import Inbox
from support.responses import cookie_name
from support.servers import served
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel

ANONYMOUS = "$device:"


class Story:
    """A harness and the moment it began, to look at what has arrived."""

    def __init__(self, harness):
        self.harness = harness
        self.began_ms = int(time.time() * 1000)

    def page(self, **more):
        return self.harness.request("GET", "/page", **more)

    def post(self, path):
        return self.harness.request("POST", path)

    def unchanged(self, seen, method, path):
        """Check that the answer is what the application gives without us, apart from what is ours."""
        plain = self.harness.request(method, UNWRAPPED + path, cookies=False)
        assert (seen.status, seen.error, seen.others) == (plain.status, plain.error, plain.others)
        return plain

    def events(self, *names):
        """Return the events; they are exactly these, well formed, and each came once."""
        events = self.harness.events(len(names))
        assert [event["event"] for event in events] == list(names)
        now_ms = int(time.time() * 1000)
        for event in events:
            assert type(event["properties"]["time"]) is int
            assert self.began_ms <= event["properties"]["time"] <= now_ms
            assert (event["deliveries"], event["altered"]) == (1, False)
        assert len({event["properties"]["$insert_id"] for event in events}) == len(names)
        assert self.harness.inbox.stats()["rejected"] == 0
        return [event["properties"] for event in events]

    def anonymous_events(self, device_id, *names):
        """Return the events; they are exactly these, and all of this device, with nobody logged in."""
        events = self.events(*names)
        for properties in events:
            assert properties["$device_id"] == device_id
            assert properties["distinct_id"] == ANONYMOUS + device_id
            assert "$user_id" not in properties
        return events


@pytest.fixture
def story(harness):
    """A visit that begins with this test."""
    return Story(harness)


def test_new_visitor(story):
    """The page, the cookie and the event speak of one ID; the application's answer is otherwise its own."""
    seen = story.page()
    story.unchanged(seen, "GET", "/page")
    assert len(seen.our_cookies) == 1
    assert "; httponly" in seen.our_cookies[0].lower()
    assert seen.values("set-cookie").count(APPS_COOKIE) == 1
    story.anonymous_events(seen.text, "Page")


def test_known_visitor(story):
    """The second page has the same ID and sets nothing of ours."""
    first = story.page()
    second = story.page()
    assert second.text == first.text
    assert second.our_cookies == []
    assert "private" not in second.values("cache-control")
    story.anonymous_events(first.text, "Page", "Page")


def test_another_visitor(story):
    """Without a cookie it is somebody else."""
    ids = [story.page().text, story.page(cookies=False).text]
    assert ids[0] != ids[1]
    assert [event["$device_id"] for event in story.events("Page", "Page")] == ids


def test_stream(story):
    """All that is tracked while a body streams arrives; the body is whole and comes in the same pieces."""
    visitor_id = story.page().text
    seen = story.harness.request("GET", "/stream")
    plain = story.unchanged(seen, "GET", "/stream")
    assert seen.body == b"".join(CHUNKS)
    assert seen.parts == plain.parts
    if story.harness.keeps_parts:
        assert seen.parts == list(CHUNKS)
    events = story.anonymous_events(visitor_id, "Page", "Started", "Chunk", "Chunk", "Chunk", "Ended")
    assert [event["n"] for event in events if "n" in event] == [1, 2, 3]


def test_error_before_the_response(story):
    """The server's own answer to an exception is unchanged, and what was tracked before it arrives.

    Under a new visitor's ID if the answer takes that along; else as nobody's.
    """
    seen = story.harness.request("GET", "/error", cookies=False)
    story.unchanged(seen, "GET", "/error")
    (event,) = story.events("Failing")
    assert event["distinct_id"].startswith(ANONYMOUS) is bool(seen.our_cookies)
    assert bool(event["distinct_id"]) is bool(seen.our_cookies)


def test_error_in_the_body(story):
    """The response breaks off as it would without us, and what was tracked arrives."""
    visitor_id = story.page().text
    seen = story.harness.request("GET", "/error-in-body")
    plain = story.unchanged(seen, "GET", "/error-in-body")
    assert seen.body == plain.body
    story.anonymous_events(visitor_id, "Page", "Failing", "Failed")


def test_disconnect(story):
    """Nothing is lost when the client goes away, not even what is tracked at the closing."""
    if story.harness.notices_disconnect:
        assert story.harness.disconnect("/endless").startswith(ENDLESS_CHUNK[:1])
        names = ("Begun", "Closed")
    else:
        assert story.harness.disconnect("/stream") == CHUNKS[0]
        names = ("Started", "Chunk", "Chunk", "Chunk", "Ended")
    events = story.events(*names)
    assert len({event["distinct_id"] for event in events}) == 1


def test_head(story):
    """HEAD is no visit: the headers are the application's own, and nothing follows them."""
    seen = story.harness.request("HEAD", "/page")
    plain = story.unchanged(seen, "HEAD", "/page")
    assert len(seen.headers) == len(plain.headers)
    assert seen.our_cookies == []
    assert seen.body == b""
    story.events("Page")


def test_file(story):
    """A file comes byte for byte, with the headers it would have without us."""
    visitor_id = story.page().text
    seen = story.harness.request("GET", "/file")
    story.unchanged(seen, "GET", "/file")
    assert seen.body == FILE.read_bytes()
    story.anonymous_events(visitor_id, "Page", "File")


def test_login(story):
    """From the log-in on events carry the user, the cookie is issued anew once, later requests know."""
    visitor_id = story.page().text
    login = story.post("/login")
    assert len(login.our_cookies) == 1
    after = story.page()
    again = story.post("/login")
    assert (after.our_cookies, again.our_cookies) == ([], [])
    assert {login.text, after.text, again.text} == {visitor_id}
    before, *later = story.events("Page", "Logged in", "Page", "Logged in")
    assert before["distinct_id"] == ANONYMOUS + visitor_id
    for event in later:
        assert (event["distinct_id"], event["$user_id"], event["$device_id"]) == (USER, USER, visitor_id)


def test_logout(story):
    """After the log-out it is a fresh device, in this answer's cookie and in the next request."""
    device_id = story.post("/login").text
    logout = story.post("/logout")
    assert len(logout.our_cookies) == 1
    assert logout.text != device_id
    assert story.page().text == logout.text
    _, *later = story.events("Logged in", "Logged out", "Page")
    for event in later:
        assert event["distinct_id"] == ANONYMOUS + logout.text
        assert event["$device_id"] == logout.text
        assert "$user_id" not in event


DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
OWN_PAGE = {"sec-fetch-site": "same-origin", "content-type": "application/json"}


def hand_over(story, body, **headers):
    return story.harness.request("POST", "/_visitor", headers={**OWN_PAGE, **headers}, body=body)


def test_hand_over(story):
    """The browser's own ID is the visitor's from the next request on."""
    answer = hand_over(story, b'{"device_id": "%s"}' % DEVICE.encode())
    assert (answer.status, answer.body, len(answer.our_cookies)) == (204, b"", 1)
    assert story.page().text == DEVICE
    story.anonymous_events(DEVICE, "Page")


def test_a_hand_over_that_is_too_long(story):
    """It is refused, and the server goes on."""
    assert hand_over(story, b'{"device_id": "%s"}' % (b"x" * 100_000)).status == 413
    assert story.page().status == 200
    story.events("Page")


def test_the_script_is_there(story):
    """Every page may load it."""
    answer = story.harness.request("GET", "/_visitor.js")
    assert answer.status == 200
    assert int(answer.values("content-length")[0]) == len(answer.body) > 100
    assert answer.our_cookies == []


@pytest.mark.servers
@pytest.mark.parametrize(
    "name",
    [
        "gunicorn-sync",
        "gunicorn-gthread",
        "gunicorn-gevent",
        "uvicorn",
        "uvicorn-bare",
        "uvicorn-quart",
        "uvicorn-litestar",
    ],
)
def test_a_server_that_is_told_to_end_delivers_first(name, tmp_path):
    """What was tracked right before SIGTERM is with Mixpanel when the process has ended.

    It has 0.6 s for that, which on a machine that is busy with other things is not always enough: then again.
    """
    arrived = []
    for attempt in range(3):
        with LocalMixpanel() as mixpanel:
            inbox = Inbox(mixpanel.url)
            directory = tmp_path / str(attempt)
            directory.mkdir()
            with served(name, inbox, directory) as server:
                server.request("GET", "/page")
            arrived = [event["event"] for event in inbox.events()]
        if arrived:
            break
    assert arrived == ["Page"]


@pytest.mark.servers
@needs("curl")
def test_curl(started, tmp_path):
    """Curl with a cookie jar gets its cookie and keeps its ID."""
    harness = started("uvicorn")
    jar = tmp_path / "jar"

    def curl():
        command = ["curl", "--silent", "--fail", "--cookie", jar, "--cookie-jar", jar, harness.url + "/page"]
        return subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S).stdout

    first = curl()
    assert f"\t{cookie_name(TOKEN)}\t" in jar.read_text()
    assert curl() == first


# --- the browser's events through the application ---------------------------------------------------


def collect(harness, body, **headers):
    """Send a body to the collector as a page of the site does."""
    return harness.request("POST", f"{COLLECTOR}/track/", headers={**PAGE, **headers}, body=body)


def test_the_browsers_events_are_taken_in(story):
    """Each server and framework passes them to the collector, and they arrive as they were sent."""
    device = story.page().text
    now_s = time.time()
    sent = [
        browser_event(f"Clicked {each}", token=TOKEN, device=device, time=now_s) for each in ("tea", "mug")
    ]
    for number, each in enumerate(sent):
        each["properties"]["$insert_id"] = f"collected-{number}"
    answer = collect(story.harness, form(sent))
    assert (answer.status, answer.text) == (200, "1")
    arrived = [each for each in story.harness.events(3) if each["event"] != "Page"]
    assert [each["event"] for each in arrived] == ["Clicked tea", "Clicked mug"]
    for each, one in zip(arrived, sent, strict=True):
        expected = {**one["properties"], "time": round(now_s * 1000)}
        assert expected.items() <= {**each["properties"], "token": TOKEN}.items()
        assert each["deliveries"] == 1
    assert story.harness.inbox.stats()["rejected"] == 0


def test_a_batch_of_another_site_is_not(story):
    """It is answered by the collector, and not by the application."""
    answer = collect(story.harness, form([browser_event(token=TOKEN)]), **{"sec-fetch-site": "cross-site"})
    assert answer.status == 403
    assert story.harness.events(0) == []
