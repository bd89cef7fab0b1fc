"""The hand-over endpoint and the script for it, over both protocols."""

import base64
import hashlib
import hmac
import json
from urllib.parse import quote

import pytest
from support.clients import CLIENTS
from support.trackers import COOKIE, NOW_S, TOKEN, known, recording_tracker

from mixpanel_visitor.core.identity.handover import MAX_BODY_BYTES
from mixpanel_visitor.tracking.tracker import engine_of

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
OTHER = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
UID = "1ab2c3Xt3n8cgX0zk9m4"
OTHER_UID = "XXab12Xt3n8cgXXXXXX7"
SEEN = f"{COOKIE}_js"
SECRET = "a-sign-secret"
OWN_PAGE = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
SPID = {"browser_sdk": "spid", "id_mode": "spid", "spid_client_id": "4321abc", "spid_sign_secret": SECRET}


@pytest.fixture(params=list(CLIENTS))
def make_client(request):
    """Return a client over either protocol, its tracker and its spool."""

    def build(handler=lambda _visitor: None, **settings):
        tracker, spool = recording_tracker(durability="before-response", **settings)
        return CLIENTS[request.param](tracker, handler), tracker, spool

    return build


def signed(uid=UID, **more):
    """Sign a session as SPiD does."""
    session = {
        "serverTime": int(NOW_S),
        "expiresIn": 7200,
        "visitor": {"uid": uid},
        "algorithm": "HMAC-SHA256",
    }
    payload = base64.urlsafe_b64encode(json.dumps({**session, **more}).encode()).rstrip(b"=")
    mac = hmac.new(SECRET.encode(), payload, hashlib.sha256).digest()
    return f"{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}.{payload.decode()}"


def hand_over(client, word, headers=OWN_PAGE, **more):
    body = word if isinstance(word, bytes) else json.dumps(word).encode()
    return client.request("POST", "/_visitor", headers, body, **more)


def assert_untaken(answer, reason):
    """Check that the script is told to try again later, without an error in the page's console."""
    assert (answer.status, json.loads(answer.body)) == (200, {"taken": False, "reason": reason})
    assert answer.values("cache-control") == ["no-store"]
    assert answer.values("content-length") == [str(len(answer.body))]


def knows(client):
    """Whom the server takes the browser for on its next request."""
    return client.request("GET", "/").text


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


def test_a_signed_session_gives_the_uid(make_client):
    """SPiD's word, for which we vouch."""
    seen = []
    client, _, _ = make_client(lambda visitor: seen.append((visitor.vouched, visitor.distinct_id)), **SPID)
    assert hand_over(client, {"sig": signed()}).status == 204
    assert knows(client) == UID
    assert seen == [(True, UID)]


def test_an_anonymous_uid_is_the_browsers_word(make_client):
    """Nobody has signed it, but the site's own page has said it."""
    seen = []
    client, _, _ = make_client(lambda visitor: seen.append((visitor.vouched, visitor.distinct_id)), **SPID)
    assert hand_over(client, {"uid": UID}).status == 204
    assert knows(client) == UID
    assert seen == [(False, UID)]


@pytest.mark.parametrize(
    ("settings", "session"),
    [
        ({"spid_sign_secret": None}, {}),
        ({"spid_sign_secret": "the-new-secret"}, {}),
        ({}, {"serverTime": int(NOW_S) - 7261}),
        ({}, {"serverTime": int(NOW_S) + 120}),
        ({}, {"algorithm": "none"}),
    ],
    ids=["no secret", "rotated", "old", "clock ahead", "another algorithm"],
)
def test_a_signature_that_is_not_to_be_believed_leaves_the_uid(make_client, settings, session):
    """As an unsigned one: the browser counts by it, and so does the server."""
    seen = []
    settings = {**SPID, **settings}
    client, _, _ = make_client(
        lambda visitor: seen.append((visitor.vouched, visitor.distinct_id)), **settings
    )
    assert hand_over(client, {"sig": signed(**session), "uid": UID}).status == 204
    assert knows(client) == UID
    assert seen == [(False, UID)]


@pytest.mark.parametrize("word", [{}, {"uid": "null"}, {"uid": "<script>"}])
def test_without_a_uid_a_bad_signature_is_refused(make_client, word):
    """There is nothing to take."""
    client, _, _ = make_client(**SPID)
    assert hand_over(client, {"sig": "x", **word}).status == 400


def test_of_a_good_signature_the_uid_beside_it_is_not_believed(make_client):
    """What is signed counts."""
    client, _, _ = make_client(**SPID)
    hand_over(client, {"sig": signed(), "uid": OTHER_UID})
    assert knows(client) == UID


@pytest.mark.parametrize("word", [{"uid": OTHER_UID}, {"uid": OTHER_UID, "sig": "unbelievable"}])
def test_what_the_page_says_now_replaces_a_signed_uid(make_client, word):
    """The session at SPiD has ended: the next, anonymous person is not counted as the one before."""
    client, _, _ = make_client(**SPID)
    hand_over(client, {"sig": signed(), "uid": UID})
    assert hand_over(client, word).status == 204
    assert knows(client) == OTHER_UID


@pytest.mark.parametrize("user", ["own-7", "7" * 200])
def test_the_services_own_user_goes_with_the_user_of_spid(make_client, user):
    """Somebody else signs in at SPiD on the same browser."""
    users = []

    def handler(visitor):
        users.append(visitor.user_id)
        if len(users) == 1:
            visitor.identify(user)

    client, _, _ = make_client(handler, **SPID)
    hand_over(client, {"sig": signed(), "uid": UID})
    for _ in range(2):
        client.request("GET", "/")
    hand_over(client, {"sig": signed(OTHER_UID), "uid": OTHER_UID})
    client.request("GET", "/")
    assert users == [None, user, None]
    assert knows(client) == OTHER_UID


def test_the_script_is_told_which_session_was_judged(make_client):
    """The beginning of its signature, so that a later session of the same uid is handed over."""
    client, _, _ = make_client(**SPID)
    hand_over(client, {"uid": UID})
    device_id = client.jar[SEEN].partition("~")[0]
    assert client.jar[SEEN] == f"{device_id}~{UID}~"
    sig = signed()
    hand_over(client, {"sig": sig, "uid": UID})
    assert client.jar[SEEN] == f"{device_id}~{UID}~{sig[:8]}"
    hand_over(client, {"sig": "stale123.x", "uid": UID})
    assert client.jar[SEEN] == f"{device_id}~{UID}~stale123"


def test_a_later_signature_vouches_for_a_uid_that_was_known(make_client):
    """The uid stays at a log-in, and now SPiD has signed it."""
    vouched = []
    client, _, _ = make_client(lambda visitor: vouched.append(visitor.vouched), **SPID)
    hand_over(client, {"uid": UID})
    knows(client)
    hand_over(client, {"uid": UID, "sig": signed()})
    knows(client)
    assert vouched == [False, True]


def test_the_user_of_a_signed_session_is_the_handlers(make_client):
    """SPiD's own ID, as long as the session lasts; it is remembered, where no cookie of SPiD's is sent."""
    users, now_s = [], [NOW_S]
    client, _, _ = make_client(
        lambda visitor: users.append(visitor.spid_user_id), **SPID, clock=lambda: now_s[0]
    )
    hand_over(client, {"sig": signed(userId=270177), "uid": UID})
    for later_s in (0, 7199, 7201):
        now_s[0] = NOW_S + later_s
        knows(client)
    assert users == [270177, 270177, None]


@pytest.mark.parametrize(
    "ends",
    [
        lambda client: hand_over(client, {"uid": UID}),
        lambda client: hand_over(client, {"uid": OTHER_UID}),
        lambda client: hand_over(client, {"uid": UID, "sig": "unbelievable"}),
        lambda client: hand_over(client, {"opted_out": True}),
    ],
    ids=["log-out at SPiD", "another visitor", "no signature to believe", "opt-out"],
)
def test_the_user_of_a_session_goes_with_it(make_client, ends):
    """Whom nobody vouches for any more is nobody."""
    users = []
    client, _, _ = make_client(lambda visitor: users.append(visitor.spid_user_id), **SPID)
    hand_over(client, {"sig": signed(userId=270177), "uid": UID})
    knows(client)
    ends(client)
    knows(client)
    assert users == [270177, None]


@pytest.mark.parametrize("user_id", [None, "270177", True, 0, -1, 2**70, 1.5])
def test_what_is_no_user_of_spids_is_none(make_client, user_id):
    """And the uid counts all the same."""
    users = []
    client, _, _ = make_client(lambda visitor: users.append(visitor.spid_user_id), **SPID)
    assert hand_over(client, {"sig": signed(userId=user_id), "uid": UID}).status == 204
    assert knows(client) == UID
    assert users == [None]


def test_the_user_of_an_unsigned_session_is_nobodys(make_client):
    """`visitor.user_id` names the last one known, logged in or not."""
    users = []
    client, _, _ = make_client(
        lambda visitor: users.append(visitor.spid_user_id), **{**SPID, "spid_sign_secret": None}
    )
    hand_over(client, {"sig": signed(userId=270177), "uid": UID})
    knows(client)
    assert users == [None]


def test_the_session_in_a_cookie_of_v1_has_its_user(make_client):
    """Read with each request."""
    users = []
    client, _, _ = make_client(lambda visitor: users.append(visitor.spid_user_id), **SPID)
    session = {"visitor": {"uid": UID}, "userId": 8, "sig": signed(userId=7)}
    client.jar["vgs_js_4321abc"] = quote(json.dumps(session))
    knows(client)
    assert users == [7]


def test_two_sdks_are_heard_in_one_hand_over(make_client):
    """Two at once would each replace the other one's cookie."""
    client, _, _ = make_client(**{**SPID, "browser_sdk": ("mixpanel", "spid")})
    assert hand_over(client, {"device_id": DEVICE, "uid": UID}).status == 204
    assert client.jar[SEEN] == f"{DEVICE}~{UID}~"
    assert knows(client) == UID


@pytest.mark.parametrize(
    "word",
    [{"device_id": "<script>", "uid": UID}, {"device_id": None, "uid": UID}, {"device_id": 5, "uid": UID}],
)
def test_what_is_bad_does_not_spoil_what_is_good(make_client, word):
    """The other SDK's ID is taken."""
    client, _, _ = make_client(**{**SPID, "browser_sdk": ("mixpanel", "spid")})
    assert hand_over(client, word).status == 204
    assert knows(client) == UID


@pytest.mark.parametrize(("order", "expected"), [(("mixpanel", "spid"), DEVICE), (("spid", "mixpanel"), UID)])
def test_of_two_ids_in_one_hand_over_the_first_sdk_s_counts(make_client, order, expected):
    """As with their cookies; and the script is told that both were heard."""
    client, _, _ = make_client(**{**SPID, "id_mode": "simplified", "browser_sdk": order})
    hand_over(client, {"device_id": DEVICE, "uid": UID})
    assert knows(client) == expected
    assert {DEVICE, UID} <= set(client.jar[SEEN].split("~"))
    client.request("GET", "/", {"accept": "text/html"})
    assert SEEN in client.jar


def test_what_came_before_the_uid_is_joined_to_it(make_client):
    """The page was served before SPiD had answered: its events were the device's."""
    client, _, spool = make_client(lambda visitor: visitor.track("Page"), **SPID)
    device_id = knows(client)
    hand_over(client, {"uid": UID})
    hand_over(client, {"uid": UID})
    page, identify, identified = spool.events
    assert page["properties"]["distinct_id"] == f"$device:{device_id}"
    assert identify["event"] == "$identify"
    assert identify["properties"]["$anon_id"] == f"$device:{device_id}"
    assert identified["event"] == "Visitor identified"
    assert identified["properties"].items() >= {"$device_id": device_id, "$user_id": UID}.items()


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
