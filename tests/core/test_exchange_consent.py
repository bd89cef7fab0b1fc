"""Exchange: who is not tracked: bots, those who have said no, requests that are left alone."""

import pytest
from support.exchanges import NOW_S, OK, House, cookies
from support.facts import BROWSER_DOCUMENT

from mixpanel_visitor.core.request import facts_from_environ, facts_from_scope


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
