"""What the SDK changes on a page that stays open is handed over then, and not with the next page's script."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

CONFIG = {"persistence": "localStorage", "track_pageview": False}


@pytest.fixture(params=["tag", "inline"])
def journey(request, start):
    """Return a journey whose SDK keeps its ID where no request carries it."""
    return start(config=CONFIG, snippet=request.param)


def test_the_page_after_a_reset(journey):
    """The next page's own event on the server already has the new ID: a log-out makes one new person."""
    journey.visit("/")
    journey.log_in("anna")
    journey.identify("anna")
    journey.log_out()
    journey.reset()
    journey.wait_for_handover_of_id()
    journey.visit("/tea")
    journey.track("after")
    journey.order("tea")
    journey.assert_people(
        ("Page viewed /", "Logged in anna", "Logged out fetch"),
        ("Page viewed /tea", "Clicked after", "Ordered tea"),
    )


def test_an_opt_in_while_the_page_stays(journey):
    """The ID that the SDK makes then is the server's on the same page."""
    journey.visit("/")
    journey.opt_out()
    journey.wait_for_handover(opted_out=True)
    journey.opt_in()
    journey.wait_for_handover(opted_out=False)
    journey.wait_for_handover_of_id()
    assert journey.order("tea") == journey.browser_device_id()


def test_two_resets_on_one_page(journey):
    """Each is noticed."""
    journey.visit("/")
    for item in ("tea", "mug"):
        journey.reset()
        journey.wait_for_handover_of_id()
        assert journey.order(item) == journey.browser_device_id()
