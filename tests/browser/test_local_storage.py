"""`persistence: "localStorage"`: the SDK keeps its ID where no request carries it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

CONFIG = {"persistence": "localStorage"}


@pytest.fixture(params=["tag", "inline"])
def snippet(request):
    """Return each way in turn in which a page has our script."""
    return request.param


def test_first_pages(start):
    """The SDK takes the seed into its storage, and the server remembers it in its own cookie."""
    journey = start(config=CONFIG)
    journey.visit("/")
    assert journey.sdk_cookie not in journey.cookies()
    journey.click("#tea")
    journey.track("cup")
    journey.order("tea")
    journey.assert_one_person(
        *("Page viewed /", "web_page_view /", "Page viewed /tea", "web_page_view /tea"),
        *("Clicked cup", "Ordered tea"),
    )


@pytest.mark.parametrize("framework", ["starlette", "flask"])
def test_single_page_app(start, framework, snippet):
    """The SDK made its ID on a page from a cache; our script hands it to the server."""
    journey = start(config=CONFIG, framework=framework, snippet=snippet)
    journey.visit("/static")
    journey.wait_for_handover_of_id()
    assert journey.order("tea") == journey.browser_device_id()
    journey.click("#tea")
    journey.assert_one_person(
        "web_page_view /static", "Ordered tea", "Page viewed /tea", "web_page_view /tea"
    )


def test_sdk_was_there_first(start, snippet):
    """An ID from before our middleware was installed is followed once our script has handed it over."""
    journey = start(config=CONFIG, installed=False)
    journey.visit("/")
    before = journey.browser_device_id()
    journey.install(snippet=snippet)
    journey.visit("/tea")
    journey.wait_for_handover_of_id()
    assert journey.order("tea") == before
    journey.visit("/mug")
    journey.log_in("anna")
    journey.track("cup")
    journey.assert_one_person(
        *("web_page_view /", "web_page_view /tea", "Page viewed /tea", "Ordered tea"),
        *("Page viewed /mug", "web_page_view /mug", "Logged in anna", "Clicked cup"),
    )


def test_sdk_was_there_first_without_our_script(start):
    """Without our script the two are linked as soon as both have been told who it is."""
    journey = start(config=CONFIG, installed=False)
    journey.visit("/")
    journey.install()
    journey.visit("/tea")
    journey.order("tea")
    journey.log_in("anna")
    journey.identify("anna")
    journey.track("cup")
    journey.assert_one_person(
        *("web_page_view /", "web_page_view /tea", "Page viewed /tea", "Ordered tea"),
        *("Logged in anna", "Clicked cup"),
    )


def test_log_out(start, snippet):
    """Server and page both log out; the next person is one person, and not anna."""
    journey = start(config={**CONFIG, "track_pageview": False}, snippet=snippet)
    journey.visit("/")
    journey.log_in("anna")
    journey.identify("anna")
    journey.track("before")
    journey.log_out()
    journey.reset()
    journey.track("after")
    journey.visit("/tea")
    journey.wait_for_handover_of_id()
    journey.order("tea")
    journey.log_in("bert")
    journey.track("bert's")
    journey.assert_people(
        ("Page viewed /", "Logged in anna", "Clicked before", "Logged out fetch"),
        ("Clicked after", "Page viewed /tea", "Ordered tea", "Logged in bert", "Clicked bert's"),
    )
