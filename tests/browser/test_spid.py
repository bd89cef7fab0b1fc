"""Schibsted account (SPiD): browser, server and SPiD's own visitor ID are one person, logged in or not."""

from __future__ import annotations

import json

import pytest
from support.spid import SpidServer
from support.spid.server import HOST

pytestmark = pytest.mark.browser

CLIENT = "4321abc0000"

# As SPiD's documentation has it: the visitor ID goes to `mixpanel.identify` before anything is tracked.
IDENTIFY = "function (visitor) { shop.mixpanel.identify(visitor.uid); told(visitor.uid); }"
PAGES = {
    "v1": """<script>
            window.visited = new Promise((told) => {
                window.vgsAsyncInit = () => {
                    VGS.Event.subscribe("auth.visitor", %(identify)s);
                    VGS.init(Object.assign(%(given)s, {cache_notloggedin: %(kept)s}));
                };
            });
            window.askSpid = () => new Promise((told) => {
                VGS.Event.subscribe("auth.visitor", %(identify)s);
                VGS.getLoginStatus(null, true);
            });
        </script><script src="%(url)s/vgs.js"></script>""",
    "v2": """<script>
            window.visited = new Promise((told) => {
                window.asyncSPiD = () => {
                    SPiD.event.subscribe("SPiD.visitor", %(identify)s);
                    SPiD.init(Object.assign(%(given)s, {cache: %(kept)s && {hasSession: {ttlSeconds: 900}}}));
                    SPiD.hasSession();
                };
            });
            window.askSpid = () => new Promise((told) => {
                SPiD.event.subscribe("SPiD.visitor", %(identify)s);
                SPiD.sessionCache.clear();
                SPiD.hasSession();
            });
        </script><script src="%(url)s/spid.js"></script>""",
}
WAYS = [
    pytest.param("v1", {}, id="v1"),
    pytest.param("v2", {}, id="v2"),
    pytest.param("v2", {"storage": "cookie"}, id="v2-cookie"),
]
"""The SDK's version, and more options for it."""


class Spid:
    """A SPiD server, and journeys through a shop whose pages ask it who the visitor is."""

    def __init__(self, server, start):
        self.server = server
        self._start = start

    def start(self, version, options, *, kept=True, browser_sdk="spid", **plan):
        """Start a journey; `kept`: the SDK keeps the session of somebody who is not logged in."""
        options = {"client_id": CLIENT, "server": self.server.server, "https": False, **options}
        head = PAGES[version] % {
            "identify": IDENTIFY,
            "given": json.dumps(options),
            "kept": json.dumps(kept),
            "url": self.server.url,
        }
        return self._start(
            loading="global",
            config={"track_pageview": False},
            extra_head=head,
            snippet="tag",
            id_mode="spid",
            browser_sdk=browser_sdk,
            spid_client_id=CLIENT,
            spid_sign_secret=self.server.sign_secret,
            **plan,
        )


@pytest.fixture
def spid(start):
    """Return a SPiD to which every request from our pages is a stranger's: its cookie is a third party's."""
    with SpidServer(base_domain="example.com", third_party_cookies=False) as server:
        yield Spid(server, start)


@pytest.fixture
def neighbour(start):
    """Return a SPiD that is of the same site as our pages, for browsers without third-party cookies."""
    with SpidServer(base_domain=HOST) as server:
        yield Spid(server, start)


OF_THE_SAME_SITE = {"https": False, "host": f"shop.{HOST}"}
ANONYMOUS = ("Page viewed /", "Clicked cup", "Ordered tea")


def be_anonymous(journey):
    """Visit a page, and do something in both places once SPiD has said who it is; gives the uid."""
    journey.visit("/")
    uid = journey.js("() => visited")
    journey.track("cup")
    journey.wait_for_handover(uid=uid)
    assert journey.order("tea") == uid
    return uid


def assert_counted_by(uid, journey):
    """Check that all that came after SPiD's answer is counted by its uid, as SPiD's own events are."""
    ids = {event.distinct_id for event in journey.arrived() if event.label != "Page viewed /"}
    assert ids == {uid}


@pytest.mark.parametrize(("version", "options"), WAYS)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not-kept"])
def test_anonymous(spid, version, options, kept):
    """Somebody who is not logged in is one person, although SPiD's answer comes after the first event."""
    journey = spid.start(version, options, kept=kept)
    uid = be_anonymous(journey)
    journey.assert_one_person(*ANONYMOUS)
    assert_counted_by(uid, journey)


@pytest.mark.parametrize(("version", "options"), WAYS)
def test_two_sdks(spid, version, options):
    """Where mixpanel-browser's ID is matched as well it is still SPiD's uid that counts."""
    journey = spid.start(version, options, browser_sdk=("mixpanel", "spid"))
    uid = be_anonymous(journey)
    journey.assert_one_person(*ANONYMOUS)
    assert_counted_by(uid, journey)


@pytest.mark.parametrize(("version", "options"), WAYS)
def test_anonymous_on_several_pages(spid, version, options):
    """Where SPiD's own cookie is blocked, the session that the SDK keeps makes all pages one person's."""
    journey = spid.start(version, options)
    be_anonymous(journey)
    journey.visit("/mug")
    journey.track("mug")
    journey.order("mug")
    journey.assert_one_person(*ANONYMOUS, "Page viewed /mug", "Clicked mug", "Ordered mug")


@pytest.mark.parametrize(("version", "options"), WAYS)
@pytest.mark.parametrize("browser_sdk", ["spid", ("mixpanel", "spid")], ids=["spid", "both"])
def test_logged_in(neighbour, version, options, browser_sdk):
    """The uid stays at a log-in, SPiD's and the shop's own."""
    journey = neighbour.start(version, options, browser_sdk=browser_sdk, **OF_THE_SAME_SITE)
    uid = be_anonymous(journey)
    neighbour.server.log_in(uid)
    assert journey.js("() => askSpid()") == uid
    journey.log_in("anna")
    journey.visit("/mug")
    journey.track("mug")
    journey.order("mug")
    journey.assert_one_person(
        *(*ANONYMOUS, "Logged in anna", "Page viewed /mug", "Clicked mug", "Ordered mug"),
    )
    assert_counted_by(uid, journey)


@pytest.mark.parametrize(("version", "options"), WAYS)
def test_signed_from_the_start(neighbour, version, options):
    """Who comes logged in at SPiD is one person, known by the uid that SPiD has signed."""
    journey = neighbour.start(version, options, **OF_THE_SAME_SITE)
    journey.visit(neighbour.server.log_in_url())
    journey.visit("/")
    uid = journey.js("() => visited")
    journey.track("cup")
    journey.wait_for_signed_uid(uid)
    assert journey.order("tea") == uid
    assert journey.js("() => fetch('/who').then((answer) => answer.json())") == {"vouched": True}
    journey.assert_one_person(*ANONYMOUS)
    assert_counted_by(uid, journey)
