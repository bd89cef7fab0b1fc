"""Requests without cookies: posts from another site, first calls at once, frames, pages fetched ahead."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

WAYS = [pytest.param({}, id="starlette"), pytest.param({"framework": "flask"}, id="flask")]
KEPT = [pytest.param({}, id="cookie"), pytest.param({"persistence": "localStorage"}, id="localStorage")]
HOME = ("Page viewed /", "web_page_view /")
THANKS = ("Page viewed /thanks", "web_page_view /thanks")
FIRST = ("Ordered tea", "Ordered mug", "Ordered pot")


def whose(journey, *labels):
    """Whose these events are; checks that the scripts of the pages ran."""
    people = journey.people(*labels)
    assert not journey.errors, journey.story()
    return [people[label] for label in labels]


def known_people(journey):
    """All whom Mixpanel has made of the events that arrived."""
    return {event.person for event in journey.arrived()} - {None, ""}


# --- a post from another site -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("config", KEPT)
def test_a_payment_page_posts_back(start, way, config):
    """The visitor and his user are as they were, and the purchase makes nobody up."""
    journey = start(config=config, **way)
    journey.visit("/")
    journey.log_in("anna")
    journey.come_back("/paid")
    journey.order("tea")
    (person,) = set(whose(journey, *HOME, "Logged in anna", *THANKS, "Ordered tea"))
    assert known_people(journey) == {person}
    assert {event.user_id for event in journey.arrived() if event.label == "Ordered tea"} == {"anna"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("config", KEPT)
def test_a_sign_in_by_a_post_from_another_site(start, way, config):
    """`form_post` or SAML: what came before and what comes after is the user's."""
    journey = start(config=config, **way)
    journey.visit("/")
    journey.come_back("/log-in", user="anna")
    journey.order("tea")
    journey.track("cup")
    labels = (*HOME, "Logged in anna", "Page viewed /welcome", "web_page_view /welcome", "Ordered tea")
    (person,) = set(whose(journey, *labels, "Clicked cup"))
    assert known_people(journey) == {person}
    assert "anna" in journey.ids_of(person)
    assert {event.user_id for event in journey.arrived() if event.label == "Ordered tea"} == {"anna"}


def test_a_payment_page_of_somebody_who_has_opted_out(start):
    """The choice comes with a post from another site, too."""
    journey = start(snippet="tag")
    journey.visit("/")
    journey.opt_out()
    journey.wait_for_handover(opted_out=True)
    journey.come_back("/paid")
    journey.leave()
    assert "Paid back" not in {event.label for event in journey.arrived(*HOME[:1])}


# --- first calls at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_first_calls_at_once_without_the_sdk(start, way):
    """Nobody before the log-in but one, one after it, and no orphan."""
    journey = start(loading="late", **way)
    journey.visit("/static")
    journey.order_at_once("tea", "mug", "pot")
    devices = {journey.order("cup"), journey.order("can")}
    assert len(devices) == 1
    (person,) = set(whose(journey, "Ordered cup", "Ordered can"))
    assert set(whose(journey, *FIRST)) <= {None, person}  # the last may have gone after the first answer
    assert known_people(journey) == {person}
    journey.visit("/static")
    journey.log_in("anna")
    assert journey.order("jug") in devices
    (person,) = set(whose(journey, "Ordered cup", "Ordered can", "Logged in anna", "Ordered jug"))
    assert known_people(journey) == {person}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("config", KEPT)
def test_first_calls_at_once_before_the_sdk(start, way, config):
    """The SDK makes an ID of its own meanwhile: all is one person's from the log-in on."""
    journey = start(loading="late", config=config, snippet="tag", **way)
    journey.visit("/static")
    journey.order_at_once("tea", "mug", "pot")
    journey.order("cup")
    journey.load_sdk()
    journey.track("one")
    if config:
        journey.wait_for_handover_of_id()
    journey.order("can")
    journey.log_in("anna")
    journey.order("jug")
    journey.track("two")
    labels = ("Ordered cup", "web_page_view /static", "Clicked one", "Ordered can", "Logged in anna")
    (person,) = set(whose(journey, *labels, "Ordered jug", "Clicked two"))
    assert known_people(journey) == {person}


def test_calls_at_once_after_the_sdk(start):
    """Its cookie goes with the first call: one ID from there on."""
    journey = start()
    journey.visit("/static")
    journey.order_at_once("tea", "mug", "pot")
    journey.assert_one_person("web_page_view /static", *FIRST)


def test_calls_that_follow_first_ones_while_others_are_on_their_way(start):
    """Each of three calls is followed by another one as soon as it is answered."""
    journey = start(loading="late")
    journey.visit("/static")
    journey.js("""() => Promise.all(["tea", "mug", "pot"].map((item) =>
        fetch("/api/order/" + item, {method: "POST"}).then(() =>
            fetch("/api/order/second-" + item, {method: "POST"})))).then(() => 0)""")
    journey.order("cup")
    followed = [f"Ordered second-{item}" for item in ("tea", "mug", "pot")]
    (person,) = set(whose(journey, *followed, "Ordered cup"))
    assert known_people(journey) == {person}


def test_calls_that_omit_cookies(start):
    """Those of somebody who is known make nobody up, and change nothing."""
    journey = start()
    journey.visit("/")
    before = journey.order("tea")
    journey.js("""() => fetch("/api/order/mug", {method: "POST", credentials: "omit"}).then(() => 0)""")
    assert journey.order("pot") == before
    (person,) = set(whose(journey, *HOME, "Ordered tea", "Ordered pot"))
    assert known_people(journey) == {person}


# --- a frame of another site ------------------------------------------------------------------------------


def test_a_widget_in_a_page_of_another_site(start):
    """Its calls are nobody's, and the visitor of the site itself is unharmed."""
    calls = """<script>
        const order = (item) => fetch("/api/order/" + item, {method: "POST"});
        if (top !== self) Promise.all(["tea", "mug"].map(order)).then(() => order("pot"))
            .then(() => top.postMessage("done", "*"));
    </script>"""
    journey = start(extra_head=calls, loading="late")
    journey.visit("/")
    before = journey.order("cup")
    journey.visit(
        journey.elsewhere(
            "<script>window.done = new Promise((tell) => addEventListener('message', tell));</script>",
            f'<iframe src="{journey.url("/widget")}"></iframe>',
        )
    )
    journey.js("() => done.then(() => 0)")
    journey.visit("/mug")
    assert journey.order("can") == before
    assert whose(journey, *FIRST) == [None] * 3
    assert len(known_people(journey)) == 1


# --- a page that is fetched ahead --------------------------------------------------------------------------


def test_a_page_that_was_fetched_ahead_is_shown(start):
    """The server is asked once, ahead; what its handler tracked is the visitor's, and says so."""
    journey = start()
    journey.visit("/")
    journey.js("""() => {
        const rules = document.createElement("script");
        rules.type = "speculationrules";
        rules.textContent = '{"prefetch": [{"source": "list", "urls": ["/tea"], "eagerness": "immediate"}]}';
        document.head.append(rules);
    }""")
    journey.wait_for_request("GET", "/tea")
    journey.click("#tea")
    journey.assert_one_person(*HOME, "Page viewed /tea", "web_page_view /tea")
    (event,) = (each for each in journey.inbox.events() if each["properties"].get("prefetched"))
    assert event["properties"]["item"] == "/tea"
