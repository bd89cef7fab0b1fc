"""What the middlewares add to events by themselves, end to end; the words are tested in `core`."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.asgi_driver import call_asgi, http_scope
from support.facts import BROWSER_DOCUMENT, facts
from support.trackers import COOKIE, known, recording_tracker
from support.waiting import PATIENCE_S, wait_until
from support.wsgi_driver import call_wsgi, environ_of

from mixpanel_visitor import MissingExtraError, Tracker
from mixpanel_visitor.asgi import VisitorMiddleware as ASGIVisitorMiddleware
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.tracker import engine_of
from mixpanel_visitor.tracking.user_callbacks import bot_detector
from mixpanel_visitor.wsgi import VisitorMiddleware as WSGIVisitorMiddleware

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
FAR = {"user-agent": CHROME, **BROWSER_DOCUMENT}


def tracked(headers, *, settings=None, then=None, **more):
    """The events and profile updates of a request that tracks once."""
    tracker, spool = recording_tracker(**(settings or {}))
    engine = engine_of(tracker)
    exchange, visitor = engine.begin(engine.behind_proxies(facts(headers, **more)), in_background=False)
    (then or (lambda visitor: visitor.track("Seen")))(visitor)
    engine_of(tracker).on_response_start(exchange, 200, list)
    engine_of(tracker).on_response_end(exchange, in_background=False)
    return [event["properties"] for event in spool.events], spool.messages("engage"), tracker


def test_an_event_carries_what_the_request_says():
    """Without a word of the handler's; its own words and registered ones count before that."""

    def then(visitor):
        visitor.register(utm_source="registered")
        visitor.track("Seen", {"$browser": "Mine"})

    (event,), _, _ = tracked({**known(), **FAR}, then=then, path="/a", query="utm_source=b&utm_term=c")
    assert event["$browser"] == "Mine"
    assert (event["$browser_version"], event["$os"]) == (142, "Linux")
    assert event["$current_url"] == "http://shop.example.com/a?utm_source=b&utm_term=c"
    assert (event["utm_source"], event["utm_term"]) == ("registered", "c")
    assert event["ip"] == "127.0.0.1"


def test_without_an_event_nothing_is_read():
    """Who tracks nothing pays nothing: the request's headers are not even asked for."""
    tracker, _ = recording_tracker()
    asked = []

    class Headers(dict):
        def get(self, name, default=None):
            asked.append(name)
            return super().get(name, default)

    request = facts(known())
    exchange, _ = engine_of(tracker).begin(
        request.replaced(headers=Headers({**known(), **FAR})), in_background=False
    )
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert not {"user-agent", "referer"} & set(asked)


def test_a_profile_says_where_the_person_is():
    """The client's address, and not that of our server, where Mixpanel looks if nothing is said."""
    then = lambda visitor: visitor.people_set({"plan": "pro"})  # noqa: E731
    _, (update,), _ = tracked({**known(), **FAR}, then=then, client="203.0.113.7")
    assert update["$ip"] == "203.0.113.7"


def test_outside_of_a_request_nobody_is_anywhere():
    """A job does not move people to the data centre."""
    tracker, spool = recording_tracker()
    tracker.track("user-42", "Invoice paid")
    tracker.visitor(user_id="user-42").people_set({"plan": "pro"})
    assert spool.events[0]["properties"]["ip"] == "0"
    assert spool.messages("engage")[0]["$ip"] == "0"


@pytest.mark.parametrize(("mode", "ip"), [("send", "203.0.113.7"), ("truncate", "203.0.113.0"), ("off", "0")])
def test_how_much_of_an_address_leaves(mode, ip):
    """By the setting, on events and on profiles."""

    def then(visitor):
        visitor.track("Seen")
        visitor.people_set({"a": 1})

    headers = {**known(), **FAR}
    (event,), (update,), _ = tracked(headers, settings={"client_ip": mode}, then=then, client="203.0.113.7")
    assert (event["ip"], update["$ip"]) == (ip, ip)


def test_the_first_campaign_is_put_on_the_profile_once():
    """Of a new visitor: all ten names, so that a later one cannot fill in what was missing."""

    def then(visitor):
        visitor.track("Seen")
        visitor.track("Seen again")

    _, (update,), tracker = tracked(FAR, then=then, query="utm_source=ad&utm_medium=cpc")
    assert update["$set_once"]["initial_utm_source"] == "ad"
    assert update["$set_once"]["initial_utm_term"] is None
    assert update["$distinct_id"].startswith("$device:")
    _, updates, _ = tracked({**known(), **FAR}, query="utm_source=ad")
    assert updates == []
    assert tracker.stats()["accepted"] == 3


def test_secrets_are_replaced_and_said():
    """In events, registered properties and profiles; counted, and logged with the place."""

    def then(visitor):
        visitor.register(api_key="abc")
        visitor.track("Seen", {"password": "hunter2", "nested": {"token": "t"}, "plan": "pro"})
        visitor.people_set({"card_number": "4111"})

    (event,), (update,), tracker = tracked(known(), then=then)
    assert event["password"] == event["api_key"] == event["nested"]["token"] == "REDACTED"
    assert event["plan"] == "pro"
    assert len(event["token"]) == 32
    assert update["$set"] == {"card_number": "REDACTED"}
    assert tracker.stats()["notes"]["scrubbed"] == 4


def test_the_list_of_secrets_can_be_another(caplog):
    """Or none at all."""
    then = lambda visitor: visitor.track("Seen", {"password": "x", "shoeSize": 42})  # noqa: E731
    (event,), _, _ = tracked(known(), settings={"scrub": ["shoe-size"]}, then=then)
    assert (event["password"], event["shoeSize"]) == ("x", "REDACTED")
    assert "'shoeSize'" in caplog.text
    (event,), _, _ = tracked(known(), settings={"scrub": None}, then=then)
    assert (event["password"], event["shoeSize"]) == ("x", 42)


def test_who_wonders_why_nothing_arrives_finds_it_in_the_log(caplog):
    """The first bot is told loudly, once; all are counted."""
    caplog.set_level(logging.DEBUG, "mixpanel_visitor")
    tracker, spool = recording_tracker()
    engine = engine_of(tracker)
    for _ in range(3):
        _, visitor = engine.begin(
            facts({"user-agent": "curl/8.5.0"}, client="203.0.113.7"), in_background=False
        )
        visitor.track("Seen")
    assert tracker.stats()["refused"] == {"bot": 3}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "curl/8.5.0" in caplog.text
    assert "bots='tag'" in caplog.text
    assert not spool.records


def test_a_local_mixpanel_shows_that_bots_were_dropped():
    """With a line among what was refused, once for each reason; it counts as no refused event."""
    with LocalMixpanel() as mixpanel:
        tracker = Tracker(
            token="t", secret_key="a-key-of-some-length", api_host=mixpanel.url, spool="memory:"
        )
        engine = engine_of(tracker)
        for _ in range(3):
            _, visitor = engine.begin(
                facts({"user-agent": "curl/8.5.0"}, client="203.0.113.7"), in_background=False
            )
            visitor.track("Seen")
        assert wait_until(mixpanel.store.rejections, PATIENCE_S)
        tracker.close()
        (line,) = mixpanel.store.rejections()
        assert mixpanel.store.stats()["rejected"] == 0
    assert "curl/8.5.0" in line.message
    assert line.endpoint == "(not sent)"


def test_curl_on_this_host_is_a_visitor():
    """So that an example works."""
    events, _, _ = tracked({"user-agent": "curl/8.5.0"})
    assert len(events) == 1


def test_a_tagged_bot_says_so():
    """It belongs to nobody, and reports can leave it out."""
    (event,), _, _ = tracked({"user-agent": "curl/8.5.0"}, settings={"bots": "tag"}, client="203.0.113.7")
    assert event["is_bot"] is True
    assert event["distinct_id"] == ""


PREFETCHES = [
    {"sec-purpose": "prefetch"},
    {"sec-purpose": "prefetch;prerender"},
    {"purpose": "prefetch"},
    {"x-sec-purpose": "prefetch"},
    {"x-moz": "prefetch"},
]


@pytest.mark.parametrize("purpose", PREFETCHES, ids=str)
def test_what_a_known_visitors_prefetched_page_tracks_is_kept(purpose):
    """The browser may show this very answer and never ask again; reports can tell by the property."""
    (event,), _, tracker = tracked({**known(), **FAR, **purpose, "sec-fetch-dest": "document"}, path="/2")
    assert event["prefetched"] is True
    assert event["$device_id"] in known()["cookie"]
    assert event["$current_url"].endswith("/2")
    assert "is_bot" not in event
    assert tracker.stats()["refused"] == {}


@pytest.mark.parametrize("purpose", PREFETCHES, ids=str)
@pytest.mark.parametrize("bots", ["drop", "tag", "keep"])
def test_what_an_unknown_visitors_prefetched_page_tracks_is_nobodys(purpose, bots):
    """It may never be shown, so nobody is made up for it; whatever is said about bots."""
    (event,), _, tracker = tracked({**FAR, **purpose}, settings={"bots": bots})
    assert (event["distinct_id"], event["prefetched"]) == ("", True)
    assert "$device_id" not in event
    assert tracker.stats()["refused"] == {}


def test_a_prefetched_page_is_no_page_view():
    """The page's own SDK sends one if it is shown."""
    headers = {**known(), **FAR, "sec-purpose": "prefetch", "sec-fetch-dest": "document"}
    tracker, spool = recording_tracker(page_views=True)
    exchange, _ = engine_of(tracker).begin(facts(headers), in_background=False)
    engine_of(tracker).on_response_start(exchange, 200, lambda: [("content-type", "text/html")])
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.events == []


def test_other_requests_are_not_marked_as_prefetched():
    """Neither is what a page fetches for itself."""
    (event,), _, _ = tracked({**known(), **FAR})
    assert "prefetched" not in event


def test_a_stricter_list_comes_with_an_extra():
    """By its name, or as a function of one's own."""
    is_crawler = bot_detector("crawlerdetect")
    assert is_crawler("Mozilla/5.0 (compatible; Sosospider/2.0)")
    assert not is_crawler(CHROME)
    settings = {"bot_detector": lambda agent: "Odd" in agent}
    events, _, _ = tracked({"user-agent": "Odd/1"}, settings=settings, client="203.0.113.7")
    assert events == []


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch):
    """At construction."""
    monkeypatch.setitem(__import__("sys").modules, "crawlerdetect", None)
    with pytest.raises(MissingExtraError, match=r"mixpanel-visitor\[bots\]"):
        Tracker(token="t", secret_key="a-key-of-some-length", spool="memory:", bot_detector="crawlerdetect")


PROXIED = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7", "X-Forwarded-Proto": "https", "User-Agent": CHROME}
TRUSTED = pytest.mark.parametrize(
    ("trusted", "ip", "name"),
    [("127.0.0.0/8", "203.0.113.7", f"__Host-{COOKIE}"), (None, "127.0.0.1", COOKIE)],
)


@TRUSTED
def test_trusted_proxies_speak_for_the_client_under_wsgi(trusted, ip, name):
    """The address on events, and the scheme that makes the cookie Secure."""
    tracker, spool = recording_tracker(trusted_proxies=trusted)

    def app(environ, start_response):
        environ["mixpanel_visitor.visitor"].track("Seen")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    seen = call_wsgi(WSGIVisitorMiddleware(app, tracker=tracker), environ_of(headers=PROXIED))
    assert spool.events[0]["properties"]["ip"] == ip
    assert any(value.startswith(f"{name}=") for value in seen.values("set-cookie"))


@TRUSTED
def test_trusted_proxies_speak_for_the_client_under_asgi(trusted, ip, name):
    """As under WSGI."""
    tracker, spool = recording_tracker(trusted_proxies=trusted)

    async def app(scope, receive, send):
        scope["state"]["visitor"].track("Seen")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    headers = {header.lower(): value for header, value in PROXIED.items()}
    seen = call_asgi(ASGIVisitorMiddleware(app, tracker=tracker), http_scope(headers=headers))
    assert [event["properties"]["ip"] for event in spool.events] == [ip]
    assert any(value.startswith(f"{name}=") for value in seen.values("set-cookie"))


BYTES = st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
NAMES = st.sampled_from(
    [
        *("user-agent", "referer", "cookie", "accept", "sec-fetch-dest", "sec-purpose", "x-forwarded-for"),
        *("x-forwarded-proto", "forwarded", "host", "origin", "dnt", "sec-gpc", "via"),
    ]
)


@given(st.dictionaries(NAMES, BYTES), BYTES, BYTES, BYTES, st.sampled_from(["drop", "tag", "keep"]))
def test_any_bytes_in_any_header_break_nothing(headers, host, path, query, bots):
    """Everything that is accepted can be sent, and nothing of ours has failed."""
    tracker, spool = recording_tracker(bots=bots, trusted_proxies="127.0.0.0/8", page_views=True)
    request = facts(headers, host=host, path="/" + path, query=query)
    exchange, visitor = engine_of(tracker).begin(
        engine_of(tracker).behind_proxies(request), in_background=False
    )
    visitor.track("Seen", {"n": 1})
    visitor.people_set({"n": 1})
    engine_of(tracker).on_response_start(exchange, 200, lambda: [("content-type", "text/html")])
    engine_of(tracker).on_response_end(exchange, in_background=False)
    stats = tracker.stats()
    assert "internal_error" not in {**stats["notes"], **stats["refused"]}
    assert stats["accepted"] == stats["pending"] + sum(stats["refused"].values())
    assert all(event["properties"]["ip"] for event in spool.events if event.get("event"))
