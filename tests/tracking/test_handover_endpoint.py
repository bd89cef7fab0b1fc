"""The hand-over endpoint and the script for it, over both protocols."""

import json

import pytest
from support.clients import CLIENTS
from support.handing_over import DEVICE, OWN_PAGE, SEEN, UID, hand_over, knows
from support.trackers import COOKIE, TOKEN, known, recording_tracker

from mixpanel_visitor.core.identity.handover import MAX_BODY_BYTES
from mixpanel_visitor.tracking.tracker import engine_of


def assert_untaken(answer, reason):
    """Check that the script is told to try again later, without an error in the page's console."""
    assert (answer.status, json.loads(answer.body)) == (200, {"taken": False, "reason": reason})
    assert answer.values("cache-control") == ["no-store"]
    assert answer.values("content-length") == [str(len(answer.body))]


def test_a_device_id_becomes_the_visitors(make_client):
    """204 without a body, not to be stored by any cache; the next request knows."""
    client, _, _ = make_client()
    answer = hand_over(client, {"device_id": DEVICE})
    assert (answer.status, answer.body) == (204, b"")
    assert answer.values("cache-control") == ["no-store"]
    assert not answer.values("access-control-allow-origin")
    assert knows(client) == DEVICE


def test_the_script_is_told_that_it_was_heard(make_client):
    """In a cookie for this session which it can read, so that it says it once."""
    client, _, _ = make_client()
    hand_over(client, {"device_id": DEVICE})
    assert client.jar[SEEN] == DEVICE


def test_a_log_out_makes_the_script_speak_again(make_client):
    """What it has been told is no longer so."""
    client, _, _ = make_client(lambda visitor: visitor.reset())
    hand_over(client, {"device_id": DEVICE})
    client.request("POST", "/logout")
    assert SEEN not in client.jar


def test_a_lost_cookie_makes_the_script_speak_again(make_client):
    """The server has made a new ID, and the browser still has its own."""
    client, _, _ = make_client()
    hand_over(client, {"device_id": DEVICE})
    del client.jar[COOKIE]
    assert knows(client) != DEVICE
    assert SEEN not in client.jar


def test_what_came_before_the_browsers_id_is_joined_at_the_log_in(make_client):
    """Two device IDs only ever become one person through a user."""

    def handler(visitor):
        visitor.track("Page")
        visitor.identify("anna")

    client, tracker, spool = make_client()
    first = knows(client)
    hand_over(client, {"device_id": DEVICE})
    assert spool.events == []
    later = type(client)(tracker, handler)
    later.jar.update(client.jar)
    later.request("POST", "/login")
    links = [event["properties"] for event in spool.events if event["event"] == "Visitor identified"]
    assert {link["$device_id"] for link in links} == {first, DEVICE}
    assert {link["$user_id"] for link in links} == {"anna"}


def test_an_opt_out_is_heard(make_client):
    """Our cookies go, the SDK's goes, and the next request is not tracked."""
    client, tracker, spool = make_client(lambda visitor: visitor.track("Page"))
    client.request("GET", "/", {"accept": "text/html"})
    assert {COOKIE, f"mp_{TOKEN}_mixpanel"} <= set(client.jar)
    assert hand_over(client, {"opted_out": True}).status == 204
    assert client.jar == {f"{COOKIE}_js": "0", f"__mp_opt_in_out_{TOKEN}": "0"}
    # Where the SDK keeps the choice in localStorage, it removes its own cookie when it starts.
    del client.jar[f"__mp_opt_in_out_{TOKEN}"]
    client.request("GET", "/", {"accept": "text/html"})
    assert client.jar == {f"{COOKIE}_js": "0"}
    assert spool.names == ["Page"]
    assert tracker.stats()["refused"] == {"consent_denied": 1}


def test_an_opt_in_is_heard_and_touches_nothing_else(make_client):
    """The browser has its ID again already."""
    client, _, _ = make_client()
    hand_over(client, {"opted_out": True})
    client.jar[f"mp_{TOKEN}_mixpanel"] = "theirs"
    hand_over(client, {"opted_out": False})
    assert client.jar == {f"mp_{TOKEN}_mixpanel": "theirs"}


def test_without_consent_nothing_is_taken(make_client):
    """It is not even an error of the page's."""
    client, _, _ = make_client(consent=lambda _facts: "denied")
    assert_untaken(hand_over(client, {"device_id": DEVICE}), "consent_denied")
    assert client.jar == {}


def test_a_seed_that_the_sdk_does_not_have_is_replaced(make_client):
    """The page has made a new ID after the server's log-out: the next request has that in both cookies."""
    client, _, _ = make_client(lambda visitor: visitor.reset())
    client.request("GET", "/", {"accept": "text/html"})
    assert f"mp_{TOKEN}_mixpanel" in client.jar
    hand_over(client, {"device_id": DEVICE})
    assert DEVICE in client.jar[f"mp_{TOKEN}_mixpanel"]
    assert client.jar[SEEN] == DEVICE


def test_an_unknown_consent_is_another_answer_than_a_taken_id(make_client):
    """So that the page can hand over again: then it is taken."""
    client, _, _ = make_client(
        consent=lambda facts: "granted" if facts.cookie("consent") == "yes" else "unknown"
    )
    assert_untaken(hand_over(client, {"device_id": DEVICE}), "consent_unknown")
    assert client.jar == {}
    client.jar["consent"] = "yes"
    assert hand_over(client, {"device_id": DEVICE}).status == 204
    assert knows(client) == DEVICE


@pytest.mark.parametrize(
    ("headers", "reason"),
    [({"user-agent": "Googlebot/2.1"}, "bot"), ({"sec-gpc": "1"}, "consent_denied")],
)
def test_who_is_not_remembered_is_told_so(make_client, headers, reason):
    """A 204 would say that the ID is the visitor's from now on."""
    client, _, _ = make_client()
    assert_untaken(hand_over(client, {"device_id": DEVICE}, {**OWN_PAGE, **headers}), reason)
    assert client.jar == {}


@pytest.mark.parametrize("choice", [1, 0, "true", "no", [True]])
def test_what_is_no_choice_takes_no_opt_out_back(make_client, choice):
    """Only `false` does; what is neither is refused."""
    client, _, _ = make_client()
    hand_over(client, {"opted_out": True})
    before = dict(client.jar)
    assert hand_over(client, {"opted_out": choice}).status == 400
    assert client.jar == before


def test_an_opt_out_counts_before_the_ids_beside_it(make_client):
    """The more private reading."""
    client, _, _ = make_client()
    hand_over(client, {"opted_out": True, "device_id": DEVICE})
    assert client.jar[SEEN] == "0"


@pytest.mark.parametrize(
    ("word", "headers", "status", "note"),
    [
        ({"device_id": DEVICE}, {**OWN_PAGE, "sec-fetch-site": "cross-site"}, 403, "handover_cross_site"),
        ({"device_id": DEVICE}, {**OWN_PAGE, "content-type": "text/plain"}, 415, "handover_content_type"),
        ({"device_id": "x" * MAX_BODY_BYTES}, OWN_PAGE, 413, "handover_too_large"),
        (b"{", OWN_PAGE, 400, "handover_malformed"),
        ({"device_id": "undefined"}, OWN_PAGE, 400, "handover_refused"),
        ({"device_id": "<script>"}, OWN_PAGE, 400, "handover_refused"),
        ({"device_id": 5}, OWN_PAGE, 400, "handover_refused"),
        ({"uid": UID}, OWN_PAGE, 400, "handover_not_expected"),
    ],
)
def test_what_is_refused_changes_nothing(make_client, word, headers, status, note):
    """The answer says why, the counters say so, and the visitor stays who he was."""
    client, tracker, _ = make_client()
    before = knows(client)
    answer = hand_over(client, word, headers)
    assert (answer.status, answer.values("set-cookie")) == (status, [])
    assert answer.values("cache-control") == ["no-store"]
    assert answer.text.endswith("\n")
    assert tracker.stats()["notes"][note] == 1
    assert knows(client) == before


def test_a_body_without_a_length_is_read_where_the_server_ends_it():
    """Chunked requests reach WSGI applications like this."""
    tracker, _ = recording_tracker()
    client = CLIENTS["wsgi"](tracker)
    assert hand_over(client, {"device_id": DEVICE}, **{"wsgi.input_terminated": True}).status == 204
    too_long = {"device_id": "x" * MAX_BODY_BYTES}
    assert hand_over(client, too_long, **{"wsgi.input_terminated": True}).status == 413


def test_only_post_hands_over(make_client):
    """And the answer says so."""
    client, _, _ = make_client()
    answer = client.request("GET", "/_visitor")
    assert (answer.status, answer.values("allow")) == (405, ["POST"])


@pytest.mark.parametrize("path", ["/_visitor", "/_visitor.js"])
@pytest.mark.parametrize("headers", [{}, {"sec-fetch-site": "cross-site"}, OWN_PAGE])
def test_the_answer_to_a_head_has_no_body(make_client, path, headers):
    """Not every server takes it off, and then the next answer on the connection would not be found."""
    client, _, _ = make_client()
    assert client.request("HEAD", path, headers).body == b""


def test_the_script_is_served_and_cached(make_client):
    """Whoever has it asks whether it has changed."""
    client, tracker, _ = make_client()
    answer = client.request("GET", "/_visitor.js")
    assert answer.status == 200
    assert answer.body == engine_of(tracker).handover_script.script()
    assert answer.values("content-type") == ["text/javascript; charset=utf-8"]
    assert answer.values("set-cookie") == []
    (etag,) = answer.values("etag")
    again = client.request("GET", "/_visitor.js", {"if-none-match": etag})
    assert (again.status, again.body) == (304, b"")
    head = client.request("HEAD", "/_visitor.js")
    assert (head.status, head.body) == (200, b"")
    assert client.request("POST", "/_visitor.js").status == 405


@pytest.mark.parametrize("settings", [{"handover_path": None}, {"browser_sdk": None}])
def test_the_path_can_be_the_applications(make_client, settings):
    """Turned off, or without any SDK, nothing is answered in its place."""
    client, _, _ = make_client(**settings)
    for path in ("/_visitor", "/_visitor.js"):
        assert client.request("GET", path).status == 200


def test_a_path_of_ones_own(make_client):
    """Ad blockers know well-known paths."""
    client, _, _ = make_client(handover_path="/a/b")
    assert client.request("GET", "/_visitor").status == 200
    assert client.request("GET", "/a/b").status == 405
    assert client.request("GET", "/a/b.js").status == 200
    assert client.request("GET", "/x/a/b").status == 200


def test_requests_left_alone_reach_the_application(make_client):
    """`request_filter` has the last word on these as well."""
    client, _, _ = make_client(request_filter=lambda facts: facts.path.startswith("/_visitor"))
    assert client.request("GET", "/_visitor").status == 200


@pytest.mark.parametrize("more", [{"root_path": "/shop", "path": "/shop/_visitor"}, {"root_path": "/shop"}])
def test_a_mounted_asgi_application(more):
    """The path is below the root, which servers may or may not repeat in it."""
    tracker, _ = recording_tracker()
    answer = CLIENTS["asgi"](tracker).request("GET", more.pop("path", "/_visitor"), **more)
    assert answer.status == 405


def test_a_mounted_wsgi_application():
    """WSGI keeps the two apart."""
    tracker, _ = recording_tracker()
    answer = CLIENTS["wsgi"](tracker).request("GET", "/_visitor", SCRIPT_NAME="/shop")
    assert answer.status == 405


def test_a_disabled_tracker_takes_nothing(make_client):
    """And breaks no page that still has the script."""
    client, _, _ = make_client(enabled=False)
    for word in ({"device_id": DEVICE}, {"opted_out": True}):
        assert_untaken(hand_over(client, word), "disabled")
    assert client.jar == {}


def test_a_known_visitor_confirms_its_id(make_client):
    """The browser has the ID that we gave it, in its localStorage: now we know."""
    client, _, _ = make_client()
    client.jar.update({COOKIE: known(DEVICE)["cookie"].removeprefix(f"{COOKIE}=")})
    hand_over(client, {"device_id": DEVICE})
    assert knows(client) == DEVICE
