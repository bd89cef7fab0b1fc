"""Exchange, driven by hand: when a response sets our cookie, and what it says about caching then."""

import pytest
from support.exchanges import NOW_S, OK, RECORD, cookies
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH

from mixpanel_visitor.core.exchange import OPEN
from mixpanel_visitor.core.identity.visitor_cookie import RENEW_AFTER_S


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
