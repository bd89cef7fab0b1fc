"""A project on the legacy ID system, which joins nothing after the fact."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

UID = "aXaaaaXaaaaaaXa1b2c3"


@pytest.mark.parametrize("id_merge", ["legacy"])
@pytest.mark.parametrize("framework", ["starlette", "flask"])
def test_spid_answers_after_the_first_page(start, framework):
    """The first page's server event is nobody's; all else is the uid's, in browser and server."""
    journey = start(
        framework=framework,
        config={"track_pageview": False},
        browser_sdk="spid",
        spid_client_id="4321abc0000",
    )
    journey.visit("/")
    journey.identify(UID)
    journey.track("cup")
    journey.js(
        """(uid) => fetch("/_visitor", {
            method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify({uid}),
        }).then(() => 0)""",
        UID,
    )
    journey.order("tea")
    journey.visit("/mug")
    people = journey.people("Page viewed /", "Clicked cup", "Ordered tea", "Page viewed /mug")
    assert people.pop("Page viewed /") is None
    assert {event.person for event in journey.arrived()} == {None, UID}
    assert {people[label] for label in ("Clicked cup", "Ordered tea", "Page viewed /mug")} == {UID}


@pytest.mark.parametrize("id_merge", ["legacy"])
@pytest.mark.parametrize("framework", ["starlette", "flask"])
def test_one_person_from_the_first_page_on(start, framework):
    """With mixpanel-browser alone: both go by its anonymous ID."""
    journey = start(framework=framework)
    journey.visit("/")
    journey.order("tea")
    journey.assert_one_person("Page viewed /", "web_page_view /", "Ordered tea")
