"""Log-out: the next person on the same browser is somebody else, in the browser and on the server."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

ANNA = (
    "Page viewed /",
    "web_page_view /",
    "Logged in anna",
    "Page viewed /welcome",
    "web_page_view /welcome",
)
GOODBYE = ("Page viewed /goodbye", "web_page_view /goodbye")


@pytest.fixture(params=[pytest.param({}, id="starlette"), pytest.param({"framework": "flask"}, id="flask")])
def journey(start, request):
    """Return a journey on which anna has logged in on the server."""
    journey = start(**request.param)
    journey.visit("/")
    journey.log_in("anna", form=True)
    return journey


def test_server_resets(journey):
    """A form and a redirect: the page after it is of somebody new."""
    journey.log_out(form=True)
    journey.order("mug")
    journey.track("cup")
    journey.assert_people((*ANNA, "Logged out form"), (*GOODBYE, "Ordered mug", "Clicked cup"))


def test_server_resets_while_the_page_stays(journey):
    """The server alone logs out, and even the page that stays open tracks somebody new."""
    journey.track("before")
    journey.log_out()
    journey.track("after")
    journey.order("mug")
    journey.visit("/tea")
    journey.assert_people(
        (*ANNA, "Clicked before", "Logged out fetch"),
        ("Clicked after", "Ordered mug", "Page viewed /tea", "web_page_view /tea"),
    )


def test_server_resets_whom_the_browser_knows(journey):
    """The browser has been told of the user, too; the server's log-out still ends it in both."""
    journey.identify("anna")
    journey.track("before")
    journey.log_out()
    journey.track("after")
    journey.order("mug")
    journey.assert_people((*ANNA, "Clicked before", "Logged out fetch"), ("Clicked after", "Ordered mug"))


def test_page_resets_as_well(journey):
    """The page resets its SDK once the server has answered; its new ID is then the server's, too."""
    journey.identify("anna")
    journey.log_out()
    journey.reset()
    journey.track("after")
    journey.order("mug")
    journey.visit("/tea")
    journey.assert_people(
        (*ANNA, "Logged out fetch"),
        ("Clicked after", "Ordered mug", "Page viewed /tea", "web_page_view /tea"),
    )


def test_page_resets_first(journey):
    """The page resets its SDK before it asks the server to log out."""
    journey.identify("anna")
    journey.reset()
    journey.log_out()
    journey.track("after")
    journey.order("mug")
    # Whose the log-out itself is nobody can say: the browser has a new ID already.
    people = journey.people(*ANNA, "Clicked after", "Ordered mug")
    assert len({people[label] for label in ANNA}) == 1
    assert people["Clicked after"] == people["Ordered mug"] != people["Logged in anna"]


def test_only_the_page_resets(journey):
    """Where only the browser's SDK is told of the log-out, the server follows its new ID."""
    journey.identify("anna")
    journey.reset()
    journey.track("after")
    journey.order("mug")
    journey.visit("/tea")
    journey.assert_people(ANNA, ("Clicked after", "Ordered mug", "Page viewed /tea", "web_page_view /tea"))


@pytest.mark.parametrize("browser_too", [False, True], ids=["server", "both"])
def test_next_user(journey, browser_too):
    """Somebody logs in after anna has logged out: two people, and nobody's events are the other's."""
    if browser_too:
        journey.identify("anna")
    journey.track("anna's")
    journey.log_out(form=True)
    if browser_too:
        journey.reset()
    journey.track("between")
    journey.order("between")
    journey.log_in("bert")
    if browser_too:
        journey.identify("bert")
    journey.track("bert's")
    journey.order("bert's")
    journey.visit("/tea")
    between = ("Clicked between", "Ordered between")
    theirs = ("Logged in bert", "Clicked bert's", "Ordered bert's", "Page viewed /tea", "web_page_view /tea")
    anna = (*ANNA, "Clicked anna's", "Logged out form")
    # The page view after the log-out has an ID of its own when the page then resets its SDK.
    if browser_too:
        people = journey.people(*anna, *GOODBYE, *between, *theirs)
        assert {people[label] for label in anna} == {people["Logged in anna"]}
        assert {people[label] for label in (*between, *theirs)} == {people["Logged in bert"]}
        assert people["Logged in anna"] not in (people["Logged in bert"], *map(people.get, GOODBYE))
    else:
        journey.assert_people(anna, (*GOODBYE, *between, *theirs))


def test_next_user_without_a_log_out(journey):
    """Somebody logs in where anna never logged out: he is not her, in the browser neither."""
    journey.track("anna's")
    journey.log_in("bert")
    journey.track("bert's")
    journey.order("mug")
    journey.visit("/tea")
    journey.assert_people(
        (*ANNA, "Clicked anna's"),
        ("Logged in bert", "Clicked bert's", "Ordered mug", "Page viewed /tea", "web_page_view /tea"),
    )


def test_the_same_user_comes_back(journey):
    """Anna logs in again after her log-out: she is one person, the time between included."""
    journey.log_out(form=True)
    journey.js("() => fetch('/api/log-in', {method: 'POST', body: JSON.stringify({user: 'anna'})})")
    journey.track("again")
    journey.order("mug")
    people = journey.people(*ANNA, "Logged out form", *GOODBYE, "Clicked again", "Ordered mug")
    assert len(set(people.values())) == 1
