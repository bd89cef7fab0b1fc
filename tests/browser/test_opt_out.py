"""Opt-out: what the browser's SDK was told is true for the server as well."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

# What the SDK has not sent yet it may forget at an opt-out: so events are tracked by hand.
CONFIG = {"track_pageview": False}
BY_COOKIE = {**CONFIG, "opt_out_tracking_persistence_type": "cookie"}


def visit_and_opt_out(journey):
    """Be tracked on the first page, and opt out on the second one."""
    journey.visit("/")
    journey.track("before")
    journey.leave()
    journey.arrived("Clicked before")
    journey.visit("/tea")
    journey.arrived("Page viewed /tea")  # what still waited would be taken back
    journey.opt_out()


def go_on(journey):
    """Do what would be tracked, in several ways."""
    journey.track("while out")
    journey.order("while out")
    journey.visit("/out-1")
    journey.log_in("anna")
    journey.visit("/out-2")
    journey.visit("/static")
    journey.order("while out, too")
    journey.leave()


BEFORE = ("Page viewed /", "Clicked before", "Page viewed /tea")


def ids_in(cookies, journey):
    """Return the names of the cookies that hold an ID."""
    return {name for name in cookies if name in (journey.our_cookie, journey.sdk_cookie)}


@pytest.mark.parametrize("snippet", ["tag", "inline"])
def test_marker_in_local_storage(start, snippet):
    """The SDK's default: only our script can tell the server, and it does."""
    journey = start(config=CONFIG, snippet=snippet)
    visit_and_opt_out(journey)
    journey.wait_for_handover(opted_out=True)
    go_on(journey)
    assert ids_in(journey.cookies(), journey) == set(), journey.story()
    journey.assert_one_person(*BEFORE)


def test_pages_without_our_script(start):
    """The server remembers an opt-out by itself: the SDK deletes its marker's cookie whenever it starts."""
    journey = start(config=CONFIG, snippet="tag")
    visit_and_opt_out(journey)
    journey.wait_for_handover(opted_out=True)
    journey.shop.snippet = "none"
    journey.visit("/out-0")
    go_on(journey)
    assert ids_in(journey.cookies(), journey) == set(), journey.story()
    journey.assert_one_person(*BEFORE)


def test_without_our_script(start):
    """Where nobody tells the server, it does at least not give the SDK the ID back that it has removed."""
    journey = start(config=CONFIG)
    visit_and_opt_out(journey)
    journey.visit("/mug")
    journey.visit("/bare")
    assert journey.sdk_cookie not in journey.cookies(), journey.story()


def test_consent_is_withdrawn(start):
    """Where the site's own rule says no from now on, the IDs are removed and nothing is tracked."""
    journey = start(
        config=CONFIG, consent=lambda facts: "denied" if facts.cookie("consent") == "no" else "granted"
    )
    journey.visit("/")
    journey.track("before")
    journey.arrived("Clicked before")  # what the SDK has not sent yet may not be taken after the no
    journey.js("() => { document.cookie = 'consent=no; path=/'; }")
    journey.visit("/bare")
    assert ids_in(journey.cookies(), journey) == set(), journey.story()
    journey.order("while out")
    journey.assert_one_person("Page viewed /", "Clicked before")


def test_marker_in_a_cookie(start):
    """The server reads the SDK's cookie, and our script is not needed."""
    journey = start(config=BY_COOKIE)
    visit_and_opt_out(journey)
    go_on(journey)
    assert ids_in(journey.cookies(), journey) == set(), journey.story()
    journey.assert_one_person(*BEFORE)


@pytest.mark.parametrize(
    ("config", "snippet"), [(CONFIG, "tag"), (BY_COOKIE, "none")], ids=["script", "cookie"]
)
def test_opt_in_again(start, config, snippet):
    """Who opts in again is tracked in both places as one person."""
    journey = start(config=config, snippet=snippet)
    visit_and_opt_out(journey)
    if snippet != "none":
        journey.wait_for_handover(opted_out=True)
    go_on(journey)
    journey.visit("/out-3")
    journey.opt_in()
    if snippet != "none":
        journey.wait_for_handover(opted_out=False)
    journey.visit("/mug")
    journey.track("after")
    journey.order("after")
    after = ("Page viewed /mug", "Clicked after", "Ordered after")
    # To a collector it may come before our script has told the server, and is not taken then.
    opt_in = () if journey.plan.collector and snippet != "none" else ("$opt_in",)
    people = journey.people(*BEFORE, *opt_in, *after)
    assert {*BEFORE, *opt_in, *after} <= set(people) <= {*BEFORE, "$opt_in", *after}
    assert len({people[label] for label in BEFORE}) == 1
    assert len({people[label] for label in (*opt_in, *after)}) == 1


def test_opted_out_by_default(start):
    """Where sites track nobody who has not opted in, our script keeps the server silent, too."""
    journey = start(config={**CONFIG, "opt_out_tracking_by_default": True}, consent=lambda _facts: "unknown")
    journey.visit("/")
    journey.track("before")
    journey.visit("/tea")
    journey.order("tea")
    journey.leave()
    assert journey.arrived() == []
    assert journey.our_cookie not in journey.cookies()
