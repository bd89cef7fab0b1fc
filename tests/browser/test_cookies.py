"""Cookies as sites configure them, as old releases wrote them, and as time takes them away."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

PAGES = ("Page viewed /", "web_page_view /", "Page viewed /tea", "web_page_view /tea")

# What releases before 2.62 made: five parts, not a UUID. Before 2.46 it was the distinct ID as it is.
OLD_ID = "18c3b5a4f2e1a0-0f9e8d7c6b5a49-1f525637-1fa400-18c3b5a4f2f2b1c"


def browse(journey):
    """Look at two pages and do something in both places."""
    journey.visit("/")
    journey.click("#tea")
    journey.track("cup")
    journey.order("tea")


BROWSED = (*PAGES, "Clicked cup", "Ordered tea")


def test_bare_id_of_an_old_release(start):
    """A distinct ID without `$device:` is followed word for word, in the log-in as well."""
    journey = start()
    journey.give_cookie(journey.sdk_cookie, {"distinct_id": OLD_ID, "$device_id": OLD_ID})
    browse(journey)
    journey.assert_one_person(*BROWSED)
    ids = {(event.side, event.distinct_id, event.device_id) for event in journey.arrived()}
    assert ids == {("browser", OLD_ID, OLD_ID), ("server", OLD_ID, OLD_ID)}


def test_id_that_is_no_uuid(start):
    """The IDs of releases from 2.46 to 2.61 are followed, too."""
    journey = start()
    journey.give_cookie(journey.sdk_cookie, {"distinct_id": f"$device:{OLD_ID}", "$device_id": OLD_ID})
    browse(journey)
    journey.assert_one_person(*BROWSED)
    assert {event.device_id for event in journey.arrived()} == {OLD_ID}


def test_sdk_was_there_first(start):
    """The ID that the SDK's cookie held before our middleware was installed stays."""
    journey = start(installed=False)
    journey.visit("/")
    before = journey.browser_device_id()
    journey.install()
    journey.visit("/tea")
    assert journey.order("tea") == before
    journey.assert_one_person("web_page_view /", "Page viewed /tea", "web_page_view /tea", "Ordered tea")


def test_persistence_name(start):
    """A cookie of another name, if our setting says the same as the SDK's."""
    journey = start(config={"persistence_name": "visitors"}, persistence_name="visitors")
    browse(journey)
    assert "mp_visitors" in journey.cookies()
    journey.assert_one_person(*BROWSED)


def test_cookie_of_one_host(start):
    """`cross_subdomain_cookie: false`: the SDK's cookie is of one host only, and so is what we seed."""
    journey = start(config={"cross_subdomain_cookie": False}, cross_subdomain_cookie=False)
    browse(journey)
    journey.log_in("anna")
    journey.log_out()
    journey.track("after")
    journey.order("mug")
    journey.assert_people((*BROWSED, "Logged in anna", "Logged out fetch"), ("Clicked after", "Ordered mug"))


@pytest.mark.parametrize(("cross_subdomain", "domain"), [(True, ".example.com"), (False, "shop.example.com")])
def test_scope_of_the_seed(start, cross_subdomain, domain):
    """The cookie that we seed has the domain of the one that the SDK then writes in its place."""
    journey = start(
        config={"cross_subdomain_cookie": cross_subdomain}, cross_subdomain_cookie=cross_subdomain
    )
    journey.visit("/bare")
    assert journey.domain_of(journey.sdk_cookie) == domain
    journey.visit("/")
    assert journey.domain_of(journey.sdk_cookie) == domain


@pytest.mark.parametrize("settings", [{}, {"cookie_domain": "example.com"}], ids=["host", "domain"])
def test_two_hosts_of_one_site(start, settings):
    """Another host of the site knows the same person, and a log-out there is one here as well."""
    journey = start(**settings)
    journey.visit("/")
    journey.visit("/tea", host="www.example.com")
    journey.order("tea")
    journey.log_in("anna")
    journey.visit("/pot")
    journey.visit("/mug", host="www.example.com")
    journey.log_out()
    journey.track("after")
    journey.visit("/jug", host="app.example.com")
    journey.visit("/cup")
    journey.assert_people(
        (
            *(*PAGES, "Ordered tea", "Logged in anna", "Page viewed /pot", "web_page_view /pot"),
            *("Page viewed /mug", "web_page_view /mug", "Logged out fetch"),
        ),
        (
            *("Clicked after", "Page viewed /jug", "web_page_view /jug"),
            *("Page viewed /cup", "web_page_view /cup"),
        ),
    )


@pytest.mark.parametrize("persistence", ["cookie", "localStorage"])
def test_sdk_forgets_after_a_week(start, persistence):
    """Safari keeps what scripts store for seven days: from our own cookie the SDK's ID comes back."""
    journey = start(days_ago=8, config={"persistence": persistence})
    journey.visit("/")
    if persistence == "localStorage":
        journey.forget_storage()
    else:
        journey.leave()
        journey.forget_cookie(journey.sdk_cookie)
    journey.days_later(8)
    journey.visit("/tea")
    journey.track("cup")
    journey.order("tea")
    pages = set(PAGES)
    if journey.plan.collector:
        # The server's clock is eight days behind: as Mixpanel, it takes nothing from so far ahead.
        pages.remove("web_page_view /")
    journey.assert_one_person(*pages, "Clicked cup", "Ordered tea")


def test_our_cookie_is_lost(start):
    """Where only the SDK's cookie is left, the server follows it."""
    journey = start()
    journey.visit("/")
    journey.leave()
    journey.forget_cookie(journey.our_cookie)
    journey.visit("/tea")
    journey.order("tea")
    journey.assert_one_person(*PAGES, "Ordered tea")
