"""SPiD's visitor at the hand-over endpoint: with and without a signature, and beside another SDK's."""

import base64
import hashlib
import hmac
import json
from urllib.parse import quote

import pytest
from support.handing_over import DEVICE, OTHER_UID, SEEN, UID, hand_over, knows
from support.trackers import NOW_S

SECRET = "a-sign-secret"
SPID = {"browser_sdk": "spid", "id_mode": "spid", "spid_client_id": "4321abc", "spid_sign_secret": SECRET}


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
