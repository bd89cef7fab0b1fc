"""The browser's events through the application: what arrives is what would have arrived without it."""

from __future__ import annotations

import pytest
from support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.browser

HOME = ("Page viewed /", "web_page_view /")
ADDED = {"ip"}
"""What Mixpanel would have found out by itself, from the address of the browser."""
VARYING = {"$insert_id", "time", "token", "distinct_id", "$device_id", "$current_url", "current_domain"}
BATCHED = {"mp_sent_by_lib_version"}
"""In batches only, and what is sent in one depends on the moment."""


@pytest.fixture(params=["simplified"])
def id_merge(request):
    """Return one way of merging IDs: with --through-collector there are all journeys for each."""
    return request.param


@pytest.fixture
def shop(start):
    """Return what starts a journey; the browser knows no way to Mixpanel."""
    return lambda **given: start(**{"collector": True, **given})


def browsers(journey):
    """Return the properties of the browser's events by their names."""
    listed = journey.inbox.events()
    return {each["event"]: each["properties"] for each in listed if each["properties"].get("mp_lib") == "web"}


def notes(journey):
    """Return the counts of the collector."""
    return {
        name: count
        for name, count in journey._tracker.stats()["notes"].items()
        if name.startswith("collector")
    }


@pytest.mark.parametrize("framework", ["starlette", "flask"])
def test_a_visit_with_a_log_in(shop, framework):
    """Each event arrives once, and all of them are one person's."""
    journey = shop(framework=framework)
    journey.visit("/")
    journey.track("cup")
    journey.log_in("anna", form=True)
    journey.identify("anna")
    journey.track("mug")
    person = journey.assert_one_person(
        *HOME,
        "Clicked cup",
        "Logged in anna",
        "Page viewed /welcome",
        "web_page_view /welcome",
        "Clicked mug",
    )
    assert "anna" in journey.ids_of(person)
    assert set(notes(journey)) <= {"collector_unknown_user", "collector_earlier_id"}


def test_it_sends_nowhere_else(shop):
    """The journey's own front sees every other host, and nothing came to it."""
    journey = shop()
    journey.visit("/")
    journey.track("cup")
    journey.assert_one_person(*HOME, "Clicked cup")
    assert journey._mixpanel.store.stats()["requests"].keys() <= {"/import", "/engage"}


def test_properties_are_those_that_arrive_directly(start):
    """But for what differs between any two visits, and the address, which Mixpanel takes from the request."""
    told = []
    for collector in (False, True):
        journey = start(collector=collector, config={"autocapture": True})
        journey.visit("/")
        journey.click("#tea")
        journey.track("cup")
        journey.people("Clicked cup", "web_page_view /tea")
        told.append(browsers(journey))
    direct, collected = told
    left = VARYING | BATCHED | ADDED
    for name in ("Clicked", "$mp_click", "$mp_web_page_view"):
        properties = direct[name]
        assert collected[name].keys() - left == properties.keys() - left
        same = [key for key in properties.keys() - left if not key.startswith(("$el", "$screen"))]
        assert {key: collected[name][key] for key in same} == {key: properties[key] for key in same}


def test_profiles_groups_and_aliases(shop):
    """All that the SDK can send arrives in its place."""
    journey = shop()
    journey.visit("/")
    journey.log_in("anna")
    journey.js(
        """() => {
            shop.mixpanel.identify("anna");
            shop.mixpanel.people.set({plan: "gold"});
            shop.mixpanel.people.increment("visits");
            shop.mixpanel.set_group("company", "Acme");
            shop.mixpanel.get_group("company", "Acme").set({size: 5});
            shop.mixpanel.alias("anna-alias");
        }"""
    )
    store = journey._mixpanel.store

    def arrived():
        stats = store.stats()
        return stats["profile_updates"] >= 2 and stats["groups"] >= 1

    assert wait_until(lambda: journey._tracker.flush(1) and arrived(), PATIENCE_S), journey.story()
    assert store.rejections() == []


def test_what_is_left_when_the_page_is(shop):
    """A beacon at the end of the page, which nobody waits for."""
    journey = shop(config={"batch_flush_interval_ms": 60_000})
    journey.visit("/")
    journey.track("late")
    journey.assert_one_person(*HOME, "Clicked late")


def test_a_batch_that_was_left_over(shop):
    """It could not be sent for want of room, stayed in the browser, and comes with the next page."""
    journey = shop(config={"batch_flush_interval_ms": 500})
    spool = journey._tracker._engine.pipeline.spool
    bound, spool._max_bytes = spool._max_bytes, 1
    journey.visit("/")
    journey.track("early")
    journey.leave()
    assert browsers(journey) == {}
    spool._max_bytes = bound
    assert not journey._tracker.flush(1)  # the server's own page view was refused as well
    journey.visit("/tea")
    # The page stays: the SDK takes up what another one has left after two of its intervals.
    labels = ("web_page_view /", "Clicked early", "web_page_view /tea")
    people = {event.label: event.person for event in journey.arrived(*labels)}
    assert set(labels) <= set(people), journey.story()
    assert len({people[label] for label in labels}) == 1


def test_who_says_no_is_not_tracked(shop):
    """The SDK is content, and nothing arrives."""
    journey = shop(consent=lambda facts: "denied" if facts.cookie("no") else "granted")
    journey.visit("/")
    assert "web_page_view /" in {event.label for event in journey.arrived("web_page_view /")}
    journey.js("() => { document.cookie = 'no=1; path=/'; }")
    journey.track("cup")
    journey.leave()
    stats = journey._tracker.stats
    assert wait_until(lambda: stats()["refused"].get("consent_denied"), PATIENCE_S), journey.story()
    assert "Clicked cup" not in {event.label for event in journey.arrived()}


def test_firefox(start_in_firefox):
    """Its beacons and its headers are its own."""
    journey = start_in_firefox(collector=True)
    journey.visit("/")
    journey.track("cup")
    journey.log_in("anna", form=True)
    journey.track("mug")
    journey.assert_one_person(
        *HOME,
        "Clicked cup",
        "Logged in anna",
        "Page viewed /welcome",
        "web_page_view /welcome",
        "Clicked mug",
    )
