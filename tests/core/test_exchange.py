"""Exchange: the life of one request, driven by hand."""

import sys
import threading
from collections import Counter
from itertools import count
from uuid import uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH, facts

from mixpanel_visitor.core.enrichment.bots import BotDetector
from mixpanel_visitor.core.enrichment.client_address import ClientAddresses
from mixpanel_visitor.core.enrichment.enricher import Enricher
from mixpanel_visitor.core.events.redaction import Redactor
from mixpanel_visitor.core.exchange import COMMIT_AT_RECORDS, OPEN
from mixpanel_visitor.core.exchange_opener import REMEMBERED_CHARS, REMEMBERED_VISITORS, ExchangeOpener
from mixpanel_visitor.core.identity.handover import HandoverClaim
from mixpanel_visitor.core.identity.identity import merge_events_between
from mixpanel_visitor.core.identity.mixpanel_browser import MixpanelBrowser, quoted_identity
from mixpanel_visitor.core.identity.resolver import IdentityResolver
from mixpanel_visitor.core.identity.visitor_cookie import (
    RENEW_AFTER_S,
    VisitorCookie,
    VisitorCookieCodec,
    user_hash,
)
from mixpanel_visitor.core.request import facts_from_environ, facts_from_scope
from mixpanel_visitor.core.response_cookies import HEAL_AFTER_S, ResponseCookies
from mixpanel_visitor.core.site_rules import SiteRules
from mixpanel_visitor.records import Record

NOW_S = 1_763_900_000
OK = (200, lambda: [("content-type", "text/html")])
RECORD = Record("import", b"{}")


TOKEN = "0123456789abcdef0123456789abcdef"
DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"


class House:
    """Rules with everything they need, and what they counted."""

    def __init__(self, *, sdk=True, id_mode="simplified", **more):
        self.notes = Counter()
        self.refused = Counter()
        self.ids = (f"fresh-{number}" for number in count(1))
        self.codec = VisitorCookieCodec(
            ["a-key-of-some-length"],
            token=TOKEN,
            name="mpv",
            domain=None,
            max_age_s=31_536_000,
            count=self.note,
        )
        self.mixpanel = None
        if sdk:
            self.mixpanel = MixpanelBrowser(
                TOKEN,
                persistence_name=None,
                cross_subdomain=True,
                cookie_domain=None,
                max_age_s=31_536_000,
                count=self.note,
            )
        self.rules = SiteRules(
            **{
                "codec": self.codec,
                "resolver": IdentityResolver(id_mode=id_mode, mixpanel=self.mixpanel, count=self.note),
                "set_cookies": ResponseCookies(self.codec, self.mixpanel, seen_name="mpv_js"),
                "token": TOKEN,
                "id_mode": id_mode,
                "bots": "drop",
                "detector": BotDetector(),
                "enricher": Enricher(
                    addresses=ClientAddresses((), mode="send"), redactor=Redactor(), mixpanel=self.mixpanel
                ),
                "respect_dnt": True,
                "respect_gpc": True,
                "consent": lambda _facts: "granted",
                "is_excluded": lambda _facts: False,
                "refusal": lambda: None,
                "count": self.note,
                "refuse": self.refuse,
                **more,
            }
        )
        self.opener = ExchangeOpener(self.rules, self.fresh)

    def refuse(self, reason, number):
        self.refused[reason] += number

    def note(self, name):
        self.notes[name] += 1

    def fresh(self):
        return next(self.ids)

    def open(self, headers=None, now_s=NOW_S, **more):
        return self.opener.open(facts(headers, **more), now_s=now_s)

    def cookie(self, *, secure=False, **more):
        """The Cookie header of a visitor whom the browser's SDK knows as well."""
        visitor_cookie = VisitorCookie(
            **{"device_id": "known", "issued_at_s": NOW_S - 10, "sdk_cookie_sent": True, **more}
        )
        return {"cookie": f"{self.codec.name(secure=secure)}={self.codec.encode(visitor_cookie)}"}

    def read(self, added):
        """What the Set-Cookie among the added headers says."""
        (ours,) = [value for value in cookies(added) if value.startswith("mpv=")]
        return self.codec.decode(ours.partition(";")[0].partition("=")[2], now_s=NOW_S)


def cookies(added):
    """The Set-Cookie headers among those added."""
    return [value for name, value in added if name == "set-cookie"]


def ended(exchange):
    """End the exchange; return the records that are left."""
    assert exchange.on_response_end() is None
    return exchange.take()


@pytest.fixture
def house():
    return House()


def test_a_new_visitor_gets_an_id_and_a_cookie(house):
    """The handler and the response speak of the same ID, from the first page view on."""
    exchange = house.open(BROWSER_DOCUMENT)
    assert (exchange.identity.device_id, exchange.identity.source) == ("fresh-1", "generated")
    assert exchange.identity.is_new
    assert house.read(exchange.on_response_start(*OK).headers).device_id == "fresh-1"


def test_a_known_visitor_costs_no_header(house):
    """Nothing is set where nothing has changed."""
    exchange = house.open(house.cookie())
    assert (exchange.identity.device_id, exchange.identity.source) == ("known", "cookie")
    assert exchange.identity.vouched
    assert not exchange.identity.is_new
    assert not exchange.needs_set_cookie
    assert exchange.on_response_start(*OK).headers == []


def test_the_cookie_is_renewed_at_most_daily(house):
    """An active visitor's cookie never expires, at the price of one header a day."""
    headers = house.cookie(issued_at_s=NOW_S)
    assert house.open(headers, now_s=NOW_S + RENEW_AFTER_S).on_response_start(*OK).headers == []
    added = house.open(headers, now_s=NOW_S + RENEW_AFTER_S + 1).on_response_start(*OK).headers
    assert "set-cookie" in dict(added)


def test_https_gets_the_prefixed_cookie(house):
    """The scheme decides about prefix and Secure."""
    added = house.open(BROWSER_DOCUMENT, scheme="https").on_response_start(*OK).headers
    assert cookies(added)[0].startswith("__Host-mpv=")


def test_a_silent_response_becomes_private(house):
    """Where we mint and nothing is said about caching, a shared cache must not store the answer."""
    assert ("cache-control", "private") in house.open().on_response_start(*OK).headers


@pytest.mark.parametrize("said", ["private", "no-store", "no-cache, Private", 'no-store, private="x-user"'])
def test_what_the_app_says_about_caching_stays(house, said):
    """Cache-Control is the application's; only what it lacks is added."""
    added = house.open().on_response_start(200, lambda: [("Cache-Control", said)]).headers
    assert [name for name, _ in added if name != "set-cookie"] == []


@pytest.mark.parametrize(
    "said", ["", "no-cache", "max-age=0", "no-transform", 'private="x-user"', "x-private", 'a="private"']
)
def test_an_answer_with_our_cookie_is_made_private(house, said):
    """Where the application lets shared caches store it, be it to ask again; a second line says so."""
    added = house.open().on_response_start(200, lambda: [("Cache-Control", said)]).headers
    assert [each for each in added if each[0] != "set-cookie"] == [("cache-control", "private")]


@pytest.mark.parametrize("name", ["CDN-Cache-Control", "Cloudflare-CDN-Cache-Control"])
def test_a_header_for_one_cache_is_made_private_as_well(house, name):
    """Who reads it reads no Cache-Control (RFC 9213, 2.2)."""
    added = (
        house.open()
        .on_response_start(200, lambda: [(name, "max-age=0"), ("Cache-Control", "private")])
        .headers
    )
    assert [each for each in added if each[0] != "set-cookie"] == [(name.lower(), "private")]


@pytest.mark.parametrize(
    ("status", "headers", "note"),
    [
        (304, [], "cookie_skipped_not_modified"),
        (200, [("Cache-Control", "public, max-age=60")], "cookie_skipped_cacheable"),
        (200, [("Set-Cookie", "mpv=theirs; Path=/")], "cookie_skipped_already_set"),
    ],
)
def test_responses_that_may_not_carry_it(house, status, headers, note):
    """Never on 304, never where a shared cache may store it, never twice."""
    assert house.open().on_response_start(status, lambda: headers).headers == []
    assert house.notes == {note: 1}


def test_an_informational_answer_is_not_the_head(house):
    """103 Early Hints carries no cookie, the answer after it does."""
    exchange = house.open()
    assert exchange.on_response_start(103, list).headers == []
    assert exchange.state is OPEN
    assert exchange.on_response_start(*OK).headers


def test_asking_again_gives_the_same_answer(house):
    """WSGI may call start_response again with exc_info: the second list replaces the first."""
    exchange = house.open()
    assert exchange.on_response_start(*OK).headers == exchange.on_response_start(500, list).headers


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_no_cookie_on_questions_about_a_page(house, method):
    """HEAD and OPTIONS are no visits."""
    assert house.open(method=method).on_response_start(*OK).headers == []


def test_a_sub_resource_gets_no_cookie_unless_its_handler_tracks(house):
    """An API behind a single-page app works; an image does not mint visitors."""
    assert house.open(BROWSER_FETCH).on_response_start(*OK).headers == []
    exchange = house.open(BROWSER_FETCH)
    exchange.add(RECORD)
    exchange.take()
    assert exchange.on_response_start(*OK).headers


def test_a_bot_is_dropped(house):
    """No cookie, no event, an ID for this request only."""
    exchange = house.open({"user-agent": "Googlebot/2.1"})
    assert exchange.refusal == "bot"
    assert exchange.identity.source == "none"
    assert exchange.on_response_start(*OK).headers == []


def test_bots_may_be_kept():
    """`bots="keep"` treats everybody alike; `"tag"` lets events through, without minting."""
    assert House(bots="keep").open({"user-agent": "Googlebot/2.1"}).on_response_start(*OK).headers
    tagged = House(bots="tag").open({"user-agent": "Googlebot/2.1"})
    assert tagged.refusal is None
    assert tagged.on_response_start(*OK).headers == []


def test_denied_consent_expires_the_cookie(house):
    """Who opts out loses the cookie and is not tracked."""
    exchange = house.open({**house.cookie(), "dnt": "1"})
    assert exchange.refusal == "consent_denied"
    assert exchange.identity.device_id != "known"
    removed = cookies(exchange.on_response_start(*OK).headers)
    assert all("Max-Age=0" in value for value in removed)
    assert {value.partition("=")[0] for value in removed} == {"mpv", house.mixpanel.name}


def test_denied_consent_without_a_cookie_sets_none(house):
    """Nothing is stored, not even a removal."""
    exchange = house.open({"dnt": "1"})
    exchange.identify("user", house.fresh)
    assert exchange.on_response_start(*OK).headers == []


def test_unknown_consent_is_an_id_for_this_request():
    """No cookie and no event until somebody has decided."""
    exchange = House(consent=lambda _facts: "unknown").open()
    assert exchange.refusal == "consent_unknown"
    assert exchange.identity.device_id
    assert exchange.on_response_start(*OK).headers == []


def test_requests_left_alone_are_left_alone():
    """`request_filter` turns everything off for a request, but handlers still find a visitor."""
    house = House(is_excluded=lambda _facts: True)
    exchange = house.open(BROWSER_DOCUMENT)
    assert exchange.identity.device_id
    assert exchange.on_response_start(*OK).headers == []
    assert exchange.refusal == "consent_unknown"


def test_a_closed_tracker_refuses_by_name():
    """After `close()` what is tracked is counted as refused for that reason."""
    exchange = House(refusal=lambda: "closed").open()
    assert exchange.refusal == "closed"
    assert exchange.on_response_start(*OK).headers == []


def test_identify_is_remembered_in_the_cookie(house):
    """The user goes into the signed cookie, so that later requests carry it as well."""
    exchange = house.open(house.cookie())
    exchange.identify("user-42", house.fresh)
    visitor_cookie = house.read(exchange.on_response_start(*OK).headers)
    assert (visitor_cookie.device_id, visitor_cookie.user_id) == ("known", "user-42")
    assert house.open({"cookie": f"mpv={house.codec.encode(visitor_cookie)}"}).identity.user_id == "user-42"


def test_identify_again_changes_nothing(house):
    """An application may call identify on every request."""
    exchange = house.open(house.cookie(user_id="user-42"))
    exchange.identify("user-42", house.fresh)
    assert exchange.identity.device_id == "known"
    assert exchange.on_response_start(*OK).headers == []


def test_another_user_gets_another_device(house):
    """Two people on one browser stay two people."""
    exchange = house.open(house.cookie(user_id="anna"))
    exchange.identify("bert", house.fresh)
    visitor_cookie = house.read(exchange.on_response_start(*OK).headers)
    assert (visitor_cookie.device_id, visitor_cookie.user_id) == ("fresh-1", "bert")


def test_original_mode_links_a_pair_once():
    """`$identify` goes out at the first log-in of a pair of device and user only."""
    house = House(id_mode="original")
    assert len(house.open(house.cookie()).identify("u", house.fresh).merge_events) == 1
    assert house.open(house.cookie(user_id="u")).identify("u", house.fresh).merge_events == ()


@pytest.mark.parametrize(
    "more", [{}, {"uid": "3a5b9c1d2e"}, {"earlier_id": "earlier"}], ids=["alone", "with-uid", "with-earlier"]
)
@pytest.mark.parametrize(
    "user_id",
    ["c9473686-c994-429b-8034-0123456789ab", "u" * 90, "u" * 255],
    ids=["uuid", "90", "255"],
)
def test_a_long_user_id_lasts(house, user_id, more):
    """Whatever `identify` takes is the user in later requests, whatever else the cookie holds."""
    exchange = house.open(house.cookie(**more))
    exchange.identify(user_id, house.fresh)
    visitor_cookie = house.read(exchange.on_response_start(*OK).headers)
    again = house.open({"cookie": f"mpv={house.codec.encode(visitor_cookie)}"})
    assert (again.identity.device_id, again.identity.user_id) == ("known", user_id)


def test_a_hash_of_an_older_version_becomes_the_user_at_the_next_identify(house):
    """It is the same user on the same device: the ID is stored, and nothing is told twice."""
    exchange = house.open(house.cookie(user_hash=user_hash("u" * 200)))
    login = exchange.identify("u" * 200, house.fresh)
    assert (login.merge_events, login.merge) == ((), None)
    visitor_cookie = house.read(exchange.on_response_start(*OK).headers)
    assert (visitor_cookie.device_id, visitor_cookie.user_id, visitor_cookie.user_hash) == (
        "known",
        "u" * 200,
        None,
    )


def test_reset_renews_the_cookie_even_on_a_fetch(house):
    """Log-out is often an API call: the new device ID is stored wherever it is asked for."""
    exchange = house.open({**house.cookie(user_id="anna"), **BROWSER_FETCH}, method="POST")
    exchange.reset(house.fresh)
    visitor_cookie = house.read(exchange.on_response_start(*OK).headers)
    assert (visitor_cookie.device_id, visitor_cookie.user_id) == ("fresh-1", None)


def test_identify_after_the_head_is_counted(house):
    """The cookie has left; the events still carry the user."""
    exchange = house.open(house.cookie())
    exchange.on_response_start(*OK)
    exchange.identify("user-42", house.fresh)
    assert exchange.identity.user_id == "user-42"
    assert house.notes == {"cookie_too_late": 1}


def test_records_leave_once(house):
    """What was taken is not taken again."""
    exchange = house.open(house.cookie())
    exchange.add(RECORD)
    assert exchange.has_records
    assert exchange.take() == [RECORD]
    assert exchange.take() == []
    assert not exchange.has_records


def test_a_full_request_hands_over_early(house):
    """A stream that tracks without end does not grow without end."""
    exchange = house.open(house.cookie())
    due = [len(exchange.add(RECORD)) for _ in range(COMMIT_AT_RECORDS * 2)]
    assert [count for count in due if count] == [COMMIT_AT_RECORDS, COMMIT_AT_RECORDS]


def test_large_records_hand_over_early(house):
    """So do a few large ones."""
    exchange = house.open()
    assert [len(exchange.add(Record("import", b"x" * 600_000))) for _ in range(3)] == [0, 2, 0]


def test_threads_that_track_the_first_event_at_once_lose_none(house):
    """The queue is made by the first event, and there is one, however many threads come for it at once."""

    def track(exchange, ready):
        ready.wait()
        exchange.add(RECORD)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            exchange, ready = house.open(house.cookie()), threading.Barrier(4)
            threads = [threading.Thread(target=track, args=(exchange, ready)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(exchange.take()) == 4
    finally:
        sys.setswitchinterval(interval)


def test_what_comes_after_the_end_is_handed_over_at_once(house):
    """A thread that outlives its request loses nothing."""
    exchange = house.open()
    assert ended(exchange) == []
    assert exchange.add(RECORD) == [RECORD]


def test_a_socket_hands_over_each_record(house):
    """There is no end of the response to wait for."""
    exchange = house.open(house.cookie(), protocol="websocket")
    assert exchange.add(RECORD) == [RECORD]


def test_an_accepted_socket_gets_the_cookie_alone(house):
    """There is nothing to cache in a 101, so nothing is said about caching."""
    added = house.open(protocol="websocket").on_response_start(101, list).headers
    assert [name for name, _ in added] == ["set-cookie"]


def test_other_cookies_and_other_headers_do_not_stop_ours(house):
    """Only a Set-Cookie of our own name means that somebody else has set it."""
    headers = [("Set-Cookie", "session=1"), ("X-Copy", "mpv=1"), ("Set-Cookie", "mpv2=1")]
    assert cookies(house.open().on_response_start(200, lambda: headers).headers)


@pytest.mark.parametrize(
    ("headers", "note"),
    [
        ({"user-agent": "Googlebot/2.1"}, "cookie_skipped_bot"),
        (BROWSER_FETCH, "cookie_skipped_no_visit"),
        ({**BROWSER_FETCH, "sec-fetch-storage-access": "none"}, "cookie_skipped_withheld"),
    ],
)
def test_a_skipped_cookie_is_counted_by_reason(house, headers, note):
    """Whoever wonders why a request has no cookie finds the reason among the notes."""
    house.open(headers).on_response_start(*OK)
    assert house.notes == {note: 1}


def test_a_log_in_without_consent_is_counted_as_such(house):
    """A handler that identifies somebody who opted out changes nothing in the browser."""
    exchange = house.open({"dnt": "1"})
    exchange.identify("user", house.fresh)
    exchange.on_response_start(*OK)
    assert house.notes == {"cookie_skipped_consent": 1}


@pytest.mark.parametrize(
    ("consent", "with_cookie", "wanted"),
    [("denied", True, True), ("denied", False, False), ("unknown", True, False), ("unknown", False, False)],
)
def test_without_consent_only_a_removal_is_wanted(consent, with_cookie, wanted):
    """No adapter has to look at a head that we have nothing to say about."""
    house = House(consent=lambda _facts: consent)
    exchange = house.open(house.cookie() if with_cookie else {})
    assert exchange.needs_set_cookie is wanted


def test_requests_left_alone_are_nobodys_and_no_bots():
    """Nothing is looked at there, so nothing is claimed."""
    exchange = House(is_excluded=lambda _facts: True).open({"user-agent": "Googlebot/2.1"})
    assert not exchange.is_bot


def test_the_same_header_says_the_same_again(house):
    """A page's requests mostly send the same cookies; they are read once."""
    first, second = house.open(house.cookie()), house.open(house.cookie())
    assert second.identity is first.identity
    assert not second.needs_set_cookie


def test_what_a_header_said_grows_old_with_it(house):
    """A cookie that was fresh when it was read is not for ever."""
    headers = house.cookie()
    assert house.open(headers).identity.device_id == "known"
    assert house.open(headers, now_s=NOW_S + 31_536_001).identity.is_new
    assert house.notes["cookie_expired"] == 1


@pytest.mark.parametrize("later_s", [-100_000, -10, 0, 86_389, 86_390, 86_391, 700_000, 31_536_000])
@pytest.mark.parametrize(
    "marks", [{}, {"sdk_cookie_sent": False}, {"sdk_cookie_sent": False, "sdk_confirmed": True}], ids=str
)
@pytest.mark.parametrize(
    "happens",
    [
        lambda _exchange, _fresh: None,
        lambda exchange, fresh: exchange.identify("user", fresh),
        lambda exchange, fresh: exchange.reset(fresh),
        lambda exchange, _fresh: exchange.opt_out(),
        lambda exchange, fresh: (exchange.opt_out(), exchange.opt_in(fresh)),
        lambda exchange, fresh: exchange.apply_handover(HandoverClaim(device_id=DEVICE), fresh),
    ],
    ids=["nothing", "log-in", "log-out", "opt-out", "opt-in", "what is known is handed over"],
)
def test_a_remembered_header_asks_for_the_same_heads(house, later_s, marks, happens):
    """Whoever comes with it again needs a cookie whenever a first one would who comes at that time."""
    headers = {**BROWSER_DOCUMENT, **house.cookie(device_id=DEVICE, **marks)}
    house.open(headers)
    wanted = []
    for each in (house, House()):
        exchange = each.open(headers, now_s=NOW_S + later_s)
        happens(exchange, each.fresh)
        wanted.append(exchange.needs_set_cookie)
    assert len(set(wanted)) == 1


def from_scope(headers):
    """Read these headers as an ASGI server gives them."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return facts_from_scope({"type": "http", "method": "GET", "path": "/", "headers": raw})


def from_environ(headers):
    """Read them as a WSGI server does."""
    return facts_from_environ({f"HTTP_{name.upper().replace('-', '_')}": headers[name] for name in headers})


def through_a_proxy(headers):
    """Read them as they were before a proxy that is trusted."""
    return from_scope(headers).replaced(client="203.0.113.9")


@pytest.mark.parametrize("read", [from_scope, from_environ, through_a_proxy])
@pytest.mark.parametrize("name", ["dnt", "sec-gpc", "DNT", "Sec-GPC"])
@pytest.mark.parametrize("known", [True, False])
def test_an_objection_is_heard_from_either_server(house, read, name, known):
    """Whatever its case, and whether or not the cookies beside it are remembered; only a 1 is one."""
    cookie = house.cookie() if known else {}
    said = [{}, {name: "1"}, {name: "0"}, {f"x-{name}": "1"}, {name: "1"}]
    told = [house.opener.open(read({**cookie, **more}), now_s=NOW_S).consent for more in said]
    assert told == ["granted", "denied", "granted", "granted", "denied"]


def test_what_a_header_said_over_http_counts_for_nothing_over_https(house):
    """There the cookie has another name, which no other host can set."""
    headers = house.cookie()
    assert house.open(headers).identity.device_id == "known"
    assert house.open(headers, scheme="https").identity.is_new


def test_a_visitor_is_remembered_though_another_cookie_has_changed(house):
    """A session that is signed anew, a count of page views: our signature is not verified again."""
    own = house.cookie()["cookie"]
    first, second = (house.open({"cookie": f"n={n}; {own}; x={n}"}) for n in range(2))
    assert second.identity is first.identity
    assert not second.needs_set_cookie


def test_no_more_visitors_are_remembered_than_come_soon(house):
    """A flood of them does not grow the process, and what nobody of ours has signed is not kept at all."""
    for number in range(REMEMBERED_VISITORS + 10):
        house.open({"cookie": f"{house.cookie(device_id=f'd{number}')['cookie']}"})
        house.open({"cookie": f"mpv=1~forged~1~.{number:043}"})
    known = house.cookie(device_id="a")["cookie"]
    house.open({"cookie": f"{known}; {house.mixpanel.name}={'a' * REMEMBERED_CHARS}"})
    assert len(house.opener._visitors) == 10


OWN = House().cookie(device_id=DEVICE)["cookie"]
SDK = House().mixpanel.name
PIECES = [
    OWN,
    House().cookie(device_id="b")["cookie"],
    OWN.replace("~", ".", 1),
    OWN.replace("mpv=", "mpv.0123=", 1),
    House().cookie(device_id="c", user_id="u")["cookie"].replace("mpv=", "mpv.user=", 1),
    "mpv=",
    f"mpv={'x' * 3000}",
    f"a={OWN}",
    f"x,{OWN}",
    f"{OWN},{OWN}",
    f"{SDK}={quoted_identity(DEVICE)}",
    f"{SDK}={quoted_identity('b')}",
    f"{SDK}={quoted_identity(DEVICE)[:-3]}%2C%22a%22%3A1%7D",
    f"{SDK}={quoted_identity(DEVICE)}%",
    f"{SDK}=junk",
    "mpv_js=0",
    f"mpv_js={DEVICE}",
    "mp_optout=1",
    f"__mp_opt_in_out_{TOKEN}=0",
    f"__mp_opt_in_out_{TOKEN}=1",
    "theme=dark",
    "n=1",
    "n=2",
]


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=4), min_size=2, max_size=6),
    st.sampled_from(["; ", ";", ", "]),
    st.integers(0, 2).map(lambda days: days * 86_400),
)
def test_what_is_remembered_changes_nothing(headers, separator, later_s):
    """Whatever has come before, a request is whose it would be in a process that has just started."""
    old = House()
    for number, pieces in enumerate([[OWN], *headers, [*headers[-1], "n=3"]]):
        cookie, now_s = {"cookie": separator.join(pieces)}, NOW_S + number * later_s
        opened = []
        for each in (old, House()):
            each.ids = (f"fresh-{number}" for number in count(1))
            each.notes.clear()
            exchange = each.open(cookie, now_s=now_s)
            opened.append(
                (
                    exchange.identity,
                    exchange.consent,
                    exchange.merge_events,
                    exchange.needs_set_cookie,
                    exchange.on_response_start(*OK),
                    each.notes,
                )
            )
        assert opened[0][:-1] == opened[1][:-1]
        assert opened[0][-1] <= opened[1][-1]


# --- the browser SDK's side ---------------------------------------------------------------------------


def sdk_cookie(house, device_id):
    """The Cookie header of a browser whose SDK has settled on an ID of its own."""
    value = quoted_identity(device_id).removesuffix("%7D") + "%2C%22__mps%22%3A%7B%7D%7D"
    return f"{house.mixpanel.name}={value}"


def seeds(house, added):
    """The Set-Cookie headers for the SDK."""
    return [value for value in cookies(added) if value.startswith(f"{house.mixpanel.name}=")]


def test_a_page_gives_the_sdk_our_id(house):
    """The same ID in both cookies of the first answer; the SDK can read its own."""
    added = house.open(BROWSER_DOCUMENT).on_response_start(*OK).headers
    (seed,) = seeds(house, added)
    assert seed.startswith(f"{house.mixpanel.name}={quoted_identity('fresh-1')}; Domain=example.com; Path=/;")
    assert "httponly" not in seed.lower()
    assert house.read(added).sdk_cookie_sent


def test_old_browsers_say_by_accept_that_they_want_a_page(house):
    """Fetch metadata is absent on plain http and before 2023."""
    assert seeds(house, house.open({"accept": "text/html,*/*;q=0.8"}).on_response_start(*OK).headers)
    assert not seeds(house, house.open({"accept": "application/json"}).on_response_start(*OK).headers)


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        (BROWSER_FETCH, "GET", 200),
        (BROWSER_DOCUMENT, "POST", 200),
        (BROWSER_DOCUMENT, "GET", 404),
        (BROWSER_DOCUMENT, "GET", 500),
        ({**BROWSER_DOCUMENT, "sec-purpose": "prefetch"}, "GET", 200),
        ({**BROWSER_DOCUMENT, "sec-fetch-dest": "iframe"}, "GET", 200),
    ],
)
def test_only_a_page_that_is_shown_is_seeded(house, headers, method, status):
    """Where no SDK will run, none is told."""
    exchange = house.open(headers, method=method)
    exchange.add(RECORD)
    assert not seeds(house, exchange.on_response_start(status, list).headers)


def test_an_id_that_the_sdk_has_is_never_replaced(house):
    """The browser's own ID is the visitor's."""
    exchange = house.open({**BROWSER_DOCUMENT, "cookie": sdk_cookie(house, DEVICE)})
    added = exchange.on_response_start(*OK).headers
    assert exchange.identity.device_id == house.read(added).device_id == DEVICE
    assert not seeds(house, added)


def test_a_cookie_that_the_sdk_would_take_is_left_alone(house):
    """We do not believe it, and it is not ours to remove."""
    cookie = f"{house.mixpanel.name}=%7B%22distinct_id%22%3A%22somebody%22%7D"
    exchange = house.open({**BROWSER_DOCUMENT, "cookie": cookie})
    assert exchange.identity.device_id == "fresh-1"
    assert not seeds(house, exchange.on_response_start(*OK).headers)


def test_a_cookie_that_the_sdk_would_ignore_is_replaced(house):
    """It would start anew, so it may as well start with our ID."""
    exchange = house.open({**BROWSER_DOCUMENT, "cookie": f"{house.mixpanel.name}=%E0%A4%A"})
    assert seeds(house, exchange.on_response_start(*OK).headers)


def test_a_visitor_minted_by_an_api_is_seeded_on_the_next_page(house):
    """The SDK has not been told yet; our cookie remembers that."""
    minted = house.read(house.open().on_response_start(*OK).headers)
    assert not minted.sdk_cookie_sent
    cookie = f"mpv={house.codec.encode(minted)}"
    added = house.open({**BROWSER_DOCUMENT, "cookie": cookie}).on_response_start(*OK).headers
    assert seeds(house, added)
    assert house.read(added).sdk_cookie_sent


@pytest.mark.parametrize(("away_s", "healed"), [(HEAL_AFTER_S, False), (HEAL_AFTER_S + 1, True)])
@pytest.mark.parametrize("knows", [{"sdk_cookie_sent": True}, {"sdk_confirmed": True}])
def test_a_lost_id_is_given_back_after_a_long_absence(house, knows, away_s, healed):
    """Safari drops scripts' cookies after a week; what is gone sooner was removed, by an opt-out perhaps."""
    headers = {**BROWSER_DOCUMENT, **house.cookie(issued_at_s=NOW_S - away_s, **knows)}
    added = house.open(headers).on_response_start(*OK).headers
    assert bool(seeds(house, added)) is healed


def test_a_log_out_renews_both_sides_in_one_answer(house):
    """With cookie persistence the page needs no script for it, not even while it is open."""
    headers = {"cookie": f"{house.cookie(user_id='u')['cookie']}; {sdk_cookie(house, 'known')}"}
    exchange = house.open({**headers, **BROWSER_FETCH}, method="POST")
    exchange.reset(house.fresh)
    added = exchange.on_response_start(*OK).headers
    gone, seed = seeds(house, added)
    assert "Max-Age=0" in gone
    assert quoted_identity("fresh-1") in seed
    assert house.read(added).device_id == "fresh-1"


def test_the_next_user_starts_on_both_sides(house):
    """Somebody else's log-in is a new device for the browser's events, too."""
    exchange = house.open(house.cookie(user_id="anna"))
    exchange.identify("bert", house.fresh)
    assert quoted_identity("fresh-1") in seeds(house, exchange.on_response_start(*OK).headers)[-1]


def test_the_browser_is_followed_by_our_cookie(house):
    """On a sub-resource too: the browser has sent the other ID itself."""
    cookie = f"{house.cookie(sdk_confirmed=True)['cookie']}; {sdk_cookie(house, DEVICE)}"
    added = house.open({**BROWSER_FETCH, "cookie": cookie}).on_response_start(*OK).headers
    assert house.read(added).device_id == DEVICE
    assert not seeds(house, added)


def test_denied_consent_removes_the_sdks_cookie_alone(house):
    """Ours need not be there for the SDK's to go."""
    exchange = house.open({"dnt": "1", "cookie": sdk_cookie(house, DEVICE)})
    assert exchange.needs_set_cookie
    assert {value.partition("=")[0] for value in cookies(exchange.on_response_start(*OK).headers)} == {
        "mpv",
        house.mixpanel.name,
    }


def test_an_opt_in_that_is_on_its_way_keeps_its_cookie(house):
    """The SDK has its ID again before our script has told us so."""
    sdk = sdk_cookie(house, DEVICE)
    assert not house.open({"cookie": f"mpv_js=0; {sdk}"}).needs_set_cookie
    exchange = house.open({"cookie": f"mpv_js=0; {sdk}; {house.cookie()['cookie']}"})
    assert exchange.refusal == "consent_denied"
    assert [value.partition("=")[0] for value in cookies(exchange.on_response_start(*OK).headers)] == ["mpv"]


def test_without_an_sdk_only_our_cookie_is_set():
    """`browser_sdk=None`."""
    added = House(sdk=False).open(BROWSER_DOCUMENT).on_response_start(*OK).headers
    assert len(cookies(added)) == 1


# --- whose events ------------------------------------------------------------------------------------


def event(**properties):
    return Record("import", orjson.dumps({"event": "x", "properties": properties}))


def distinct_ids(records):
    return [orjson.loads(record.body)["properties"]["distinct_id"] for record in records]


def test_a_new_visitors_events_wait_for_the_answer(house):
    """Whether the ID is worth anything, the answer decides."""
    exchange = house.open(BROWSER_DOCUMENT)
    exchange.add(event(distinct_id="$device:fresh-1"))
    assert not exchange.has_records
    exchange.on_response_start(*OK)
    assert distinct_ids(exchange.take()) == ["$device:fresh-1"]


@pytest.mark.parametrize(
    ("headers", "method", "response"),
    [
        (BROWSER_DOCUMENT, "GET", (304, list)),
        (BROWSER_DOCUMENT, "GET", (200, lambda: [("Cache-Control", "public, max-age=60")])),
        (BROWSER_DOCUMENT, "HEAD", OK),
        ({**BROWSER_DOCUMENT, "sec-purpose": "prefetch"}, "GET", OK),
        ({**BROWSER_FETCH, "sec-fetch-site": "cross-site"}, "POST", OK),
    ],
)
def test_where_no_cookie_can_be_set_events_are_nobodys(house, headers, method, response):
    """They must not become a new person each; with an empty distinct ID Mixpanel only counts them."""
    exchange = house.open(headers, method=method)
    exchange.add(event(**{"distinct_id": "$device:fresh-1", "$device_id": "fresh-1"}))
    assert exchange.on_response_start(*response).headers == []
    assert distinct_ids(ended(exchange)) == [""]


def test_the_browsers_own_id_needs_no_cookie_of_ours(house):
    """It comes again with the next request anyway."""
    exchange = house.open({**BROWSER_DOCUMENT, "cookie": sdk_cookie(house, DEVICE)})
    exchange.add(event(distinct_id=f"$device:{DEVICE}"))
    exchange.on_response_start(200, lambda: [("Cache-Control", "public")])
    assert distinct_ids(ended(exchange)) == [f"$device:{DEVICE}"]


def test_a_request_without_any_answer_is_nobodys(house):
    """Its handler failed, and the server's own answer passes us by."""
    exchange = house.open()
    exchange.add(event(distinct_id="$device:fresh-1"))
    assert distinct_ids(ended(exchange)) == [""]


def test_a_tagged_bot_is_nobody():
    """Its events may go through, but no visitor is minted for it."""
    exchange = House(bots="tag").open({"user-agent": "Googlebot/2.1"})
    exchange.add(event(distinct_id=f"$device:{exchange.identity.device_id}"))
    exchange.on_response_start(*OK)
    assert distinct_ids(ended(exchange)) == [""]


def test_a_log_out_after_the_head_makes_nobody(house):
    """The new ID can no longer reach the browser."""
    exchange = house.open(house.cookie(user_id="anna"))
    exchange.on_response_start(*OK)
    exchange.reset(house.fresh)
    exchange.add(event(distinct_id="$device:fresh-1"))
    assert distinct_ids(ended(exchange)) == [""]


# --- which identity events are due ------------------------------------------------------------------


def log_in(house, exchange):
    """Log in; return the identity event that is due at once."""
    return exchange.schedule_merge(exchange.identify("u", house.fresh).merge)


def due_at_start(exchange):
    """Start the response; return the identity events that are due then."""
    return exchange.on_response_start(*OK).merge_events


def test_a_log_in_alone_is_told(house):
    """No other event of this request joins device and user."""
    exchange = house.open(house.cookie())
    assert log_in(house, exchange) is None
    assert due_at_start(exchange) == merge_events_between("simplified", "u", "known")
    assert exchange.on_response_end() is None


def test_a_log_in_without_a_response_is_told_at_the_end(house):
    """A request whose handler failed has logged in all the same."""
    exchange = house.open(house.cookie())
    log_in(house, exchange)
    assert (exchange.on_response_end(),) == merge_events_between("simplified", "u", "known")
    assert exchange.on_response_end() is None


def test_a_log_in_with_an_event_needs_no_other(house):
    """The event itself carries both."""
    exchange = house.open(house.cookie())
    log_in(house, exchange)
    exchange.add(RECORD)
    assert due_at_start(exchange) == ()
    assert exchange.on_response_end() is None


def test_a_profile_update_joins_nothing(house):
    """It names the user alone."""
    exchange = house.open(house.cookie())
    log_in(house, exchange)
    exchange.add(Record("engage", b"{}"))
    assert len(due_at_start(exchange)) == 1


def test_a_log_in_and_out_tells_nothing(house):
    """The device is no longer the one that was logged in on."""
    exchange = house.open(house.cookie())
    log_in(house, exchange)
    exchange.reset(house.fresh)
    assert due_at_start(exchange) == ()
    assert exchange.on_response_end() is None


def test_a_log_in_after_the_end_is_told_at_once(house):
    """There is no later moment."""
    exchange = house.open(house.cookie())
    exchange.on_response_start(*OK)
    exchange.on_response_end()
    assert log_in(house, exchange) is not None


def test_an_earlier_device_is_joined_at_the_log_in(house):
    """And then forgotten: it is told once."""
    exchange = house.open(house.cookie(earlier_id="earlier"))
    login = exchange.identify("u", house.fresh)
    assert login.merge_events == merge_events_between("simplified", "u", "earlier")
    assert house.read(exchange.on_response_start(*OK).headers).earlier_id is None


def test_a_device_of_the_browsers_own_is_joined_one_request_later(house):
    """Not in the request that brought it, but as soon as it comes in our own cookie; and once."""
    device = f"{house.mixpanel.name}={quoted_identity(DEVICE)}"
    exchange = house.open({"cookie": device})
    assert log_in(house, exchange) is None
    start = exchange.on_response_start(*OK)
    visitor_cookie = house.read(start.headers)
    assert (start.merge_events, visitor_cookie.user_id, visitor_cookie.merge_pending) == ((), "u", True)

    again = house.open({"cookie": f"mpv={house.codec.encode(visitor_cookie)}; {device}"})
    assert again.merge_events
    start = again.on_response_start(*OK)
    visitor_cookie = house.read(start.headers)
    assert start.merge_events == merge_events_between("simplified", "u", DEVICE)
    assert not house.open({"cookie": f"mpv={house.codec.encode(visitor_cookie)}; {device}"}).merge_events


@pytest.mark.parametrize("mode", ["simplified", "original"])
def test_a_device_that_came_after_the_log_in_is_joined_at_the_next_one(mode):
    """The same user's: at once, if it came in our own cookie; and then events carry both."""
    house = House(id_mode=mode)
    headers = house.cookie(device_id=DEVICE, vouched=False, sdk_confirmed=True, user_id="u", unjoined=True)
    exchange = house.open(headers)
    login = exchange.identify("u", house.fresh)
    told = (*login.merge_events, *([] if login.merge is None else [login.merge]))
    assert told == merge_events_between(mode, "u", DEVICE)
    assert not exchange.identity.device_unverified
    visitor_cookie = house.read(exchange.on_response_start(*OK).headers)
    assert (visitor_cookie.device_id, visitor_cookie.user_id) == (DEVICE, "u")
    assert (visitor_cookie.unjoined, visitor_cookie.merge_pending) == (False, False)


def test_a_device_that_came_after_the_log_in_and_with_this_request_waits_for_the_next(house):
    """It has not come in our own cookie yet."""
    headers = house.cookie(device_id=str(uuid4()), user_id="u")
    exchange = house.open({"cookie": f"{headers['cookie']}; {sdk_cookie(house, DEVICE)}"})
    login = exchange.identify("u", house.fresh)
    assert (login.merge_events, login.merge) == ((), None)
    visitor_cookie = house.read(exchange.on_response_start(*OK).headers)
    assert (visitor_cookie.device_id, visitor_cookie.merge_pending, visitor_cookie.unjoined) == (
        DEVICE,
        True,
        False,
    )


def test_links_wait_for_an_answer_that_stores_what_they_say(house):
    """Else every request would tell the same again."""
    headers = house.cookie(user_id="u", merge_pending=True)
    exchange = house.open(headers)
    assert exchange.on_response_start(304, list).merge_events == ()
    assert exchange.on_response_end() is None
