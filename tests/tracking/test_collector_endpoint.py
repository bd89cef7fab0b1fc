"""The collector over both protocols: what is taken in, what is refused, and what becomes of it."""

import asyncio
import gzip
import json
import threading

import pytest
from support.asgi_driver import Conversation, http_scope, run
from support.clients import CLIENTS
from support.collecting import DEVICE, OTHER_DEVICE, PAGE, QUERY, event, form, plain, update
from support.trackers import NOW_S, TOKEN, known, recording_tracker

from mixpanel_visitor.asgi import MAX_HELD_BYTES
from mixpanel_visitor.asgi import VisitorMiddleware as AsgiMiddleware
from mixpanel_visitor.core.collector.admission import MAX_BODY_BYTES
from mixpanel_visitor.core.collector.routes import own_names
from mixpanel_visitor.errors import SpoolFullError, SpoolUnavailableError
from mixpanel_visitor.plan import Plan
from mixpanel_visitor.process import timed_read
from mixpanel_visitor.testing import capture_events
from mixpanel_visitor.tracking import collector_endpoint
from mixpanel_visitor.wsgi import VisitorMiddleware

ADDED = {"ip": "127.0.0.1", "time": round((NOW_S - 3.25) * 1000)}
"""The address, and the SDK's own time in milliseconds."""

OUT_OPT = f"__mp_opt_in_out_{TOKEN}"


class Site:
    """A site with a collector, and a browser at it; `signed`: the browser has our cookie."""

    def __init__(self, protocol, *, signed=True, handler=lambda _visitor: None, **settings):
        self.tracker, self.spool = recording_tracker(collector_path="/m", **settings)
        self.client = CLIENTS[protocol](self.tracker, handler)
        if signed:
            more = signed if isinstance(signed, dict) else {}
            name, _, value = known(**more)["cookie"].partition("=")
            self.client.jar[name] = value

    def send(self, items, route="track", headers=None, *, query=QUERY, encode=form, method="POST"):
        body = items if isinstance(items, bytes) else encode(items)
        path = f"/m/{route}/"
        more = (
            {"QUERY_STRING": query}
            if isinstance(self.client, CLIENTS["wsgi"])
            else {"query_string": query.encode()}
        )
        return self.client.request(method, path, {**PAGE, **(headers or {})}, body, **more)

    @property
    def refused(self):
        return self.tracker.stats()["refused"]

    @property
    def notes(self):
        return self.tracker.stats()["notes"]

    @property
    def properties(self):
        return [each["properties"] for each in self.spool.events]


@pytest.fixture(params=list(CLIENTS))
def make(request):
    """Return a site over either protocol, with settings."""
    sites = []

    def make(**settings):
        sites.append(Site(request.param, **settings))
        return sites[-1]

    yield make
    for site in sites:
        site.tracker.close(0)


def assert_taken(answer):
    """Check the answer that the SDK takes for success."""
    assert (answer.status, json.loads(answer.body)) == (200, {"status": 1, "error": None})
    assert answer.values("cache-control") == ["no-store"]
    assert answer.values("content-length") == [str(len(answer.body))]
    assert not answer.values("set-cookie")
    assert not answer.values("access-control-allow-origin")


def assert_refused(answer, status):
    """Check that an answer says why not."""
    said = json.loads(answer.body)
    assert (answer.status, said["status"]) == (status, 0)
    assert said["error"]


# --- taking in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [form, plain, lambda items: json.dumps(items).encode()])
def test_a_batch_is_stored_as_the_sdk_has_sent_it(make, encode):
    """Each event with its own moment, insert ID and identity; only the address is added."""
    site = make()
    assert_taken(site.send([event("One"), event("Two", item="tea")], encode=encode))
    assert [each["event"] for each in site.spool.events] == ["One", "Two"]
    assert site.properties == [
        {**event("One")["properties"], **ADDED},
        {**event("Two", item="tea")["properties"], **ADDED},
    ]
    assert site.tracker.stats()["accepted"] == 2


def test_a_beacon_is_text(make):
    """With the same body."""
    site = make()
    headers = {"content-type": "text/plain;charset=UTF-8", "sec-fetch-mode": "no-cors"}
    assert_taken(site.send([event()], headers=headers))
    assert site.spool.names == ["Clicked"]


def test_gzip(make):
    """Where a page's own code packs its batches."""
    site = make()
    assert_taken(site.send(gzip.compress(form([event()])), headers={"content-encoding": "gzip"}))
    assert site.spool.names == ["Clicked"]


def test_without_verbose_the_answer_is_one_digit(make):
    """As the SDK reads it after `send_immediately`."""
    site = make()
    answer = site.send(event(), query="ip=1&_=1")
    assert (answer.status, answer.body) == (200, b"1")
    assert site.send(b"data=!", query="ip=1&_=1").body == b"0"


@pytest.mark.parametrize("route", ["track", "engage", "groups"])
def test_the_projects_own_names_lead_to_the_same(make, route):
    """Those that the page is told."""
    site = make()
    group = {"$group_key": "company", "$group_id": "Acme"}
    sent = {"track": event(), "engage": update(), "groups": update(**group)}[route]
    assert_taken(site.send([sent], own_names(TOKEN)[route]))
    assert len(site.spool.records) == 1


def test_a_profile_update_goes_to_its_endpoint(make):
    """With the address that we see, for Mixpanel's geography, and the time at which it came."""
    site = make()
    assert_taken(site.send([update("$add", {"visits": 1})], "engage"))
    (sent,) = site.spool.messages("engage")
    assert sent == {**update("$add", {"visits": 1}), "$ip": "127.0.0.1", "$time": NOW_S}


def test_a_group_update_goes_to_its_endpoint(make):
    """Which knows no address."""
    site = make()
    sent = update(**{"$group_key": "company", "$group_id": "Acme"})
    assert_taken(site.send([sent], "groups"))
    assert site.spool.messages("groups") == [{**sent, "$time": NOW_S}]


def test_what_is_missing_is_made(make):
    """An old SDK sends no insert ID."""
    site = make()
    assert_taken(site.send([event(**{"$insert_id": None, "time": None})]))
    (properties,) = site.properties
    assert properties["time"] == round(NOW_S * 1000)
    assert properties["$insert_id"].startswith("insert-")


def test_no_cookie_is_set(make):
    """A page whose SDK keeps its ID elsewhere would become two visitors."""
    site = make(signed=False)
    assert_taken(site.send([event()]))
    assert not site.client.jar


def test_the_rest_of_the_site_goes_on(make):
    """The application answers what is not the collector's."""
    site = make()
    assert site.client.request("GET", "/m/").text == DEVICE
    assert site.client.request("POST", "/m/tracks/").text == DEVICE


def test_without_a_path_there_is_none(make):
    """It is off by default."""
    tracker, spool = recording_tracker()
    for client in CLIENTS.values():
        assert client(tracker).request("POST", "/m/track/", PAGE, form([event()])).status == 200
    assert spool.records == []


# --- refused ------------------------------------------------------------------------------------------


def test_another_projects_token(make):
    """Its events are left out, and the log says what to do; the batch's others are taken."""
    site = make()
    answer = site.send([event(token="other"), event("Ours")])
    assert (answer.status, json.loads(answer.body)["error"]) == (200, "1 of 2 were refused")
    assert site.spool.names == ["Ours"]
    assert site.refused == {"collector_token": 1}
    site.send([update(token="other")], "engage")
    assert site.spool.messages("engage") == []


@pytest.mark.parametrize("site_name", ["cross-site", "same-site", "none"])
def test_other_sites(make, site_name):
    """403, whatever they know."""
    site = make()
    assert_refused(site.send([event()], headers={"sec-fetch-site": site_name}), 403)
    assert site.spool.records == []
    assert site.notes["collector_cross_site"] == 1


def test_other_methods(make):
    """405: by GET events would stand in the logs of every proxy."""
    site = make()
    answer = site.send(b"", method="GET")
    assert_refused(answer, 405)
    assert answer.values("allow") == ["POST"]


def test_recordings(make):
    """404: a Python process is a poor tunnel for them."""
    assert_refused(make().send(b"\x1f\x8b", "record"), 404)


@pytest.mark.parametrize("body", [b"", b"data=", b"data=W10x", b"{", bytes(range(256))])
def test_what_is_no_body(make, body):
    """400, so that the SDK does not send it for ever."""
    site = make()
    assert_refused(site.send(body), 400)
    assert site.notes["collector_malformed"] == 1


def test_too_large(make):
    """413: the SDK halves its batch."""
    site = make()
    assert_refused(site.send(b"x" * (2**20 + 1)), 413)
    assert_refused(site.send([0] * 2_001), 413)
    assert site.notes["collector_too_large"] == 2


@pytest.mark.parametrize(
    "item",
    [
        0, None, [], "x", {}, {"event": "x"}, {"event": 1, "properties": {}},
        {"event": "x", "properties": []},
        {"event": "", "properties": {"token": TOKEN, "distinct_id": "x"}}, event(time="yesterday"),
        event(time=NOW_S + 7_200), event(**{"distinct_id": "null", "$device_id": "null"}),
        event(**{"$insert_id": "x" * 40}), event(a={"b": {"c": {"d": {}}}}), event("$merge"),
        event(**{f"p{number}": 1 for number in range(255)}),
    ],
)  # fmt: skip
def test_one_bad_event_is_left_out(make, item):
    """It is counted; the others of its batch are stored, and the SDK forgets all of them."""
    site = make()
    assert site.send([item, event("Good")]).status == 200
    assert site.spool.names == ["Good"]
    assert sum(site.refused.values()) == 1
    assert "internal_error" not in site.refused


@pytest.mark.parametrize(
    "item", [0, {}, update("$explode"), update("$add", {"a": "b"}), update("$union", {"a": 1})]
)
def test_one_bad_update_is_left_out(make, item):
    """As Mixpanel would do."""
    site = make()
    assert site.send([item, update()], "engage").status == 200
    assert len(site.spool.messages("engage")) == 1
    assert sum(site.refused.values()) == 1


# --- when it cannot be stored ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [SpoolFullError("full"), SpoolUnavailableError("gone"), RuntimeError("bug")]
)
def test_what_the_spool_does_not_take(make, trouble):
    """503, with which the SDK keeps its batch; it counts as refused each time."""
    site = make()
    site.spool.trouble = trouble
    answer = site.send([event()])
    assert_refused(answer, 503)
    assert answer.values("retry-after")
    site.spool.trouble = None
    assert_taken(site.send([event()]))
    stats = site.tracker.stats()
    assert (stats["accepted"], stats["pending"], sum(stats["refused"].values())) == (2, 1, 1)


def test_half_of_the_spool_is_the_servers(make):
    """Browsers' events are refused while more is used, and the server's are stored."""
    site = make(handler=lambda visitor: visitor.track("Ours"))
    site.spool._max_bytes = 1_500
    assert_taken(site.send([event("One"), event("Two")]))
    assert site.spool.fill() < 0.5
    assert_taken(site.send([event("Three")]))
    assert site.spool.fill() > 0.5
    assert_refused(site.send([event("Four")]), 503)
    site.client.request("GET", "/")
    site.tracker._engine.pipeline.committer.drain(5)
    assert site.spool.names == ["One", "Two", "Three", "Ours"]


def test_a_closed_tracker(make):
    """503: another process may take it."""
    site = make()
    site.tracker.close()
    assert_refused(site.send([event()]), 503)


@pytest.mark.parametrize("durability", ["after-response", "before-response"])
def test_it_is_stored_before_the_answer(make, durability):
    """Whatever the durability of other requests is."""
    site = make(durability=durability)
    site.send([event()])
    assert site.spool.names == ["Clicked"]


# --- rate -----------------------------------------------------------------------------------------------


def test_one_visitor_who_sends_too_much(make):
    """429: the SDK keeps its batch, and waits."""
    now_s = [0.0]
    site = make(monotonic=lambda: now_s[0])
    statuses = [site.send([event()]).status for _ in range(160)]
    assert statuses == [200] * 150 + [429] * 10
    assert site.notes["collector_rate"] == 10
    assert len(site.spool.events) == 150
    now_s[0] = 1.0
    assert [site.send([event()]).status for _ in range(6)] == [200] * 5 + [429]


def test_one_address_that_sends_too_much(make):
    """Without a cookie it is an address and nothing else; a large body counts as many small ones."""
    site = make(signed=False, monotonic=lambda: 0.0)
    statuses = [site.send(b"x" * 1_000_000).status for _ in range(18)]
    assert statuses == [400] * 16 + [429] * 2


# --- whose they are -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signed", "sent", "mark", "note"),
    [
        (True, event(), None, None),
        ({"user_id": "anna"}, event(user="anna"), None, None),
        ({"earlier_id": OTHER_DEVICE}, event(device=OTHER_DEVICE), None, "collector_earlier_id"),
        (True, event(device=OTHER_DEVICE), "device", "collector_differs"),
        ({"user_id": "anna"}, event(user="eve"), "user", "collector_differs"),
        (True, event(user="eve"), None, "collector_unknown_user"),
        (False, event(), None, "collector_unsigned"),
    ],
)
def test_what_differs_is_marked_and_counted(make, signed, sent, mark, note):
    """And never changed."""
    site = make(signed=signed)
    assert_taken(site.send([sent]))
    (properties,) = site.properties
    ids = ("distinct_id", "$device_id", "$user_id")
    assert [properties.get(name) for name in ids] == [sent["properties"].get(name) for name in ids]
    assert properties.get("visitor_mismatch") == mark
    assert [name for name in site.notes if name.startswith("collector")] == ([note] if note else [])


@pytest.mark.parametrize(
    ("signed", "sent", "reason"),
    [
        (True, event(), None),
        ({"user_id": "anna"}, event(user="anna"), None),
        (True, event(device=OTHER_DEVICE), "collector_differs"),
        ({"user_id": "anna"}, event(user="eve"), "collector_differs"),
        (True, event(user="eve"), "collector_unknown_user"),
        (False, event(user="eve"), "collector_unknown_user"),
        (False, event(), None),
    ],
)
def test_strangers_can_be_refused(make, signed, sent, reason):
    """With `collector_trust="refuse"`."""
    site = make(signed=signed, collector_trust="refuse")
    assert site.send([sent]).status == 200
    assert site.refused == ({reason: 1} if reason else {})
    assert len(site.spool.events) == (0 if reason else 1)


def test_a_mark_of_the_browsers_own_is_not_believed(make):
    """Nor what it says of its address."""
    site = make()
    site.send([event(visitor_mismatch="user", ip="8.8.8.8")])
    assert site.properties == [{**event()["properties"], **ADDED}]


@pytest.mark.parametrize(
    ("signed", "operation", "is_taken"),
    [
        (True, ("$delete", ""), True),
        (True, ("$unset", ["plan"]), True),
        ({"device_id": OTHER_DEVICE}, ("$delete", ""), False),
        (False, ("$unset", ["plan"]), False),
        (False, ("$set", {"plan": "pro"}), True),
    ],
)
def test_only_ones_own_profile_can_be_deleted(make, signed, operation, is_taken):
    """By a signed visitor."""
    site = make(signed=signed)
    site.send([update(*operation)], "engage")
    assert len(site.spool.messages("engage")) == is_taken
    assert site.refused == ({} if is_taken else {"collector_profile": 1})


# --- a no is a no ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "headers", "reason"),
    [
        ({}, {"dnt": "1"}, "consent_denied"),
        ({}, {"sec-gpc": "1"}, "consent_denied"),
        ({"consent": lambda _facts: "denied"}, {}, "consent_denied"),
        ({"consent": lambda _facts: "unknown"}, {}, "consent_unknown"),
        ({}, {"user-agent": "Googlebot/2.1"}, "bot"),
        ({"enabled": False}, {}, "disabled"),
    ],
)
def test_who_is_not_tracked(make, settings, headers, reason):
    """The SDK is told that it is done, and nothing is stored."""
    site = make(**settings)
    for route, sent in (("track", event()), ("engage", update())):
        assert_taken(site.send([sent], route, headers))
    assert site.spool.records == []
    assert site.refused == {reason: 2}


def test_the_opt_out_cookie(make):
    """The SDK's own, which it may have set a moment ago."""
    site = make()
    site.client.jar[OUT_OPT] = "0"
    assert_taken(site.send([event()]))
    assert site.spool.records == []


def test_bots_can_be_tagged(make):
    """As in the server's own events."""
    site = make(bots="tag")
    site.send([event()], headers={"user-agent": "Googlebot/2.1"})
    assert site.properties[0]["is_bot"] is True


def test_request_filter_leaves_alone(make):
    """The application answers, as if there were no collector."""
    site = make(request_filter=lambda facts: facts.path.startswith("/m/"))
    assert site.send([event()]).status == 200
    assert site.spool.records == []


# --- what is in them ------------------------------------------------------------------------------------


def test_secrets_are_taken_out(make):
    """By the names of properties, and in the queries of addresses."""
    site = make()
    site.send([event(password="hush", **{"$current_url": "http://localhost/?access_token=abc"})])
    (properties,) = site.properties
    assert properties["password"] == "REDACTED"
    assert properties["$current_url"] == "http://localhost/?access_token=REDACTED"
    assert properties["token"] == TOKEN
    site.send([update("$set", {"password": "hush", "$initial_referrer": "http://a/?token=x"})], "engage")
    (profile,) = site.spool.messages("engage")
    assert profile["$set"] == {"password": "REDACTED", "$initial_referrer": "http://a/?token=REDACTED"}


def test_before_send_has_the_last_word(make):
    """On the browser's events as on our own."""

    def before_send(given):
        given["properties"]["seen"] = given["properties"]["ip"]
        return None if given["event"] == "Unwanted" else given

    site = make(before_send=before_send)
    assert site.send([event("Unwanted"), event("Wanted")]).status == 200
    assert site.spool.names == ["Wanted"]
    assert site.properties[0]["seen"] == "127.0.0.1"
    assert site.refused == {"before_send": 1}


@pytest.mark.parametrize("client_ip", ["send", "truncate", "off"])
def test_the_address_is_that_of_the_policy(make, client_ip):
    """Whichever it is for the server's own events."""
    site = make(client_ip=client_ip, trusted_proxies="127.0.0.1")
    site.send([event()], headers={"x-forwarded-for": "203.0.113.7"})
    expected = {"send": "203.0.113.7", "truncate": "203.0.113.0", "off": "0"}
    assert site.properties[0]["ip"] == expected[client_ip]


def test_a_page_that_wants_no_geography(make):
    """`ip: false` in `mixpanel.init`."""
    site = make()
    site.send([event()], query="verbose=1&ip=0&_=1")
    assert site.properties[0]["ip"] == "0"


def test_the_plan_is_asked(make):
    """What differs from it is counted and sent, as with our own events in production."""
    site = make(plan=Plan())
    assert_taken(site.send([event()]))
    assert site.notes["off_plan"] == 1


def test_a_test_that_captures_sees_them(make):
    """And nothing is raised at a browser."""
    site = make()
    with capture_events() as events:
        assert site.send([event("Seen"), event("", token=TOKEN)]).status == 200
    assert events.names == ["Seen"]


def test_a_dry_run_stores_nothing(make):
    """It logs."""
    site = make(dry_run=True)
    assert_taken(site.send([event()]))
    assert site.spool.records == []


# --- slow bodies ----------------------------------------------------------------------------------------


class SlowBody:
    """A body that does not end until the test does."""

    def __init__(self):
        self.ended = threading.Event()

    def read(self, _size=-1):
        self.ended.wait(60)
        return b""


def test_a_slow_body_holds_no_wsgi_worker(monkeypatch):
    """503 at the deadline; and with many of them at once."""
    monkeypatch.setattr(collector_endpoint.CollectorEndpoint, "body_deadline_s", 0.05)
    site = Site("wsgi")
    app = VisitorMiddleware(lambda _environ, _start: [], tracker=site.tracker)
    slow = SlowBody()
    statuses = []
    try:
        for _ in range(timed_read.MAX_READERS + 4):
            environ = {
                "REQUEST_METHOD": "POST", "PATH_INFO": "/m/track/", "wsgi.input": slow,
                "HTTP_HOST": "localhost", "CONTENT_LENGTH": "1000", "wsgi.url_scheme": "http",
                "HTTP_SEC_FETCH_SITE": "same-origin",
            }  # fmt: skip
            app(environ, lambda status, _headers: statuses.append(status))
    finally:
        slow.ended.set()
    assert statuses == ["503 Service Unavailable"] * (timed_read.MAX_READERS + 4)
    assert site.notes["collector_slow_body"] == len(statuses)


# --- floods ---------------------------------------------------------------------------------------------


def asked(app, body=b"", headers=None, **more):
    """Return a conversation with a page's request."""
    scope = http_scope("POST", "/m/track/", {"host": "testserver", **PAGE, **(headers or {})}, **more)
    conversation = Conversation(scope, [{"type": "http.request", "body": body, "more_body": False}])
    return conversation, conversation.with_app(app)


def test_bodies_that_wait_for_the_spool_take_bounded_memory():
    """While one event is stored, more bodies come than may wait: the SDK keeps those."""
    may_go_on = threading.Event()
    site = Site("asgi", before_send=lambda given: given if may_go_on.wait(60) else None)
    app = AsgiMiddleware(lambda *_: None, tracker=site.tracker)
    body = b"!" * 1_000_000
    short = (asked(app, form([event()])), asked(app, form([event("Short")])))
    long = [asked(app, body) for _ in range(MAX_HELD_BYTES // len(body) + 2)]

    async def flood():
        first = asyncio.create_task(short[0][1])
        tasks = [asyncio.create_task(run) for _, run in long]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        last = asyncio.create_task(short[1][1])
        may_go_on.set()
        await asyncio.gather(first, last, *tasks)

    asyncio.run(flood())
    statuses = [conversation.response.status for conversation, _ in long]
    assert statuses == [400] * (len(long) - 2) + [503] * 2
    assert [conversation.response.status for conversation, _ in short] == [200, 200]


@pytest.mark.parametrize(
    ("length_bytes", "closes"), [(MAX_BODY_BYTES + 1, False), (45 * 2**20, True), ("much", True)]
)
def test_what_is_far_too_large_is_not_read(length_bytes, closes):
    """The connection ends with the answer; not where a browser could be too large: it has to see the 413."""
    conversation, run_ = asked(
        AsgiMiddleware(lambda *_: None, tracker=Site("asgi").tracker),
        headers={"content-length": str(length_bytes)},
    )
    run(run_)
    assert conversation.response.values("connection") == ["close"] * closes


@pytest.mark.parametrize(("version", "closes"), [("1.1", True), ("2", False)])
def test_a_connection_that_sends_too_much_ends(version, closes):
    """With what it has sent already, which the server need not look at."""
    tracker = Site("asgi", monotonic=lambda: 0.0).tracker
    app = AsgiMiddleware(lambda *_: None, tracker=tracker)
    for expected in [400] * 16 + [429]:
        conversation, run_ = asked(app, b"!", {"content-length": "1000000"}, http_version=version)
        run(run_)
        ends = conversation.response.values("connection") == ["close"]
        assert (conversation.response.status, ends) == (expected, closes and expected == 429)


# --- what Mixpanel answers --------------------------------------------------------------------------------


@pytest.fixture
def mixpanel():
    """Return a local Mixpanel."""
    from mixpanel_visitor.emulator import LocalMixpanel

    with LocalMixpanel() as local:
        yield local


def asking(make, mixpanel, **settings):
    return make(deliver=True, api_host=mixpanel.url, **settings)


def test_flags_are_asked_for(make, mixpanel):
    """And Mixpanel's answer is the answer."""
    site = asking(make, mixpanel)
    answer = site.send(b"", "flags", query=f"context=%7B%7D&token={TOKEN}&mp_lib=web", method="GET")
    assert (answer.status, json.loads(answer.body)["code"]) == (200, 200)
    assert mixpanel.store.stats()["requests"]["/flags"]["200"] == 1


def test_settings_are_asked_for_once_a_minute(make, mixpanel):
    """They are the same for everybody."""
    site = asking(make, mixpanel)
    for _ in range(3):
        answer = site.send(b"", "settings", query="$lib_version=2.83.0&mp_lib=web&sdk_config=1", method="GET")
        assert (answer.status, json.loads(answer.body)) == (200, {})
    assert mixpanel.store.stats()["requests"]["/settings"]["200"] == 1


@pytest.mark.parametrize("headers", [{"dnt": "1"}, {"user-agent": "Googlebot/2.1"}])
def test_nothing_is_asked_for_who_is_not_tracked(make, mixpanel, headers):
    """There are no flags then, and Mixpanel learns nothing."""
    site = asking(make, mixpanel)
    answer = site.send(b"", "flags", headers, query=f"context=%7B%7D&token={TOKEN}", method="GET")
    assert json.loads(answer.body) == {"code": 200, "flags": {}}
    assert "/flags" not in mixpanel.store.stats()["requests"]


def test_another_projects_flags(make, mixpanel):
    """It is no open relay."""
    site = asking(make, mixpanel)
    assert site.send(b"", "flags", query="token=other", method="GET").status == 403
    assert "/flags" not in mixpanel.store.stats()["requests"]


def test_mixpanel_is_away(make, mixpanel):
    """503: the SDK goes on with what the page says itself."""
    site = asking(make, mixpanel)
    mixpanel.stop()
    answer = site.send(b"", "flags", query=f"verbose=1&token={TOKEN}", method="GET")
    assert_refused(answer, 503)


def test_what_the_doctor_asks(make):
    """A batch without events says which address events get."""
    assert json.loads(make().send([]).body)["address"] == "local"
    assert json.loads(make().send([], headers={"x-forwarded-for": "8.8.8.8"}).body)["address"] == "proxy"
    trusting = make(trusted_proxies="127.0.0.1")
    assert json.loads(trusting.send([], headers={"x-forwarded-for": "8.8.8.8"}).body)["address"] == "client"
