"""Exchange: the life of one request, driven by hand."""

from collections import Counter
from itertools import count

import pytest
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH, facts

from mixpanel_visitor.core.anchor import RENEW_AFTER_S, Anchor, AnchorCodec
from mixpanel_visitor.core.exchange import HAND_OVER_RECORDS, ExchangeRules
from mixpanel_visitor.records import Record

NOW_S = 1_763_900_000
OK = (200, [("content-type", "text/html")])
RECORD = Record("import", b"{}")


class House:
    """Rules with everything they need, and what they counted."""

    def __init__(self, **more):
        self.notes = Counter()
        self.ids = (f"fresh-{number}" for number in count(1))
        self.anchors = AnchorCodec(
            ["a-key-of-some-length"], name="mpv", domain=None, max_age_s=31_536_000, count=self.note
        )
        self.rules = ExchangeRules(
            **{
                "anchors": self.anchors,
                "token": "token",
                "id_mode": "simplified",
                "bots": "drop",
                "respect_dnt": True,
                "respect_gpc": True,
                "consent": lambda _facts: "granted",
                "left_alone": lambda _facts: False,
                "refusal": lambda: None,
                "count": self.note,
                **more,
            }
        )

    def note(self, name):
        self.notes[name] += 1

    def fresh(self):
        return next(self.ids)

    def open(self, headers=None, now_s=NOW_S, **more):
        return self.rules.open(facts(headers, **more), now_s=now_s, fresh_id=self.fresh)

    def cookie(self, *, secure=False, **more):
        anchor = Anchor(**{"device_id": "known", "issued_at_s": NOW_S - 10, **more})
        return {"cookie": f"{self.anchors.name(secure=secure)}={self.anchors.encode(anchor)}"}

    def read(self, added):
        """What the Set-Cookie among the added headers says."""
        value = dict(added)["set-cookie"].partition(";")[0].partition("=")[2]
        return self.anchors.decode(value, now_s=NOW_S)


@pytest.fixture
def house():
    return House()


def test_a_new_visitor_gets_an_id_and_a_cookie(house):
    """The handler and the response speak of the same ID, from the first page view on."""
    exchange = house.open(BROWSER_DOCUMENT)
    assert (exchange.identity.device_id, exchange.identity.source) == ("fresh-1", "generated")
    assert exchange.identity.is_new
    assert house.read(exchange.respond(*OK)).device_id == "fresh-1"


def test_a_known_visitor_costs_no_header(house):
    """Nothing is set where nothing has changed."""
    exchange = house.open(house.cookie())
    assert (exchange.identity.device_id, exchange.identity.source) == ("known", "cookie")
    assert exchange.identity.vouched
    assert not exchange.identity.is_new
    assert not exchange.wants_cookie
    assert exchange.respond(*OK) == []


def test_the_cookie_is_renewed_at_most_daily(house):
    """An active visitor's cookie never expires, at the price of one header a day."""
    headers = house.cookie(issued_at_s=NOW_S)
    assert house.open(headers, now_s=NOW_S + RENEW_AFTER_S).respond(*OK) == []
    added = house.open(headers, now_s=NOW_S + RENEW_AFTER_S + 1).respond(*OK)
    assert "set-cookie" in dict(added)


def test_https_gets_the_prefixed_cookie(house):
    """The scheme decides about prefix and Secure."""
    added = house.open(BROWSER_DOCUMENT, scheme="https").respond(*OK)
    assert dict(added)["set-cookie"].startswith("__Host-mpv=")


def test_a_silent_response_becomes_private(house):
    """Where we mint and nothing is said about caching, a shared cache must not store the answer."""
    assert ("cache-control", "private") in house.open().respond(*OK)


def test_what_the_app_says_about_caching_stays(house):
    """Cache-Control is the application's; only its absence is filled."""
    added = house.open().respond(200, [("Cache-Control", "no-cache")])
    assert [name for name, _ in added] == ["set-cookie"]


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
    assert house.open().respond(status, headers) == []
    assert house.notes == {note: 1}


def test_an_informational_answer_is_not_the_head(house):
    """103 Early Hints carries no cookie, the answer after it does."""
    exchange = house.open()
    assert exchange.respond(103, []) == []
    assert not exchange.started
    assert exchange.respond(*OK)


def test_asking_again_gives_the_same_answer(house):
    """WSGI may call start_response again with exc_info: the second list replaces the first."""
    exchange = house.open()
    assert exchange.respond(*OK) == exchange.respond(500, [])


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_no_cookie_on_questions_about_a_page(house, method):
    """HEAD and OPTIONS are no visits."""
    assert house.open(method=method).respond(*OK) == []


def test_a_sub_resource_gets_no_cookie_unless_its_handler_tracks(house):
    """An API behind a single-page app works; an image does not mint visitors."""
    assert house.open(BROWSER_FETCH).respond(*OK) == []
    exchange = house.open(BROWSER_FETCH)
    exchange.add(RECORD)
    exchange.take()
    assert exchange.respond(*OK)


def test_a_bot_is_dropped(house):
    """No cookie, no event, an ID for this request only."""
    exchange = house.open({"user-agent": "Googlebot/2.1"})
    assert exchange.refusal == "bot"
    assert exchange.identity.source == "none"
    assert exchange.respond(*OK) == []


def test_bots_may_be_kept():
    """`bots="keep"` treats everybody alike; `"tag"` lets events through, without minting."""
    assert House(bots="keep").open({"user-agent": "Googlebot/2.1"}).respond(*OK)
    tagged = House(bots="tag").open({"user-agent": "Googlebot/2.1"})
    assert tagged.refusal is None
    assert tagged.respond(*OK) == []


def test_denied_consent_expires_the_cookie(house):
    """Who opts out loses the cookie and is not tracked."""
    exchange = house.open({**house.cookie(), "dnt": "1"})
    assert exchange.refusal == "consent_denied"
    assert exchange.identity.device_id != "known"
    assert "Max-Age=0" in dict(exchange.respond(*OK))["set-cookie"]


def test_denied_consent_without_a_cookie_sets_none(house):
    """Nothing is stored, not even a removal."""
    exchange = house.open({"dnt": "1"})
    exchange.identify("user", house.fresh)
    assert exchange.respond(*OK) == []


def test_unknown_consent_is_an_id_for_this_request():
    """No cookie and no event until somebody has decided."""
    exchange = House(consent=lambda _facts: "unknown").open()
    assert exchange.refusal == "consent_unknown"
    assert exchange.identity.device_id
    assert exchange.respond(*OK) == []


def test_requests_left_alone_are_left_alone():
    """`request_filter` turns everything off for a request, but handlers still find a visitor."""
    house = House(left_alone=lambda _facts: True)
    exchange = house.open(BROWSER_DOCUMENT)
    assert exchange.identity.device_id
    assert exchange.respond(*OK) == []
    assert exchange.refusal == "consent_unknown"


def test_a_closed_tracker_refuses_by_name():
    """After `close()` what is tracked is counted as refused for that reason."""
    exchange = House(refusal=lambda: "closed").open()
    assert exchange.refusal == "closed"
    assert exchange.respond(*OK) == []


def test_identify_is_remembered_in_the_cookie(house):
    """The user goes into the signed cookie, so that later requests carry it as well."""
    exchange = house.open(house.cookie())
    exchange.identify("user-42", house.fresh)
    anchor = house.read(exchange.respond(*OK))
    assert (anchor.device_id, anchor.user_id) == ("known", "user-42")
    assert house.open({"cookie": f"mpv={house.anchors.encode(anchor)}"}).identity.user_id == "user-42"


def test_identify_again_changes_nothing(house):
    """An application may call identify on every request."""
    exchange = house.open(house.cookie(user_id="user-42"))
    exchange.identify("user-42", house.fresh)
    assert exchange.identity.device_id == "known"
    assert exchange.respond(*OK) == []


def test_another_user_gets_another_device(house):
    """Two people on one browser stay two people."""
    exchange = house.open(house.cookie(user_id="anna"))
    exchange.identify("bert", house.fresh)
    anchor = house.read(exchange.respond(*OK))
    assert (anchor.device_id, anchor.user_id) == ("fresh-1", "bert")


def test_original_mode_links_a_pair_once():
    """`$identify` goes out at the first log-in of a pair of device and user only."""
    house = House(id_mode="original")
    assert house.open(house.cookie()).identify("u", house.fresh).event == "$identify"
    assert house.open(house.cookie(user_id="u")).identify("u", house.fresh).event is None


def test_a_long_user_id_is_recognised_by_its_tag(house):
    """The cookie keeps a hash of it: enough to know the pair again."""
    long_id = "u" * 200
    exchange = house.open()
    exchange.identify(long_id, house.fresh)
    anchor = house.read(exchange.respond(*OK))
    again = house.open({"cookie": f"mpv={house.anchors.encode(anchor)}"})
    assert again.identity.user_id is None
    again.identify(long_id, house.fresh)
    assert again.identity.device_id == exchange.identity.device_id


def test_reset_renews_the_cookie_even_on_a_fetch(house):
    """Log-out is often an API call: the new device ID is stored wherever it is asked for."""
    exchange = house.open({**house.cookie(user_id="anna"), **BROWSER_FETCH}, method="POST")
    exchange.reset(house.fresh)
    anchor = house.read(exchange.respond(*OK))
    assert (anchor.device_id, anchor.user_id) == ("fresh-1", None)


def test_identify_after_the_head_is_counted(house):
    """The cookie has left; the events still carry the user."""
    exchange = house.open(house.cookie())
    exchange.respond(*OK)
    exchange.identify("user-42", house.fresh)
    assert exchange.identity.user_id == "user-42"
    assert house.notes == {"cookie_too_late": 1}


def test_records_leave_once(house):
    """What was taken is not taken again."""
    exchange = house.open()
    exchange.add(RECORD)
    assert exchange.has_records
    assert exchange.take() == [RECORD]
    assert exchange.take() == []
    assert not exchange.has_records


def test_a_full_request_hands_over_early(house):
    """A stream that tracks without end does not grow without end."""
    exchange = house.open()
    taken = []
    exchange.hand_over = lambda self: taken.append(len(self.take()))
    for _ in range(HAND_OVER_RECORDS * 2):
        exchange.add(RECORD)
    assert taken == [HAND_OVER_RECORDS, HAND_OVER_RECORDS]


def test_large_records_hand_over_early(house):
    """So do a few large ones."""
    exchange = house.open()
    taken = []
    exchange.hand_over = lambda self: taken.append(len(self.take()))
    for _ in range(3):
        exchange.add(Record("import", b"x" * 600_000))
    assert taken == [2]


def test_what_comes_after_the_end_is_handed_over_at_once(house):
    """A thread that outlives its request loses nothing."""
    exchange = house.open()
    taken = []
    exchange.hand_over = lambda self: taken.extend(self.take())
    assert exchange.finish() == []
    exchange.add(RECORD)
    assert taken == [RECORD]


def test_a_socket_hands_over_each_record(house):
    """There is no end of the response to wait for."""
    exchange = house.open(protocol="websocket")
    taken = []
    exchange.hand_over = lambda self: taken.extend(self.take())
    exchange.add(RECORD)
    assert taken == [RECORD]


def test_an_accepted_socket_gets_the_cookie_alone(house):
    """There is nothing to cache in a 101, so nothing is said about caching."""
    added = house.open(BROWSER_DOCUMENT, protocol="websocket").respond(101, [])
    assert [name for name, _ in added] == ["set-cookie"]


def test_other_cookies_and_other_headers_do_not_stop_ours(house):
    """Only a Set-Cookie of our own name means that somebody else has set it."""
    headers = [("Set-Cookie", "session=1"), ("X-Copy", "mpv=1"), ("Set-Cookie", "mpv2=1")]
    assert "set-cookie" in dict(house.open().respond(200, headers))


@pytest.mark.parametrize(
    ("headers", "note"),
    [
        ({"user-agent": "Googlebot/2.1"}, "cookie_skipped_bot"),
        (BROWSER_FETCH, "cookie_skipped_no_visit"),
    ],
)
def test_a_skipped_cookie_is_counted_by_reason(house, headers, note):
    """Whoever wonders why a request has no cookie finds the reason among the notes."""
    house.open(headers).respond(*OK)
    assert house.notes == {note: 1}


def test_a_log_in_without_consent_is_counted_as_such(house):
    """A handler that identifies somebody who opted out changes nothing in the browser."""
    exchange = house.open({"dnt": "1"})
    exchange.identify("user", house.fresh)
    exchange.respond(*OK)
    assert house.notes == {"cookie_skipped_consent": 1}


@pytest.mark.parametrize(
    ("consent", "with_cookie", "wanted"),
    [("denied", True, True), ("denied", False, False), ("unknown", True, False), ("unknown", False, False)],
)
def test_without_consent_only_a_removal_is_wanted(consent, with_cookie, wanted):
    """No adapter has to look at a head that we have nothing to say about."""
    house = House(consent=lambda _facts: consent)
    exchange = house.open(house.cookie() if with_cookie else {})
    assert exchange.wants_cookie is wanted


def test_requests_left_alone_are_nobodys_and_no_bots():
    """Nothing is looked at there, so nothing is claimed."""
    exchange = House(left_alone=lambda _facts: True).open({"user-agent": "Googlebot/2.1"})
    assert not exchange.is_bot
