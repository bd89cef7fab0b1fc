"""Log-in: what somebody did before and does after it is one person's, whoever tells Mixpanel of it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

BEFORE = ("Page viewed /", "web_page_view /", "Ordered tea")
WELCOME = ("Page viewed /welcome", "web_page_view /welcome")
AFTER = ("Ordered mug", "Clicked cup")


@pytest.fixture(params=[pytest.param({}, id="starlette"), pytest.param({"framework": "flask"}, id="flask")])
def journey(start, request):
    """Return a journey of somebody who has looked at a page and ordered something."""
    journey = start(**request.param)
    journey.visit("/")
    journey.order("tea")
    return journey


def go_on(journey):
    """Do something in both places."""
    journey.order("mug")
    journey.track("cup")


def test_server_identifies(journey):
    """Only the server knows of the log-in, which is a form and a redirect."""
    journey.log_in("anna", form=True)
    go_on(journey)
    journey.assert_one_person(*BEFORE, "Logged in anna", *WELCOME, *AFTER)


def test_server_identifies_while_the_page_stays(journey):
    """Only the server knows of the log-in, and the page that asked for it goes on."""
    journey.log_in("anna")
    go_on(journey)
    journey.assert_one_person(*BEFORE, "Logged in anna", *AFTER)


def test_server_identifies_and_tracks_nothing(journey):
    """The log-in joins who it was before to the user, although no event of the application follows."""
    journey.log_in("anna", quiet=True)
    journey.track("cup")
    person = journey.assert_one_person(*BEFORE, "Clicked cup")
    assert "anna" in journey.ids_of(person)


def test_browser_identifies(journey):
    """Only the browser knows of the log-in; the server takes no user from it, and need not."""
    journey.identify("anna")
    go_on(journey)
    journey.click("#mug")
    person = journey.assert_one_person(*BEFORE, *AFTER, "Page viewed /mug", "web_page_view /mug")
    assert {event.user_id for event in journey.arrived() if event.side == "server"} == {None}
    assert "anna" in journey.ids_of(person)


def test_both_identify(journey):
    """The server identifies, and then the page that it shows does."""
    journey.log_in("anna", form=True)
    journey.identify("anna")
    go_on(journey)
    journey.assert_one_person(*BEFORE, "Logged in anna", *WELCOME, *AFTER)


def test_both_identify_browser_first(journey):
    """The page identifies before it tells the server."""
    journey.identify("anna")
    journey.log_in("anna")
    go_on(journey)
    journey.assert_one_person(*BEFORE, "Logged in anna", *AFTER)


def test_log_in_again(journey):
    """Logging in twice, also from another tab, changes nothing."""
    journey.log_in("anna", form=True)
    journey.new_tab()
    journey.visit("/pot")
    journey.identify("anna")
    journey.js("() => fetch('/api/log-in', {method: 'POST', body: JSON.stringify({user: 'anna'})})")
    go_on(journey)
    people = journey.people(*BEFORE, *WELCOME, "Page viewed /pot", "web_page_view /pot", *AFTER)
    assert len(set(people.values())) == 1


def test_single_page_app(start):
    """The SDK was first, then the API saw a log-in."""
    journey = start()
    journey.visit("/static")
    journey.log_in("anna")
    go_on(journey)
    journey.assert_one_person("web_page_view /static", "Logged in anna", *AFTER)


def test_two_browsers(start):
    """The same user on two browsers is one person, with what each of them did before."""
    journey = start()
    journey.visit("/")
    journey.log_in("anna")
    journey.leave()
    journey.another_browser()
    journey.visit("/tea")
    journey.track("elsewhere")
    journey.log_in("anna", form=True)
    people = journey.people(
        *(
            "Page viewed /",
            "web_page_view /",
            "Page viewed /tea",
            "web_page_view /tea",
            "Clicked elsewhere",
            *WELCOME,
        )
    )
    assert len(set(people.values())) == 1
