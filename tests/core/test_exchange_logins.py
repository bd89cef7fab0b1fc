"""Exchange: what the cookie keeps of a log-in or log-out, and which identity events are due."""

from uuid import uuid4

import pytest
from support.exchanges import DEVICE, OK, RECORD, House, sdk_cookie
from support.facts import BROWSER_FETCH

from mixpanel_visitor.core.identity.identity import merge_events_between
from mixpanel_visitor.core.identity.mixpanel_browser import quoted_identity
from mixpanel_visitor.core.identity.visitor_cookie import user_hash
from mixpanel_visitor.records import Record


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
