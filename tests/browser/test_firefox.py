"""The main journeys in Firefox as well: it withholds and partitions cookies by rules of its own."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

HOME = ("Page viewed /", "web_page_view /")
THANKS = ("Page viewed /thanks", "web_page_view /thanks")
WELCOME = ("Page viewed /welcome", "web_page_view /welcome")


@pytest.fixture(params=[pytest.param({}, id="starlette"), pytest.param({"framework": "flask"}, id="flask")])
def journey(start_in_firefox, request):
    """Return a journey."""
    return start_in_firefox(**request.param)


def test_first_visit(journey):
    """From the first page on, browser and server speak of one person."""
    journey.visit("/")
    journey.click("#tea")
    journey.track("cup")
    journey.order("tea")
    journey.assert_one_person(
        *(*HOME, "Page viewed /tea", "web_page_view /tea"), *("Clicked cup", "Ordered tea")
    )


def test_log_in(journey):
    """What came before the log-in and what comes after it is one person's."""
    journey.visit("/")
    journey.order("tea")
    journey.log_in("anna", form=True)
    journey.order("mug")
    journey.track("cup")
    person = journey.assert_one_person(
        *(*HOME, "Ordered tea", "Logged in anna", *WELCOME), *("Ordered mug", "Clicked cup")
    )
    assert "anna" in journey.ids_of(person)


def test_log_out(journey):
    """The next one in the same browser is somebody else, in the page that stays as well."""
    journey.visit("/")
    journey.log_in("anna")
    journey.log_out()
    journey.track("after")
    journey.order("mug")
    journey.assert_people((*HOME, "Logged in anna", "Logged out fetch"), ("Clicked after", "Ordered mug"))


def test_a_payment_page_posts_back(journey):
    """Firefox withholds our cookie at once: visitor and user are as they were."""
    journey.visit("/")
    journey.log_in("anna")
    journey.come_back("/paid")
    journey.order("tea")
    people = journey.people(*HOME, "Logged in anna", "Paid back", *THANKS, "Ordered tea")
    assert len(set(people.values()) - {None, ""}) == 1
    assert {event.user_id for event in journey.arrived() if event.label == "Ordered tea"} == {"anna"}


def test_a_sign_in_by_a_post_from_another_site(journey):
    """What came before it and what comes after it is the user's."""
    journey.visit("/")
    journey.come_back("/log-in", user="anna")
    journey.order("tea")
    journey.assert_one_person(*HOME, "Logged in anna", *WELCOME, "Ordered tea")


def test_first_calls_at_once(start_in_firefox):
    """Of a page that the application did not serve: one person, and no orphan after the log-in."""
    journey = start_in_firefox(loading="late")
    journey.visit("/static")
    journey.order_at_once("tea", "mug", "pot")
    devices = {journey.order("cup")}
    journey.log_in("anna")
    assert journey.order("can") in devices
    people = journey.people("Ordered cup", "Logged in anna", "Ordered can", "Ordered tea")
    (person,) = {people[label] for label in ("Ordered cup", "Logged in anna", "Ordered can")}
    assert {event.person for event in journey.arrived()} == {None, person}
