"""What an attacker may try, and what comes of it; over both protocols.

Each test is one threat: somebody without the signing key, who can send any request from his own browser, set
cookies from a sibling host, lead a victim's browser to us from his own site, or all of it.
"""

import json
import logging
import re

import pytest
from support.clients import CLIENTS
from support.facts import VECTORS
from support.trackers import COOKIE, TOKEN, known, recording_tracker

from mixpanel_visitor.core.identity.mixpanel_browser import quoted_identity

VICTIM = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
MALLORY = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
SDK_NAME = f"mp_{TOKEN}_mixpanel"
OWN_PAGE = {"sec-fetch-site": "same-origin", "content-type": "application/json"}


@pytest.fixture(params=list(CLIENTS))
def make(request):
    """Return a browser and its site, the tracker and the spool."""

    def build(handler=lambda visitor: visitor.track("Page"), **settings):
        tracker, spool = recording_tracker(durability="before-response", **settings)
        return CLIENTS[request.param](tracker, handler), tracker, spool

    return build


def cookie_of(device_id, **more):
    """A cookie that we have signed, without its name."""
    return known(device_id, **more)["cookie"].removeprefix(f"{COOKIE}=")


def notes(tracker):
    return tracker.stats()["notes"]


def joined(spool):
    """Every pair of device and user that Mixpanel was told."""
    pairs = set()
    for event in spool.events:
        properties = event["properties"]
        device_id = properties.get("$device_id") or properties.get("$anon_id", "").removeprefix("$device:")
        user_id = properties.get("$user_id") or properties.get("$identified_id")
        if device_id and user_id:
            pairs.add((device_id, user_id))
    return pairs


# --- a signed cookie of somebody else's ---------------------------------------------------------------


def test_fixation_is_stopped_by_the_prefix(make):
    """A sibling host can plant a validly signed cookie, but not with `__Host-`: on https only that counts."""
    client, _, _ = make()
    client.jar[COOKIE] = cookie_of(MALLORY)
    answer = client.request("GET", "/", scheme="https")
    assert answer.text != MALLORY
    assert any(value.startswith(f"__Host-{COOKIE}=") for value in answer.values("set-cookie"))


@pytest.mark.parametrize("mode", ["simplified", "original"])
def test_fixation_does_not_merge_with_a_user_who_logs_in(make, mode):
    """A planted cookie that somebody has logged in with is bound to him: the victim starts a new device."""
    client, _, spool = make(lambda visitor: (visitor.identify("anna"), visitor.track("In")), id_mode=mode)
    client.jar[COOKIE] = cookie_of(MALLORY, user_id="mallory")
    client.request("POST", "/login")
    assert {user_id for _, user_id in joined(spool)} == {"anna"}
    assert MALLORY not in {device_id for device_id, _ in joined(spool)}


def test_a_tossed_cookie_makes_both_unbelievable(make):
    """Two validly signed IDs, and no way to tell which one is the browser's: neither, and it is counted."""
    client, tracker, _ = make()
    both = f"{COOKIE}={cookie_of(MALLORY)}; {COOKIE}={cookie_of(VICTIM)}"
    assert client.request("GET", "/", {"cookie": both}).text not in (MALLORY, VICTIM)
    assert notes(tracker)["cookie_conflict"] == 1


def test_a_comma_does_not_get_past_the_prefix(make):
    """A sibling host may set a cookie whose value looks like another cookie after a comma."""
    client, _, _ = make()
    client.jar["theme"] = f"dark,__Host-{COOKIE}={cookie_of(MALLORY)}"
    assert client.request("GET", "/", scheme="https").text != MALLORY


def test_an_evicted_cookie_is_not_replaced_by_a_tossed_one(make):
    """A flooded cookie jar loses ours; what is tossed in its place has no prefix."""
    client, _, _ = make()
    client.jar.update({f"flood{number}": "x" for number in range(180)})
    client.jar[COOKIE] = cookie_of(MALLORY)
    assert client.request("GET", "/", scheme="https").text != MALLORY


@pytest.mark.parametrize(
    "header",
    ['a="; {}={}; b="', "bad name=2; {}={}", "nameless; {}={}", "=x; {}={}", 'a="\\"; {}={}; b="'],
)
def test_other_cookies_cannot_hide_ours(make, header):
    """A sandwich of quotes or one malformed pair blinds other parsers."""
    client, _, _ = make()
    assert client.request("GET", "/", {"cookie": header.format(COOKIE, cookie_of(VICTIM))}).text == VICTIM


@pytest.mark.parametrize("times", [200, 2_000])
@pytest.mark.parametrize("planted", ["a={}", "x{}1; ", "a=b {}1; "])
def test_our_name_within_other_cookies_does_not_hide_ours(make, planted, times):
    """A sibling host cannot set our cookie, but its name may stand in the value of another, many times."""
    client, _, _ = make()
    name = f"__Host-{COOKIE}"
    header = f"{planted.format(f'{name}=') * times}; {name}={cookie_of(VICTIM)}"
    assert client.request("GET", "/", {"cookie": header}, scheme="https").text == VICTIM


@pytest.mark.parametrize("name", [f"{COOKIE}_js", f"__mp_opt_in_out_{TOKEN}"])
@pytest.mark.parametrize("planted", ["a={}", "{}zzz; ", "{}1; "])
@pytest.mark.parametrize("times", [1, 300])
def test_an_opt_out_cannot_be_hidden(make, name, planted, times):
    """A "no" in any of the values counts, whatever a sibling host has put before it."""
    client, _, spool = make()
    header = f"{planted.format(f'{name}=') * times}; {name}=0"
    answer = client.request("GET", "/", {"cookie": header, "accept": "text/html"})
    assert spool.events == []
    assert not [cookie for cookie in answer.our_cookies if "=1~" in cookie]


def test_the_last_session_of_spid_cannot_be_hidden(make):
    """Of several v1 cookies the last one counts for the SDK, however many there are."""
    settings = {"browser_sdk": "spid", "id_mode": "spid", "spid_client_id": "c"}
    client, _, _ = make(**settings)
    junk = "vgs_js_c=%7B%22visitor%22%3A%7B%22uid%22%3A%22notthevisitor%22%7D%7D; " * 300
    header = f"{junk}vgs_js_c=%7B%22visitor%22%3A%7B%22uid%22%3A%221ab2c3Xt3n8cgX0zk9m4%22%7D%7D"
    assert client.request("GET", "/", {"cookie": header}).text == "1ab2c3Xt3n8cgX0zk9m4"


def test_the_sdks_cookie_cannot_be_hidden(make):
    """Its name in another cookie's value is no cookie."""
    client, _, _ = make()
    header = f"a={f'{SDK_NAME}=' * 300}; {SDK_NAME}={quoted_identity(VICTIM)}"
    assert client.request("GET", "/", {"cookie": header}).text == VICTIM


@pytest.mark.parametrize("size", [5_000, 65_536])
def test_oversize_is_refused_unread(make, size):
    """As our cookie, as the SDK's, and as thousands of pairs: another visitor, and no harm."""
    client, tracker, _ = make()
    for cookies in (
        f"{COOKIE}={'x' * size}",
        f"{SDK_NAME}={'%7B' * (size // 3)}",
        f"{COOKIE}=1;" * (size // 15),
    ):
        assert client.request("GET", "/", {"cookie": cookies}).status == 200
    assert notes(tracker)["cookie_oversized"] == 1
    assert "internal_error" not in notes(tracker)


def test_a_forged_cookie_is_nobodys(make):
    """Whatever is changed in a signed value, it is not believed."""
    client, tracker, _ = make()
    forged = cookie_of(VICTIM).replace(VICTIM, MALLORY)
    assert client.request("GET", "/", {"cookie": f"{COOKIE}={forged}"}).text not in (VICTIM, MALLORY)
    assert notes(tracker)["cookie_bad_signature"] == 1


# --- an unsigned ID ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    [
        {"distinct_id": "anna@example.com"},
        {"distinct_id": "anna@example.com", "$device_id": "anna@example.com"},
        {"distinct_id": "42"},
        {"distinct_id": VICTIM},
        {"distinct_id": "42", "$device_id": "42", "$had_persisted_distinct_id": True},
        {"distinct_id": f"$device:{VICTIM}", "$device_id": MALLORY},
    ],
)
def test_nobody_writes_into_a_users_profile(make, identity):
    """Only what can be no user's ID is taken from a cookie that anybody can write."""
    client, tracker, spool = make()
    quoted = json.dumps(identity, separators=(",", ":"))
    for plain, encoded in (
        ("{", "%7B"),
        ("}", "%7D"),
        ('"', "%22"),
        (":", "%3A"),
        (",", "%2C"),
        ("$", "%24"),
    ):
        quoted = quoted.replace(plain, encoded)
    client.request("GET", "/", {"cookie": f"{SDK_NAME}={quoted}", "accept": "text/html"})
    (event,) = spool.events
    ours = f"$device:{event['properties']['$device_id']}"
    assert event["properties"]["distinct_id"] == ours
    assert not {identity["distinct_id"], f"$device:{VICTIM}", f"$device:{MALLORY}"} & {ours}
    assert notes(tracker)["mixpanel_cookie_refused"] == 1


def test_a_user_in_the_sdks_cookie_is_not_logged_in(make):
    """Who is logged in, only the application knows."""
    client, _, spool = make()
    value = quoted_identity(MALLORY).replace(f"%24device%3A{MALLORY}", "anna").removesuffix("%7D")
    client.request("GET", "/", {"cookie": f"{SDK_NAME}={value}%2C%22%24user_id%22%3A%22anna%22%7D"})
    assert joined(spool) == set()
    assert spool.events[0]["properties"]["distinct_id"] == f"$device:{MALLORY}"


@pytest.mark.parametrize("name", ["x-visitor-id", "x-mixpanel-distinct-id", "x-device-id", COOKIE])
def test_no_id_is_taken_from_headers(make, name):
    """What other middlewares believe."""
    client, _, _ = make()
    assert client.request("GET", "/", {name: VICTIM}).text != VICTIM


def test_no_id_is_taken_from_a_query(make):
    """Links are shared, logged, and sent to other sites as referrers."""
    client, _, _ = make()
    query = f"{COOKIE}={cookie_of(VICTIM)}&distinct_id={VICTIM}&visitor_id={VICTIM}"
    more = (
        {"query_string": query.encode()} if isinstance(client, CLIENTS["asgi"]) else {"QUERY_STRING": query}
    )
    assert client.request("GET", "/", **more).text != VICTIM


@pytest.mark.parametrize("mode", ["simplified", "original"])
def test_a_victims_device_is_not_merged_with_the_attackers_user(make, mode):
    """Who sends somebody's device ID with his own log-in joins nothing: it was not in our signed cookie."""
    client, _, spool = make(lambda visitor: (visitor.identify("mallory"), visitor.track("In")), id_mode=mode)
    client.jar[SDK_NAME] = quoted_identity(VICTIM)
    client.request("POST", "/login")
    assert VICTIM not in {device_id for device_id, _ in joined(spool)}
    assert "$merge" not in spool.names


def log_in_at(path):
    """A handler that logs anna in at one path, and tracks at all."""

    def handler(visitor):
        if visitor._scope.facts.path == path:
            visitor.identify("anna")
        visitor.track("Page")

    return handler


def plant(client, way, device_id):
    """Bring a device ID into a browser: by the SDK's cookie, as a sibling host can, or by a hand-over."""
    if way == "cookie":
        client.jar[SDK_NAME] = quoted_identity(device_id)
    else:
        client.request("POST", "/_visitor", OWN_PAGE, json.dumps({"device_id": device_id}).encode())


@pytest.mark.parametrize("mode", ["simplified", "original"])
@pytest.mark.parametrize("way", ["cookie", "hand-over"])
@pytest.mark.parametrize("named", [False, True], ids=["anonymous", "with-the-user"])
def test_a_planted_device_is_not_joined_without_a_log_in(make, mode, way, named):
    """Not even after many pages, to somebody who was logged in before; whatever user the cookie names."""
    client, _, spool = make(log_in_at("/login"), id_mode=mode)
    client.request("POST", "/login")
    plant(client, way, MALLORY)
    if named and way == "cookie":
        start = f"%7B%22distinct_id%22%3A%22anna%22%2C%22%24device_id%22%3A%22{MALLORY}%22%2C"
        client.jar[SDK_NAME] = f"{start}%22%24user_id%22%3A%22anna%22%7D"
    for _ in range(4):
        client.request("GET", "/")
    assert MALLORY not in {device_id for device_id, _ in joined(spool)}
    assert {event["properties"]["distinct_id"] for event in spool.events} == {"anna"}


@pytest.mark.parametrize("mode", ["simplified", "original"])
@pytest.mark.parametrize("way", ["cookie", "hand-over"])
def test_a_device_of_the_browsers_is_joined_at_a_log_in_from_the_second_request_on(make, mode, way):
    """That keeps one person one; the threat model says what somebody may do with it."""
    client, _, spool = make(log_in_at("/login"), id_mode=mode)
    plant(client, way, MALLORY)
    client.request("GET", "/")
    client.request("GET", "/")
    assert joined(spool) == set()
    client.request("POST", "/login")
    assert MALLORY in {device_id for device_id, _ in joined(spool)}


# --- the hand-over ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "content-type": "application/json"},
        {"sec-fetch-site": "same-site", "content-type": "application/json"},
        {"sec-fetch-site": "none", "content-type": "application/json"},
        {"origin": "https://attacker.example", "content-type": "application/json"},
        {"origin": "null", "content-type": "application/json"},
        {"content-type": "application/json"},
        {"sec-fetch-site": "same-origin", "content-type": "text/plain;charset=UTF-8"},
        {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"},
        {"sec-fetch-site": "same-origin", "content-type": "multipart/form-data"},
    ],
)
def test_no_other_site_hands_an_id_over(make, headers):
    """Neither by a form nor by a beacon, which need no preflight; and no CORS header invites anybody."""
    client, _, _ = make()
    answer = client.request("POST", "/_visitor", headers, json.dumps({"device_id": MALLORY}).encode())
    assert answer.status in (403, 415)
    assert answer.values("set-cookie") == []
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]
    assert client.request("GET", "/").text != MALLORY


def test_a_preflight_is_not_answered(make):
    """So a browser does not send what would need one."""
    client, _, _ = make()
    answer = client.request("OPTIONS", "/_visitor", {"origin": "https://attacker.example"})
    assert answer.status == 405
    assert not answer.values("access-control-allow-origin")


def test_a_replayed_session_is_old(make):
    """A `sig` can be sent from any browser, but not for long."""
    session = VECTORS["spid_sig"]["freshness"]
    settings = {"browser_sdk": "spid", "id_mode": "spid", "spid_client_id": "c"}
    client, tracker, _ = make(spid_sign_secret=session["secret"], **settings)
    body = json.dumps({"sig": session["sig"]}).encode()
    assert client.request("POST", "/_visitor", OWN_PAGE, body).status == 400
    assert notes(tracker)["spid_sig_stale"] == 1


def test_the_outer_object_of_a_session_is_not_believed(make):
    """The signature covers what is inside of it, and only that is read."""
    forged = VECTORS["spid_cookie_tampered"]
    settings = {"browser_sdk": "spid", "id_mode": "spid", "spid_client_id": "c", "now_s": 1_760_000_000}
    client, _, _ = make(spid_sign_secret=forged["secret"], **settings)
    answer = client.request("GET", "/", {"cookie": f"spid_js_c={forged['raw']}"})
    assert answer.text == forged["signed_uid"]


# --- junk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("banned", [*VECTORS["mixpanel_disallowed_ids"], "NULL", "Undefined"])
def test_banned_ids_are_nobodys(make, banned):
    """Bugs send them for many people, who would become one."""
    client, _, _ = make()
    cookie = f"{SDK_NAME}={quoted_identity(banned)}"
    assert client.request("GET", "/", {"cookie": cookie}).text != banned
    body = json.dumps({"device_id": banned}).encode()
    assert client.request("POST", "/_visitor", OWN_PAGE, body).status == 400


SURROGATE = "\ud800"
HOSTILE = ["a\r\nSet-Cookie: x=1", "\x1b[31mred", "</script><script>alert(1)</script>", SURROGATE, "a b", "é"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_hostile_reaches_headers_logs_or_pages(make, caplog, hostile):
    """An ID has a strict alphabet; what has not, is refused without being repeated anywhere."""
    caplog.set_level(logging.DEBUG)
    client, _, _ = make()
    body = json.dumps({"device_id": hostile}).encode()
    answers = [
        client.request("POST", "/_visitor", OWN_PAGE, body),
        client.request(
            "GET", "/", {"cookie": f"{SDK_NAME}={quoted_identity(hostile.replace(chr(0xD800), '?'))}"}
        ),
    ]
    for answer in answers:
        assert re.fullmatch(r"[0-9a-f-]{36}|[ -~\n]*", answer.text)
        assert hostile not in answer.text
        assert all(value.isprintable() for _, value in answer.headers)
    assert hostile not in caplog.text


def test_ids_do_not_stand_in_logs(make, caplog):
    """They are personal data; what is logged and counted are reasons."""
    caplog.set_level(logging.DEBUG)
    client, tracker, _ = make()
    client.request("GET", "/", {"cookie": f"{COOKIE}={cookie_of(VICTIM)}; {COOKIE}={cookie_of(MALLORY)}"})
    client.request("POST", "/_visitor", OWN_PAGE, b'{"device_id": "%s "}' % VICTIM.encode())
    assert VICTIM not in caplog.text
    assert VICTIM not in json.dumps(tracker.stats())


# --- shared caches and bots --------------------------------------------------------------------------------


def test_the_script_is_the_same_for_everybody(make):
    """It is cached by shared caches, so it holds no visitor's ID and sets none."""
    client, _, _ = make()
    answer = client.request("GET", "/_visitor.js", {"cookie": f"{COOKIE}={cookie_of(VICTIM)}"})
    assert answer.body == client.request("GET", "/_visitor.js").body
    assert answer.values("set-cookie") == []


def test_an_answer_with_our_cookie_is_private(make):
    """Or a shared cache would hand one visitor's ID to everybody."""
    client, _, _ = make()
    answer = client.request("GET", "/")
    assert answer.our_cookies
    assert answer.values("cache-control") == ["private"]


@pytest.mark.parametrize(
    "headers",
    [{"user-agent": "Googlebot/2.1"}, {"sec-purpose": "prefetch"}, {"purpose": "prefetch"}],
)
def test_nobody_is_minted_for_robots_and_prefetches(make, headers):
    """Millions of visitors who never come again."""
    client, _, _ = make()
    client.request("GET", "/", {**headers, "accept": "text/html"})
    assert client.jar == {}
