"""Browser and server see the same page: for every property that both send, the values are equal.

`pytest -s` prints the table.
"""

from __future__ import annotations

import pytest
from support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.browser

EACH_ITS_OWN = {"$insert_id", "$lib_version", "mp_lib", "time", "item"}
"""Who sends, and when; `item` is the handler's own word."""

FIRST = "/?utm_source=ad&utm_campaign=spring%20sale&utm_term=a+b&gclid=7&token=x"
THIRD = "/mug?utm_medium=%E2%82%AC&fbclid=z"


def arrived(journey, browsers, servers):
    """The events of either side once so many are there, by their name and path."""
    journey.leave()

    def sides():
        journey.arrived()
        events = [(event["event"], event["properties"]) for event in journey.inbox.events()]
        return [[(n, p) for n, p in events if p["mp_lib"] == side] for side in ("web", "mixpanel-visitor")]

    assert wait_until(lambda: [*map(len, sides())] == [browsers, servers], PATIENCE_S), journey.story()
    web, python = (
        {(name, properties.get("current_url_path")): properties for name, properties in side}
        for side in sides()
    )
    return web, python


def check(browsers, servers, least):
    """All they share is equal, and that is at least so much."""
    shared = (browsers.keys() & servers.keys()) - EACH_ITS_OWN
    print(f"\n{'':<28} {'browser':<48} server")
    for name in sorted(browsers.keys() | servers.keys()):
        mark = "=" if name in shared else " "
        print(f"{mark} {name:<26} {browsers.get(name, '-')!s:<48.48} {servers.get(name, '-')!s:.60}")
    differences = {
        name: (browsers[name], servers[name]) for name in shared if browsers[name] != servers[name]
    }
    assert not differences
    assert least <= shared


@pytest.mark.parametrize("framework", ["starlette", "flask"])
def test_page_views_of_both_sides_say_the_same(start, framework):
    """From a campaign, from a link of the shop, and from another site."""
    journey = start(framework=framework, page_views=True, scrub=None, config={"stop_utm_persistence": True})
    journey.visit(FIRST)
    journey.click("#tea")
    journey.visit("/news", host="news.example.com")
    journey.js("(url) => { document.querySelector('#tea').href = url; }", journey.url(THIRD))
    journey.click("#tea")
    browsers, servers = arrived(journey, 4, 8)
    always = {
        *("$browser", "$browser_version", "$os", "$current_url", "$device_id", "distinct_id", "token"),
        *("$initial_referrer", "$initial_referring_domain", "current_domain", "current_url_path"),
        "current_url_protocol",
    }
    campaign = {"utm_source", "utm_campaign", "utm_term", "gclid", "current_url_search"}
    referrer = {"$referrer", "$referring_domain"}
    more = {"/": campaign, "/tea": referrer, "/mug": {"utm_medium", "fbclid", *referrer}}
    for path, names in more.items():
        key = ("$mp_web_page_view", path)
        check(browsers[key], servers[key], always | names)
    assert servers[("$mp_web_page_view", "/mug")]["$referrer"].startswith("https://news.example.com:")


def test_a_click_and_what_it_fetches_say_the_same(start):
    """The handler of the fetch speaks of the page that the visitor sees."""
    journey = start(config={"track_pageview": False, "stop_utm_persistence": True}, scrub=None)
    journey.visit(FIRST)
    journey.click("#tea")
    journey.track("cup")
    journey.order("tea")
    browsers, servers = arrived(journey, 1, 3)
    check(
        browsers[("Clicked", None)],
        servers[("Ordered", None)],
        {"$browser", "$os", "$current_url", "$device_id", "distinct_id", "$initial_referrer"},
    )


def test_secrets_of_the_address_stay_here(start):
    """What the browser would have sent of it the server does not, nor does the collector pass it on."""
    journey = start(page_views=True)
    journey.visit(FIRST)
    browsers, servers = arrived(journey, 1, 2)
    key = ("$mp_web_page_view", "/")
    sent = "token=REDACTED" if journey.plan.collector else "token=x"
    assert sent in browsers[key]["$current_url"]
    assert "token=REDACTED" in servers[key]["$current_url"]
    assert "token=REDACTED" in servers[key]["current_url_search"]
