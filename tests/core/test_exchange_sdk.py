"""Exchange: the browser SDK's cookie, which is seeded, followed, left alone or removed."""

import pytest
from support.exchanges import DEVICE, NOW_S, OK, RECORD, House, cookies, sdk_cookie
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH

from mixpanel_visitor.core.identity.mixpanel_browser import quoted_identity
from mixpanel_visitor.core.response_cookies import HEAL_AFTER_S


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
