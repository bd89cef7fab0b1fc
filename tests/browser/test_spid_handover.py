"""Schibsted account (SPiD): what its SDK says on a page counts on the server, believed or not."""

from __future__ import annotations

import json
import time

import pytest
from support.spid import SpidServer
from support.spid.server import HOST

pytestmark = pytest.mark.browser

CLIENT = "4321abc0000"
IDENTIFY = "(visitor) => { shop.mixpanel.identify(visitor.uid); told(visitor.uid); }"
PAGES = {
    "v1": """<script>
            window.askSpid = () => new Promise((told) => {
                VGS.Event.subscribe("auth.visitor", %(identify)s);
                VGS.getLoginStatus(null, true);
            });
            window.vgsAsyncInit = () => VGS.init(%(given)s);
        </script><script src="%(url)s/vgs.js"></script>""",
    "v2": """<script>
            window.askSpid = () => new Promise((told) => {
                SPiD.event.subscribe("SPiD.visitor", %(identify)s);
                SPiD.sessionCache.clear();
                SPiD.hasSession();
            });
            window.asyncSPiD = () => SPiD.init(%(given)s);
        </script><script src="%(url)s/spid.js"></script>""",
}
WAYS = [
    pytest.param("v1", {}, id="v1"),
    pytest.param("v1", {"cookie": False}, id="v1-no-cookie"),
    pytest.param("v2", {}, id="v2"),
]


@pytest.fixture
def id_merge():
    """Count by one way of merging: who the visitor is does not depend on it."""
    return "simplified"


@pytest.fixture
def spid():
    """Return a SPiD of the same site as our pages, for browsers without third-party cookies."""
    with SpidServer(base_domain=HOST) as server:
        yield server


@pytest.fixture
def begin(start, spid):
    """Start a journey through a shop whose pages ask SPiD when they are told to."""

    def begin(version, options, **plan):
        given = {"client_id": CLIENT, "server": spid.server, "https": False, **options}
        return start(
            https=False,
            host=f"shop.{HOST}",
            loading="global",
            config={"track_pageview": False},
            extra_head=PAGES[version] % {"given": json.dumps(given), "url": spid.url, "identify": IDENTIFY},
            snippet="tag",
            id_mode="spid",
            browser_sdk="spid",
            spid_client_id=CLIENT,
            **{"spid_sign_secret": spid.sign_secret, **plan},
        )

    return begin


BELIEVED_NOT = [
    pytest.param(None, 0, id="no-secret"),
    pytest.param("the-new-secret", 0, id="rotated"),
    pytest.param("foobar-sign-secret", -7300, id="old"),
    pytest.param("foobar-sign-secret", 120, id="clock-ahead"),
]


@pytest.mark.parametrize(("version", "options"), WAYS)
@pytest.mark.parametrize(("secret", "ahead_s"), BELIEVED_NOT)
def test_a_signature_that_is_not_believed(begin, spid, version, options, secret, ahead_s):
    """Somebody who comes logged in is known to both by SPiD's uid."""
    spid.clock = lambda: time.time() + ahead_s
    spid.expires_in_s = 2_592_000
    journey = begin(version, options, spid_sign_secret=secret)
    journey.visit(spid.log_in_url())
    journey.visit("/")
    uid = journey.js("() => askSpid()")
    journey.wait_for_handover(uid=uid)
    assert journey.order("tea") == uid
    journey.track("cup")
    journey.visit("/mug")
    assert journey.order("mug") == uid


@pytest.mark.parametrize(("version", "options"), WAYS)
def test_the_next_person_after_a_signed_one(begin, spid, version, options):
    """The session ends at SPiD, and who comes then is not counted as the one before."""
    journey = begin(version, options)
    journey.visit(spid.log_in_url())
    journey.visit("/")
    first = journey.js("() => askSpid()")
    journey.wait_for_signed_uid(first)
    assert journey.order("tea") == first
    journey.wait_until_quiet()  # an answer of SPiD's that is still on its way would set the cookie again
    journey.forget_cookie("spiduid")
    second = journey.js("() => askSpid()")
    assert second != first
    journey.wait_for_handover(uid=second)
    assert journey.order("cup") == second
    journey.visit("/mug")
    assert journey.order("mug") == second


@pytest.mark.parametrize(("version", "options"), WAYS)
@pytest.mark.parametrize("says_so", [True, False], ids=["the page says so", "its cookie does"])
def test_consent_while_the_page_stays(begin, version, options, says_so):
    """What was not taken is handed over again as soon as there is consent, on the same page."""
    journey = begin(
        version, options, consent=lambda facts: "granted" if "consent=yes" in facts.cookies else "unknown"
    )
    journey.visit("/")
    uid = journey.js("() => askSpid()")
    journey.order("before")
    journey.js("() => { document.cookie = 'consent=yes; path=/'; }")
    if says_so:
        journey.js("() => { dispatchEvent(new Event('mixpanel-visitor')); }")
    journey.wait_for_handover(uid=uid)
    assert journey.order("after") == uid
