"""From the first page on, browser and server speak of one person."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

WAYS = [
    pytest.param({}, id="starlette"),
    pytest.param({"framework": "flask"}, id="flask"),
    pytest.param({"https": False}, id="localhost"),
    pytest.param({"loading": "global"}, id="global"),
    pytest.param({"loading": "loader"}, id="loader"),
]
"""Who serves the shop, and how its pages load the SDK."""


@pytest.fixture(params=WAYS)
def way(request):
    """Return each way in turn."""
    return request.param


def test_first_page(start, way):
    """The server's first event and the SDK's own first page view are one person's."""
    journey = start(**way)
    journey.visit("/")
    journey.assert_one_person("Page viewed /", "web_page_view /")


def test_second_page(start, way):
    """Pages, clicks and orders after the first page are still the same person's."""
    journey = start(**way)
    journey.visit("/")
    journey.click("#tea")
    journey.track("cup")
    journey.order("tea")
    journey.assert_one_person(
        *("Page viewed /", "web_page_view /", "Page viewed /tea", "web_page_view /tea"),
        *("Clicked cup", "Ordered tea"),
    )


def test_single_page_app(start, way):
    """A page from a cache is first, so the SDK makes the ID; the API then follows it."""
    journey = start(**way)
    journey.visit("/static")
    made_by_the_sdk = journey.browser_device_id()
    assert journey.order("tea") == made_by_the_sdk
    journey.order("mug")
    journey.click("#mug")
    journey.assert_one_person(
        *("web_page_view /static", "Ordered tea", "Ordered mug", "Page viewed /mug", "web_page_view /mug"),
    )


def test_second_tab(start):
    """A second tab is the same person's as the first, which stays open."""
    journey = start()
    journey.visit("/")
    journey.new_tab()
    journey.visit("/tea")
    journey.order("tea")
    journey.switch_tab()
    journey.track("first tab")
    journey.order("mug")
    journey.assert_one_person(
        *("Page viewed /", "web_page_view /", "Page viewed /tea", "web_page_view /tea"),
        *("Ordered tea", "Clicked first tab", "Ordered mug"),
    )


# Tabs take turns with the queue in which the SDK collects a batch, and what waits for its turn is lost when
# the page is left: so nothing is collected here, and no page is left before all has arrived.
ONE_BY_ONE = {"batch_requests": False}


def test_tabs_at_once(start):
    """Somebody who is known opens several tabs at the same time.

    The SDK starts in one after the other: when it starts it deletes its cookie and writes it anew, some
    times, and a tab that looks in between makes a new ID, with us or without (`update_config` in its source).
    """
    journey = start(config=ONE_BY_ONE, loading="late")
    journey.visit("/")
    journey.load_sdk()
    journey.visit_at_once("/tea", "/mug", "/pot")
    for name in ("pot", "mug", "tea"):
        journey.load_sdk()
        journey.track(name)
        journey.tabs.insert(1, journey.tabs.pop())
    labels = (
        *("Page viewed /", "web_page_view /", "Page viewed /tea", "web_page_view /tea"),
        *("Page viewed /mug", "web_page_view /mug", "Page viewed /pot", "web_page_view /pot"),
        *("Clicked pot", "Clicked mug", "Clicked tea"),
    )
    journey.arrived(*labels)
    journey.assert_one_person(*labels)


def test_first_visit_in_tabs_at_once(start):
    """Two first requests cannot know of each other, but all that comes later is one person's."""
    journey = start(config={**ONE_BY_ONE, "track_pageview": False})
    journey.visit_at_once("/", "/pot")
    journey.visit("/tea")
    journey.track("one")
    journey.order("two")
    journey.switch_tab()
    journey.visit("/mug")
    journey.track("three")
    later = ("Page viewed /tea", "Clicked one", "Ordered two", "Page viewed /mug", "Clicked three")
    journey.arrived(*later)
    people = journey.people(*later)
    assert len({people[label] for label in later}) == 1


def test_page_without_sdk_first(start):
    """Pages that do not load the SDK count for the same person as those that do."""
    journey = start()
    journey.visit("/bare")
    journey.visit("/")
    journey.visit("/bare-as-well")
    journey.assert_one_person(
        *("Page viewed /bare", "Page viewed /", "web_page_view /"),
        *("Page viewed /bare-as-well", "web_page_view /bare-as-well"),
    )


@pytest.mark.parametrize("persistence", ["cookie", "localStorage"])
def test_sdk_loaded_late(start, persistence):
    """The SDK comes after the page has asked the API, and takes over who the visitor is by then."""
    journey = start(loading="late", config={"persistence": persistence})
    journey.visit("/")
    journey.order("tea")
    journey.load_sdk()
    journey.track("cup")
    journey.order("mug")
    journey.assert_one_person("Page viewed /", "Ordered tea", "web_page_view /", "Clicked cup", "Ordered mug")


@pytest.mark.parametrize("loading", ["module", "loader"])
def test_sdk_blocked(start, loading):
    """Where the SDK is blocked the server's events are one person's; once it is not, its events are, too."""
    journey = start(loading=loading)
    journey.block_sdk()
    journey.visit("/")
    journey.click("#tea")
    journey.order("tea")
    journey.unblock_sdk()
    journey.errors.clear()  # the page's own code may mind that its SDK is missing
    journey.visit("/mug")
    journey.track("cup")
    journey.assert_one_person(
        *("Page viewed /", "Page viewed /tea", "Ordered tea"),
        *("Page viewed /mug", "web_page_view /mug", "Clicked cup"),
    )
