"""The script on real pages in a real Chromium: what it posts, when, and what it leaves alone."""

from __future__ import annotations

import contextlib
import threading

import pytest
from support.components import needs, needs_module
from support.snippet_pages import SCRIPT, Site, Visit, launch, tag
from support.spid import SpidServer, User
from support.waiting import PATIENCE_S

from mixpanel_visitor.core.identity.spid_browser import SpidBrowser, verify
from mixpanel_visitor.tracking.handover_script import HandoverScript

pytestmark = [pytest.mark.browser, needs("chromium"), needs_module("playwright")]

TOKEN = "0123456789abcdef0123456789abcdef"
DEVICE = f"mp_{TOKEN}_mixpanel"
CHOICE = f"__mp_opt_in_out_{TOKEN}"
CLIENT = "4321abc0000"
SEEN = "mpv_js"
ID = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
OTHER_ID = "11111111-2222-4333-8444-555555555555"
UID = "1ab2c3Xt3n8cgX0zk9m4"
OTHER_UID = "XXab12Xt3n8cgXXXXXX7"
SEED = "%7B%22distinct_id%22%3A%22%24device%3Aseed%22%2C%22%24device_id%22%3A%22seed%22%7D"

OURS = '<script src="/_visitor.js"></script>'
NO_SDK = ""
SCHEDULE_S = 13
"""The script's last timer runs a little earlier."""


def snippet(**given):
    of_both = {"mixpanel": (DEVICE, CHOICE), "spid_client_id": CLIENT}
    return HandoverScript(handover_path="/_visitor", seen_cookie=SEEN, **{**of_both, **given})


def is_post(response):
    return response.request.method == "POST"


def heard(*, device_id=ID, uid="", sig=""):
    """The cookie by which the server says what it has heard."""
    return f"{SEEN}={device_id}~{uid}~{sig[:8]}; Path=/"


def stores(device_id=ID):
    """What mixpanel-browser does in a page with `persistence: "localStorage"`."""
    return (
        f"localStorage.setItem('{DEVICE}', JSON.stringify("
        f"{{distinct_id: '$device:{device_id}', $device_id: '{device_id}'}}));"
    )


@pytest.fixture(scope="module")
def browser():
    # Of the module, not of the session: while it is there, nothing else in this thread can use asyncio.run.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def context(browser):
    """Return a fresh profile."""
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def site():
    """Return a site with our script."""
    with Site() as site:
        site.serve("/_visitor.js", snippet().script().decode(), SCRIPT)
        yield site


@pytest.fixture
def open_page(context):
    """Open pages; in none of them may anything be thrown, or be said on the console."""
    visits = []

    def open_page(site):
        visits.append(Visit.begun(context, site))
        return visits[-1]

    yield open_page
    for visit in visits:
        if not visit.page.is_closed():
            visit.run("0")  # what was thrown is told before this
        assert (visit.errors, visit.console) == ([], [])


@pytest.fixture
def visit(site, open_page):
    """Return an empty page."""
    return open_page(site)


@pytest.fixture
def clocked(visit):
    """Return an empty page whose timers run when the test says so."""
    visit.stop_the_clock()
    return visit


@pytest.fixture
def give_cookie(context, site):
    """Put a cookie of the site into the browser."""

    def give_cookie(name, value):
        context.add_cookies([{"name": name, "value": value, "url": site.url}])

    return give_cookie


# --- mixpanel-browser ------------------------------------------------------------------------


def test_a_stored_device_id_is_posted(visit, site):
    """As JSON, to the script's own address without the suffix."""
    visit.go(tag(stores()), OURS)
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert (site.posts[0].path, site.posts[0].content_type) == ("/_visitor", "application/json")
    assert [request.resource_type for request in visit.requests][-1] == "fetch"  # whose answer it sees


def test_the_sdk_may_come_after_the_script(visit, site):
    """The storage is empty at the first look."""
    visit.go(OURS, tag(stores()))
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_the_sdk_may_come_seconds_later(clocked, site):
    """A page may start its SDK by a timer."""
    clocked.go(OURS, tag(f"setTimeout(function () {{ {stores()} }}, 2000)"))
    clocked.pass_time(1.9)
    assert clocked.posted() == []
    clocked.pass_time(SCHEDULE_S)
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_a_script_that_loads_late_is_looked_at_at_once(clocked, site):
    """Long after the last timer, an SDK that comes as a script of its own is noticed."""
    site.serve("/sdk.js", stores(), SCRIPT)
    clocked.go(OURS)
    clocked.pass_time(60)
    clocked.run("document.head.appendChild(document.createElement('script')).src = '/sdk.js'")
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_an_image_that_loads_is_no_reason_to_look(clocked):
    """A page may have thousands, and each look costs a little."""
    clocked.go(OURS)
    clocked.pass_time(60)
    clocked.run(
        stores()
        + """new Promise(function (loaded) {
            var image = document.body.appendChild(new Image());
            image.onload = loaded;
            image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==';
        }).then(String)"""
    )
    assert clocked.posted() == []


@pytest.mark.parametrize("event", ["window, 'load'", "window, 'pagehide'", "document, 'visibilitychange'"])
def test_the_script_looks_at_the_ends_of_a_page(clocked, site, event):
    """Loaded, hidden, left: each is a look, also after the last timer."""
    clocked.go(OURS)
    clocked.pass_time(60)
    target, name = event.split(", ")
    clocked.run(f"{stores()} {target}.dispatchEvent(new Event({name}, {{bubbles: true}}))")
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_an_id_is_posted_while_the_page_is_left(clocked, site):
    """The request outlives the page."""
    clocked.go(OURS)
    clocked.pass_time(60)
    clocked.run(stores())
    assert clocked.posted() == []
    clocked.go(NO_SDK, path="/next")
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_nothing_is_posted_while_the_sdk_has_its_cookie(clocked, give_cookie):
    """The server reads that itself, whatever an old storage says."""
    give_cookie(DEVICE, SEED)
    clocked.go(tag(stores()), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []


def test_a_storage_that_changes_is_the_sdk_s(clocked, site, give_cookie):
    """The cookie is the server's seed for the next page then: `reset()` after a log-out on the server."""
    give_cookie(DEVICE, SEED)
    clocked.go(tag(stores()), OURS)
    clocked.pass_time(1)
    clocked.run(stores(OTHER_ID))
    clocked.pass_time(1)
    assert site.wait_for_posts(1) == [{"device_id": OTHER_ID}]


def test_an_sdk_that_moves_its_cookie_into_storage_is_followed(clocked, site, give_cookie):
    """In localStorage mode it takes the seed, unless it has an ID already, and deletes the cookie."""
    give_cookie(DEVICE, SEED)
    clocked.go(OURS)
    clocked.pass_time(1)
    assert clocked.posted() == []
    clocked.run(f"document.cookie = '{DEVICE}=; Max-Age=0'; {stores()}")
    clocked.pass_time(SCHEDULE_S)
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_a_cookie_with_a_longer_name_is_another(visit, site, give_cookie):
    """Neither `x<name>` nor `<name>x` is the SDK's."""
    give_cookie(f"x{DEVICE}", "1")
    give_cookie(f"{DEVICE}x", "1")
    visit.go(tag(stores()), OURS)
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_an_sdk_with_a_storage_of_its_own_is_asked(visit, site):
    """`get_property` knows, where localStorage does not."""
    sdk = f"window.mixpanel = {{get_property: function (name) {{ return {{$device_id: '{ID}'}}[name]; }}}}"
    visit.go(tag(sdk), OURS)
    assert site.wait_for_posts(1) == [{"device_id": ID}]


@pytest.mark.parametrize(
    "sdk",
    [
        "window.mixpanel = []",
        "window.mixpanel = {get_property: function () {}}",
        "window.mixpanel = {get_property: function () { throw new Error('not yet'); }}",
        f"localStorage.setItem('{DEVICE}', 'null')",
        f"localStorage.setItem('{DEVICE}', '{{')",
        f"localStorage.setItem('{DEVICE}', '{{}}')",
    ],
)
def test_an_sdk_without_an_id_is_waited_for(clocked, site, sdk):
    """The loader's stub, an SDK before `init`, a broken entry: nothing is posted, and nothing thrown."""
    clocked.go(tag(sdk), OURS)
    clocked.pass_time(2)
    assert clocked.posted() == []
    clocked.run(stores())
    clocked.pass_time(SCHEDULE_S)
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_an_id_is_posted_once_a_page(clocked, site):
    """However often the script looks."""
    clocked.go(tag(stores()), OURS)
    clocked.pass_time(60)
    clocked.run("window.dispatchEvent(new Event('pagehide'))")
    assert len(clocked.posted()) == 1
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_a_new_id_on_the_same_page_is_posted(clocked, site):
    """`mixpanel.reset()` makes one, when somebody logs out."""
    clocked.go(tag(stores()), OURS)
    site.wait_for_posts(1)
    clocked.run(stores(OTHER_ID))
    clocked.pass_time(SCHEDULE_S)
    assert site.wait_for_posts(2) == [{"device_id": ID}, {"device_id": OTHER_ID}]


@pytest.mark.parametrize("seen", [ID, f"{ID}~{UID}", f"{UID}~{ID}"])
def test_an_id_that_the_server_knows_is_not_posted(clocked, give_cookie, seen):
    """Its cookie holds the device ID, the uid or both."""
    give_cookie(SEEN, seen)
    clocked.go(tag(stores()), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []


@pytest.mark.parametrize("seen", [OTHER_ID, f"{ID}0", f"0{ID}", f"{OTHER_ID}~{UID}", "~"])
def test_an_id_that_the_server_does_not_know_is_posted(visit, site, give_cookie, seen):
    """A part of another ID is not that ID."""
    give_cookie(SEEN, seen)
    visit.go(tag(stores()), OURS)
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_the_cookie_of_the_answer_ends_it(visit, site):
    """Page after page, until the server has heard it once."""
    site.set_cookies = lambda _post: [f"{SEEN}={ID}; Path=/"] if len(site.posts) == 2 else []
    for number, path in enumerate(["/", "/second"], 1):
        visit.go(tag(stores()), OURS, path=path)
        site.wait_for_posts(number)
    visit.page.wait_for_function(f"document.cookie.indexOf('{ID}') > 0")
    visit.stop_the_clock()
    visit.go(tag(stores()), OURS, path="/third")
    visit.pass_time(SCHEDULE_S)
    assert len(visit.posted()) == 2
    assert site.wait_for_posts(2) == [{"device_id": ID}] * 2


def test_without_mixpanel_its_storage_is_not_looked_at(clocked, site):
    """The configuration says whose IDs are wanted."""
    site.serve("/_visitor.js", snippet(mixpanel=None).script().decode(), SCRIPT)
    sdk = f"window.mixpanel = {{get_property: function () {{ return '{ID}'; }}}}"
    clocked.go(tag(f"{stores()} localStorage.setItem('{CHOICE}', '0'); {sdk}"), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []


def test_an_id_that_comes_back_is_posted(clocked, site):
    """The server has the other one by now."""
    site.set_cookies = lambda post: [heard(**post.body)]
    clocked.go(OURS)
    expected = []
    for device_id in (ID, OTHER_ID, ID):
        expected.append({"device_id": device_id})
        with clocked.page.expect_response(is_post):
            clocked.run(stores(device_id))
            clocked.pass_time(1)
        assert site.wait_for_posts(len(expected)) == expected


def test_the_script_looks_after_a_click(clocked, site):
    """What the page does with it comes first: a log-out makes a new ID, and the next page is near."""
    clocked.go(OURS)
    clocked.run(f"document.querySelector('p').onclick = function () {{ {stores()} }}")
    clocked.page.click("p")
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_the_script_looks_once_a_second(clocked):
    """No faster than that, and it is a matter of microseconds."""
    count = """var looks = 0, real = Object.getOwnPropertyDescriptor(Document.prototype, 'cookie');
        function look() { looks += 1; return real.get.call(document); }
        Object.defineProperty(document, 'cookie', {get: look});
    """
    clocked.go(tag(count), OURS)
    before = clocked.run("looks")
    clocked.pass_time(30)
    assert clocked.run("looks") - before == 30


def test_the_sdk_s_functions_stay_its_own(visit):
    """Nothing of the page's is replaced."""
    owned = "[fetch, mixpanel.get_property, mixpanel.reset, localStorage.setItem, history.pushState]"
    sdk = f"var mixpanel = {{get_property: function () {{ return '{ID}'; }}, reset: function () {{}}}};"
    visit.go(tag(f"{sdk} var before = {owned};"), OURS)
    assert visit.run(f"{owned}.every(function (each, at) {{ return each === before[at]; }})")


# --- answers ---------------------------------------------------------------------------------


def answered(visit, site, status):
    """Go to a page whose ID is answered with this status, and wait until the script has seen it."""
    site.status = lambda _post: status
    with visit.page.expect_response(is_post):
        visit.go(tag(stores()), OURS)
    visit.run("fetch('/').then(function (answer) { return answer.text(); })")


@pytest.mark.parametrize("status", [200, 500, 502])
def test_an_answer_that_did_not_take_it_is_not_hammered(clocked, site, status):
    """The timers alone do not try again."""
    answered(clocked, site, status)
    clocked.pass_time(60)
    assert len(clocked.posted()) == 1
    clocked.console.clear()


AGAIN = {
    "a cookie has changed": "document.cookie = 'consent=yes'",
    "the page says so": "window.dispatchEvent(new Event('mixpanel-visitor'))",
    "the page is hidden": "document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))",
    "the page is left": "window.dispatchEvent(new Event('pagehide'))",
}


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("happens", AGAIN.values(), ids=list(AGAIN))
def test_what_was_not_taken_is_posted_again(clocked, site, happens, status):
    """As soon as it may be another answer; a 204 ends it."""
    answered(clocked, site, status)
    site.status = lambda _post: 204
    with clocked.page.expect_response(is_post):
        clocked.run(happens)
        clocked.pass_time(1)
    clocked.run("fetch('/').then(function (answer) { return answer.text(); })")
    for each in AGAIN.values():
        clocked.run(each)
        clocked.pass_time(1)
    assert site.wait_for_posts(2) == [{"device_id": ID}] * 2
    assert len(clocked.posted()) == 2
    clocked.console.clear()


@pytest.mark.parametrize("status", [400, 403, 405, 413, 415])
def test_what_is_refused_is_not_posted_again(clocked, site, status):
    """It would be refused again, and each time the console would say so."""
    answered(clocked, site, status)
    for each in AGAIN.values():
        clocked.run(each)
        clocked.pass_time(1)
    assert len(clocked.posted()) == 1
    clocked.console.clear()


def test_cookies_that_change_all_the_time_are_no_reason_to_hammer(clocked, site):
    """Some pages count in one; nine times it is tried."""
    answered(clocked, site, 200)
    for number in range(20):
        clocked.run(f"document.cookie = 'counter={number}'")
        with clocked.page.expect_response(is_post) if number < 9 else contextlib.nullcontext():
            clocked.pass_time(1)
        clocked.run("fetch('/').then(function (answer) { return answer.text(); })")
    assert len(clocked.posted()) == 10


def test_what_is_on_its_way_is_not_posted_again(clocked, site):
    """The end of a page is more than one event."""
    free = threading.Event()
    site.status = lambda _post: 200 if free.wait(PATIENCE_S) else 500
    clocked.go(tag(stores()), OURS)
    site.wait_for_posts(1)
    for each in AGAIN.values():
        clocked.run(each)
    free.set()
    assert len(clocked.posted()) == 1


def test_an_opt_out_that_did_not_arrive_is_posted_again(clocked, site):
    """The kind is the same, and nothing matters more."""
    site.status = lambda _post: 500
    with clocked.page.expect_response(is_post):
        clocked.go(tag(chooses(0) + stores()), OURS)
    clocked.run("fetch('/').then(function (answer) { return answer.text(); })")
    site.status = lambda _post: 204
    clocked.run("window.dispatchEvent(new Event('pagehide'))")
    assert site.wait_for_posts(2) == [{"opted_out": True}] * 2
    clocked.console.clear()


def test_a_beacon_is_repeated_until_the_server_s_cookie_says_that_it_was_heard(clocked, site):
    """Its answer cannot be seen, its cookie can."""
    clocked.go(tag(WITHOUT_KEEPALIVE), tag(stores()), OURS)
    site.wait_for_posts(1)
    site.set_cookies = lambda post: [heard(**post.body)]
    clocked.run("window.dispatchEvent(new Event('pagehide'))")
    site.wait_for_posts(2)
    clocked.page.wait_for_function(f"document.cookie.indexOf('{ID}') > 0")
    clocked.run("window.dispatchEvent(new Event('pagehide'))")
    assert len(clocked.posted()) == 2


# --- on the way ------------------------------------------------------------------------------

WITHOUT_KEEPALIVE = "delete Request.prototype.keepalive"


def test_without_keepalive_it_is_a_beacon(visit, site, give_cookie):
    """The same request, which outlives the page; what came of it the server's cookie says."""
    give_cookie("mpv", "signed")
    visit.go(tag(WITHOUT_KEEPALIVE), tag(stores()), OURS)
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert (site.posts[0].path, site.posts[0].content_type) == ("/_visitor", "application/json")
    assert site.posts[0].cookies == "mpv=signed"
    assert [request.resource_type for request in visit.requests][-1] == "ping"


def test_a_fetch_outlives_the_page(clocked, site):
    """It is kept alive: without that, whether it arrives is a matter of luck."""
    kept = "sessionStorage.kept = new Request(url, options).keepalive; return real(url, options);"
    clocked.go(
        tag(f"var real = window.fetch; window.fetch = function (url, options) {{ {kept} }};"),
        OURS,
    )
    clocked.pass_time(60)
    clocked.run(stores())
    clocked.go(NO_SDK, path="/next")
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert clocked.run("sessionStorage.kept") == "true"


@pytest.mark.parametrize(
    "broken",
    [
        "delete window.fetch",
        "delete window.Request; navigator.sendBeacon = function () { throw new TypeError('refused'); }",
        "window.fetch = function () { return Promise.reject(new TypeError('Failed to fetch')); }",
        "window.fetch = function () { throw new Error('not today'); }",
    ],
)
def test_where_nothing_goes_nothing_is_thrown(clocked, broken):
    """Neither an error nor a rejection reaches the page."""
    clocked.go(tag(broken), tag(stores()), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []


def test_it_carries_the_cookies(visit, site, give_cookie):
    """The server sees who posts."""
    give_cookie("mpv", "signed")
    visit.go(tag(stores()), OURS)
    site.wait_for_posts(1)
    assert site.posts[0].cookies == "mpv=signed"


def test_where_storage_is_forbidden_nothing_is_thrown(visit):
    """In a sandboxed frame reading a cookie throws, and so does reading localStorage."""
    ours = f'<script src="{visit.site.url}/_visitor.js" onload="ran = true"></script>'
    visit.go(f"<iframe sandbox='allow-scripts' srcdoc='{ours}'></iframe>")
    frame = visit.page.frames[1]
    assert frame.evaluate("ran")
    frame.evaluate("window.dispatchEvent(new Event('pagehide'))")
    assert visit.posted() == []


def test_no_global_is_left(visit):
    """A page's own names stay its own."""
    names = "Object.getOwnPropertyNames(window)"
    visit.go(tag(f"var before = {names}, after;"), OURS, tag(f"after = {names};"))
    assert visit.run("after.filter(function (name) { return before.indexOf(name) < 0; })") == []


# --- opt-out ---------------------------------------------------------------------------------


def chooses(value):
    """What mixpanel-browser does when the visitor opts out (0) or in (1)."""
    return f"localStorage.setItem('{CHOICE}', '{value}');"


ALL_IDS = (
    stores() + f"localStorage.setItem('spid_js_{CLIENT}', JSON.stringify({{visitor: {{uid: '{UID}'}}}}));"
)


def test_an_opt_out_is_posted_and_no_id(clocked, site):
    """The server cannot see localStorage; after an opt-out it learns of no ID."""
    clocked.go(tag(chooses(0) + ALL_IDS), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert len(clocked.posted()) == 1
    assert site.wait_for_posts(1) == [{"opted_out": True}]


def test_an_opt_out_that_the_server_knows_is_not_posted(clocked, give_cookie):
    """Nor anything else of this visitor's."""
    give_cookie(CHOICE, "0")
    clocked.go(tag(chooses(0) + ALL_IDS), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []


def test_an_opt_out_in_the_cookie_is_enough(clocked, give_cookie):
    """Of somebody whose SDK keeps the choice in a cookie nothing is posted."""
    give_cookie(CHOICE, "0")
    clocked.go(tag(ALL_IDS), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []


def test_an_opt_out_that_the_server_remembers_itself_is_enough(clocked, give_cookie):
    """`0` in its own cookie: the SDK deletes the one with the choice when it starts."""
    give_cookie(SEEN, "0")
    clocked.go(tag(chooses(0) + ALL_IDS), OURS)
    clocked.pass_time(SCHEDULE_S)
    clocked.run(f"localStorage.removeItem('{CHOICE}')")
    clocked.run("window.dispatchEvent(new Event('pagehide'))")
    assert clocked.posted() == []


def test_an_opt_in_ends_what_the_server_remembers(clocked, site, give_cookie):
    """An ID follows as soon as it has forgotten."""
    give_cookie(SEEN, "0")
    site.set_cookies = lambda post: [f"{SEEN}=; Path=/; Max-Age=0"] if "opted_out" in post.body else []
    clocked.go(tag(chooses(1) + stores()), OURS)
    clocked.page.wait_for_function(f"document.cookie.indexOf('{SEEN}') < 0")
    clocked.pass_time(SCHEDULE_S)
    assert site.wait_for_posts(2) == [{"opted_out": False}, {"device_id": ID}]


def test_an_opt_out_in_the_cookie_counts_where_storage_is_forbidden(clocked, give_cookie):
    """One of the two may be out of reach."""
    give_cookie(CHOICE, "0")
    forbidden = (
        "Object.defineProperty(window, 'localStorage', {get: function () { throw new Error('no'); }});"
    )
    sdk = f"window.mixpanel = {{get_property: function () {{ return '{ID}'; }}}};"
    clocked.go(tag(forbidden + sdk), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []


def test_an_opt_in_is_posted_to_a_server_that_knows_better(clocked, site, give_cookie):
    """IDs follow as soon as the server has changed its cookie."""
    give_cookie(CHOICE, "0")
    site.set_cookies = lambda post: [f"{CHOICE}=1; Path=/"] if post.body == {"opted_out": False} else []
    clocked.go(tag(chooses(1) + stores()), OURS)
    clocked.page.wait_for_function(f"document.cookie.indexOf('{CHOICE}=1') >= 0")
    clocked.pass_time(SCHEDULE_S)
    assert site.wait_for_posts(2) == [{"opted_out": False}, {"device_id": ID}]


def test_before_the_server_has_changed_its_cookie_no_id_follows(clocked, site, give_cookie):
    """Either store says no."""
    give_cookie(CHOICE, "0")
    clocked.go(tag(chooses(1) + ALL_IDS), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert len(clocked.posted()) == 1
    assert site.wait_for_posts(1) == [{"opted_out": False}]


@pytest.mark.parametrize("cookie", ["1", None])
def test_an_opt_in_that_nobody_doubts_is_not_posted(clocked, site, give_cookie, cookie):
    """Only the ID is."""
    if cookie:
        give_cookie(CHOICE, cookie)
    clocked.go(tag(chooses(1) + stores()), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert len(clocked.posted()) == 1
    assert site.wait_for_posts(1) == [{"device_id": ID}]


def test_a_change_of_mind_is_noticed(clocked, site):
    """During the page: out, in, and out again; the server keeps what it hears in the cookie."""

    def answer(post):
        return [f"{CHOICE}={0 if post.body['opted_out'] else 1}; Path=/"]

    site.set_cookies = answer
    clocked.go(OURS)
    expected = []
    for choice in (0, 1, 0):
        expected.append({"opted_out": choice == 0})
        clocked.run(chooses(choice))
        clocked.run("window.dispatchEvent(new Event('load'))")
        assert site.wait_for_posts(len(expected)) == expected
        clocked.page.wait_for_function(f"document.cookie.indexOf('{CHOICE}={choice}') >= 0")


def test_a_change_of_mind_is_noticed_by_the_timers(clocked, site):
    """Without any event."""
    clocked.go(OURS)
    clocked.pass_time(2)
    clocked.run(chooses(0))
    clocked.pass_time(SCHEDULE_S)
    assert site.wait_for_posts(1) == [{"opted_out": True}]


def test_a_choice_that_is_taken_back_is_not_posted(clocked, site):
    """`clear_opt_in_out_tracking()`: that is neither yes nor no, and the server's cookie stands."""
    site.set_cookies = lambda _post: [f"{CHOICE}=0; Path=/"]
    clocked.go(tag(chooses(0)), OURS)
    clocked.page.wait_for_function(f"document.cookie.indexOf('{CHOICE}=0') >= 0")
    clocked.run(f"localStorage.removeItem('{CHOICE}')")
    clocked.pass_time(SCHEDULE_S)
    assert len(clocked.posted()) == 1
    assert site.wait_for_posts(1) == [{"opted_out": True}]


def test_who_opts_out_has_no_new_id_posted(clocked, site):
    """What was posted before is for the server to forget."""
    clocked.go(tag(stores()), OURS)
    site.wait_for_posts(1)
    clocked.run(chooses(0) + stores(OTHER_ID))
    clocked.pass_time(SCHEDULE_S)
    assert len(clocked.posted()) == 2
    assert site.wait_for_posts(2) == [{"device_id": ID}, {"opted_out": True}]


# --- SPiD ------------------------------------------------------------------------------------

SAME_SITE = "shop.spid.localhost"
"""A shop on SPiD's own site, whose cookie is no third party's there: how browsers were that sent those."""

ELSEWHERE = "shop.localhost"


@pytest.fixture
def shop():
    """Return a shop, on the same site as SPiD, with our script for SPiD only."""
    with Site(host=SAME_SITE) as shop:
        shop.serve("/_visitor.js", snippet(mixpanel=None).script().decode(), SCRIPT)
        yield shop


@pytest.fixture
def spid():
    """Return SPiD's server."""
    with SpidServer(base_domain=SAME_SITE) as spid:
        yield spid


WATCH = {
    "vgs": "VGS.Event.subscribe('auth.visitor', function (visitor) { window.uid = visitor.uid; });",
    "spid": "SPiD.event.subscribe('SPiD.visitor', function (visitor) { window.uid = visitor.uid; });",
}


def starts(sdk, spid, options=""):
    """What a page does with the SDK: `uid` is the visitor that the page was told."""
    init = f"init({{client_id: '{CLIENT}', server: '{spid.server}', https: false, {options}}});"
    start = f"VGS.{init}" if sdk == "vgs" else f"SPiD.{init} SPiD.hasSession();"
    return WATCH[sdk] + start


def includes(sdk, spid, options=""):
    """The SDK and its start as HTML."""
    return f'<script src="{spid.url}/{sdk}.js"></script>' + tag(starts(sdk, spid, options))


def includes_late(sdk, spid, options=""):
    """The SDK is not fetched before somebody calls `loadSdk`."""
    hook = {"vgs": "vgsAsyncInit", "spid": "asyncSPiD"}[sdk]
    return tag(
        f"window.{hook} = function () {{ {starts(sdk, spid, options)} }};"
        f"function loadSdk() {{ document.head.appendChild(document.createElement('script')).src = "
        f"'{spid.url}/{sdk}.js'; }}"
    )


@pytest.fixture(params=["vgs", "spid"])
def sdk(request):
    """Return both SDKs in turn."""
    return request.param


@pytest.fixture
def logged_in(context, spid):
    """Log in at SPiD before anything else."""
    page = context.new_page()
    page.goto(spid.log_in_url())
    page.close()


def spiduid(context, spid):
    """Who the browser is to SPiD."""
    return next(cookie["value"] for cookie in context.cookies(spid.url) if cookie["name"] == "spiduid")


def assert_signed(body, spid):
    """Check that SPiD's last answer was posted with its signature, which the server can verify."""
    assert list(body) == ["uid", "sig"]
    assert body["uid"] == spid.answered[-1]["visitor"]["uid"]
    visitor = verify(body["sig"], spid.sign_secret, now_s=spid.clock())
    assert (visitor.uid, visitor.user_id) == (spid.answered[-1]["visitor"]["uid"], 270177)


def anonymous(spid):
    return [answer["response"]["visitor"]["uid"] for answer in spid.answered]


@pytest.mark.parametrize("script_first", [True, False])
def test_an_anonymous_visitor_is_posted(open_page, shop, spid, sdk, script_first):
    """Whichever comes first on the page; nobody has signed it."""
    parts = [OURS, includes(sdk, spid)]
    visit = open_page(shop)
    with spid.silent():
        visit.go(*(parts if script_first else parts[::-1]), until="domcontentloaded")
    [posted] = shop.wait_for_posts(1)
    assert [posted["uid"]] == anonymous(spid)
    assert visit.run("uid") == posted["uid"]


def test_an_sdk_that_loads_late_is_heard(open_page, shop, spid, sdk):
    """Even if its answer comes before the next timer, and long after the last one."""
    visit = open_page(shop)
    visit.page.clock.install()  # and let it run
    visit.go(OURS, includes_late(sdk, spid))
    visit.pass_time(60)
    visit.run("loadSdk()")
    assert [body["uid"] for body in shop.wait_for_posts(1)] == anonymous(spid)


def test_an_anonymous_visitor_whom_the_script_missed_is_not_asked_for(open_page, shop, spid, sdk):
    """The SDKs forget who it was; SPiD, asked again, may name somebody else, and to the page as well."""
    visit = open_page(shop)
    visit.go(includes(sdk, spid))
    visit.page.wait_for_function("window.uid")
    shop.serve("/x.js", "window.here = true;", SCRIPT)
    for src in ("/_visitor.js", "/x.js"):
        visit.run(f"document.head.appendChild(document.createElement('script')).src = '{src}'")
    visit.page.wait_for_function("window.here")
    visit.run("window.dispatchEvent(new Event('pagehide'))")
    assert visit.posted() == []
    assert len(spid.answered) == 1


@pytest.mark.usefixtures("logged_in")
def test_a_logged_in_visitor_is_posted_with_the_signature(open_page, shop, spid, sdk):
    """The event does not carry it; the session does."""
    open_page(shop).go(OURS, includes(sdk, spid))
    assert_signed(shop.wait_for_posts(1)[0], spid)


@pytest.mark.parametrize(
    ("sdk", "options"),
    [
        ("vgs", ""),
        ("vgs", "cookie: false"),
        ("vgs", "prod: false"),
        ("spid", ""),
        ("spid", "storage: 'cookie'"),
        ("spid", "useSessionCluster: false"),
    ],
)
@pytest.mark.usefixtures("logged_in")
def test_a_late_listener_learns_a_kept_session(open_page, shop, spid, sdk, options):
    """What fired before the script came is in the SDK, its storage or its cookie."""
    visit = open_page(shop).go(includes(sdk, spid, options))
    visit.page.wait_for_function("window.uid")
    visit.run("document.head.appendChild(document.createElement('script')).src = '/_visitor.js'")
    assert_signed(shop.wait_for_posts(1)[0], spid)
    assert len(spid.answered) == 1


@pytest.mark.usefixtures("logged_in")
def test_a_session_from_the_store_is_posted_on_the_next_page(open_page, shop, spid, sdk):
    """v1 fires nothing for it; nobody asks SPiD again."""
    visit = open_page(shop)
    for number, path in enumerate(["/", "/next"], 1):
        visit.go(OURS, includes(sdk, spid), path=path)
        assert_signed(shop.wait_for_posts(number)[-1], spid)
    assert len(spid.answered) == 1


@pytest.mark.parametrize("storage", ["localstorage", "cookie"])
def test_a_kept_anonymous_session_is_posted_on_the_next_page(open_page, shop, spid, storage):
    """v2 keeps those if it is told so."""
    visit = open_page(shop)
    options = f"storage: '{storage}', cache: {{hasSession: {{ttlSeconds: 600}}}}"
    visit.go(OURS, includes("spid", spid, options))
    shop.wait_for_posts(1)
    visit.go(OURS, path="/next")  # without the SDK
    assert shop.wait_for_posts(2) == [{"uid": anonymous(spid)[0]}] * 2


def test_v1_keeps_anonymous_sessions_if_it_is_told_so(open_page, shop, spid):
    """On the next page no event is fired."""
    visit = open_page(shop)
    for number, path in enumerate(["/", "/next"], 1):
        visit.go(OURS, includes("vgs", spid, "cache_notloggedin: true"), path=path)
        shop.wait_for_posts(number)
    assert shop.wait_for_posts(2) == [{"uid": anonymous(spid)[0]}] * 2
    assert len(spid.answered) == 1


def test_an_expired_session_is_nobody_s(open_page, shop):
    """The SDK itself would not take it any more."""
    visit = open_page(shop)
    visit.stop_the_clock()
    session = f"{{visitor: {{uid: '{UID}'}}, _expires: new Date(Date.now() - 1000)}}"
    visit.go(tag(f"localStorage.setItem('spid_js_{CLIENT}', JSON.stringify({session}))"), OURS)
    visit.pass_time(SCHEDULE_S)
    assert visit.posted() == []


def test_another_client_s_session_is_not_looked_at(open_page, shop):
    """A site may have had another client ID once."""
    visit = open_page(shop)
    visit.stop_the_clock()
    session = f"{{visitor: {{uid: '{UID}'}}}}"
    visit.go(tag(f"localStorage.setItem('spid_js_{CLIENT}0', JSON.stringify({session}))"), OURS)
    visit.pass_time(SCHEDULE_S)
    assert visit.posted() == []


def fake_vgs(event_uid, session_uid, sig):
    """v1 with an event, and with a session that the test makes up."""
    return tag(
        f"var VGS = {{Event: {{subscribe: function (name, call) {{ call({{uid: '{event_uid}'}}); }}}},"
        f"getSession: function () {{ return {{visitor: {{uid: '{session_uid}'}}, sig: '{sig}'}}; }}}};"
    )


def test_a_signature_for_somebody_else_is_not_posted(open_page, shop):
    """The event tells who it is now, the session is an older one."""
    open_page(shop).go(fake_vgs(UID, OTHER_UID, "abc"), OURS)
    assert shop.wait_for_posts(1)[-1] == {"uid": UID}


@pytest.mark.parametrize(("length", "kinds"), [(1799, ["uid", "sig"]), (1800, ["uid"])])
def test_a_signature_that_is_too_long_stays_at_home(open_page, shop, length, kinds):
    """The server takes 2 KiB."""
    open_page(shop).go(fake_vgs(UID, UID, "s" * length), OURS)
    assert list(shop.wait_for_posts(1)[0]) == kinds


@pytest.mark.parametrize(
    ("seen", "posted"), [(f"x~{UID}~", 1), (f"x~{UID}~abcdefgh", 0), (f"x~{UID}~other678", 1)]
)
def test_a_signature_that_comes_later_is_posted(open_page, shop, context, seen, posted):
    """The uid stays at a log-in at SPiD: the server knows it already, but not who has signed it."""
    context.add_cookies([{"name": SEEN, "value": seen, "url": shop.url}])
    visit = open_page(shop)
    visit.go(fake_vgs(UID, UID, "abcdefghijkl.x"), OURS)
    visit.run("window.dispatchEvent(new Event('pagehide'))")
    assert len(visit.posted()) == posted
    assert shop.wait_for_posts(posted) == [{"uid": UID, "sig": "abcdefghijkl.x"}] * posted


def test_a_log_out_at_spid_is_posted(open_page, shop, context):
    """The uid stays, and nobody is logged in any more."""
    context.add_cookies([{"name": SEEN, "value": f"x~{UID}~abcdefgh", "url": shop.url}])
    open_page(shop).go(fake_vgs(UID, OTHER_UID, ""), OURS)
    assert shop.wait_for_posts(1) == [{"uid": UID}]


@pytest.mark.usefixtures("logged_in")
def test_a_signature_with_a_long_name_in_it(open_page, context, shop, spid, sdk):
    """A real one that is too long."""
    uid = spiduid(context, spid)
    spid.log_in(uid, User(family_name="Ł" * 400))
    open_page(shop).go(OURS, includes(sdk, spid))
    assert shop.wait_for_posts(1) == [{"uid": uid}]


@pytest.mark.usefixtures("logged_in")
def test_the_core_server_has_the_last_word(open_page, context, shop, spid, sdk):
    """A LoginException of the session host is no answer yet."""
    spid.hand_over_to_core = True
    open_page(shop).go(OURS, includes(sdk, spid))
    shop.wait_for_posts(1)
    assert spid.answered[-1]["visitor"]["uid"] == spiduid(context, spid)


def test_a_browser_that_sends_third_party_cookies_is_one_visitor(open_page, shop, spid, sdk):
    """Known from the first answer on, so it is posted once."""
    shop.set_cookies = lambda post: [heard(**post.body)]
    visit = open_page(shop).go(OURS, includes(sdk, spid))
    [posted] = shop.wait_for_posts(1)
    visit.page.wait_for_function(f"document.cookie.indexOf('{SEEN}') >= 0")
    visit.go(OURS, includes(sdk, spid), path="/next")
    visit.page.wait_for_function("window.uid")
    visit.run("window.dispatchEvent(new Event('pagehide'))")
    assert len(visit.posted()) == 1
    assert anonymous(spid) == [posted["uid"]] * 2


def test_a_browser_without_third_party_cookies_is_new_on_each_page(open_page, spid, sdk):
    """What the page was told is what the server hears, however often it changes."""
    spid.third_party_cookies = False
    with Site(host=ELSEWHERE) as site:
        site.serve("/_visitor.js", snippet().script().decode(), SCRIPT)
        site.set_cookies = lambda post: [heard(**post.body)]
        visit = open_page(site)
        told = []
        for number, path in enumerate(["/", "/next"], 1):
            visit.go(OURS, includes(sdk, spid), path=path)
            site.wait_for_posts(number)
            told.append(visit.run("uid"))
        assert [post.body for post in site.posts] == [{"uid": uid} for uid in told]
        assert anonymous(spid) == told
        assert len(set(told)) == 2


def test_a_browser_without_third_party_cookies_is_never_logged_in(open_page, spid, sdk):
    """As SPiD's own documentation warns."""
    spid.third_party_cookies = False
    with Site(host=ELSEWHERE) as site:
        site.serve("/_visitor.js", snippet().script().decode(), SCRIPT)
        visit = open_page(site)
        visit.page.goto(spid.log_in_url())
        visit.go(OURS, includes(sdk, spid))
        assert site.wait_for_posts(1) == [{"uid": anonymous(spid)[0]}]


@pytest.mark.usefixtures("logged_in")
def test_both_kinds_at_once(open_page, shop, spid, sdk):
    """Who logs in at SPiD still has a device at Mixpanel: the one who speaks later speaks for both."""
    shop.serve("/_visitor.js", snippet().script().decode(), SCRIPT)
    open_page(shop).go(OURS, tag(stores()), includes(sdk, spid))
    first, second = shop.wait_for_posts(2)
    assert first == {"device_id": ID}
    assert second.pop("device_id") == ID
    assert_signed(second, spid)


def test_a_site_without_spid_does_not_listen(clocked, site):
    """What SDKs a page has besides is not our business."""
    site.serve("/_visitor.js", snippet(spid_client_id=None).script().decode(), SCRIPT)
    listened = (
        "var VGS = {Event: {subscribe: function () { window.listened = true; }}, getSession: function () {"
    )
    session = f"return {{visitor: {{uid: '{UID}'}}}}; }}}}; var SPiD = {{event: VGS.Event}};"
    clocked.go(tag(listened + session), OURS)
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []
    assert clocked.run("window.listened") is None


def test_the_script_listens_once(open_page, shop):
    """However often it looks."""
    visit = open_page(shop)
    visit.stop_the_clock()
    events = "{subscribe: function (name) { names.push(name); }}"
    visit.go(tag(f"var names = [], VGS = {{Event: {events}}}, SPiD = {{event: {events}}};"), OURS)
    visit.pass_time(SCHEDULE_S)
    assert visit.run("names") == ["auth.visitor", "SPiD.visitor"]


def test_an_opted_out_visitor_of_both(open_page, shop, spid, sdk):
    """The event is heard, and nothing said."""
    shop.serve("/_visitor.js", snippet().script().decode(), SCRIPT)
    visit = open_page(shop)
    visit.go(tag(f"document.cookie = '{CHOICE}=0'; {stores()}"), OURS, includes(sdk, spid))
    visit.page.wait_for_function("window.uid")
    visit.run("window.dispatchEvent(new Event('pagehide'))")
    assert visit.posted() == []


# --- the stand-ins for SPiD's SDKs keep what the real ones kept, as facts tell -------------------


def kept(visit):
    """The names of what a page has kept: in cookies, and in localStorage."""
    cookies = "document.cookie.split('; ').filter(String).map(function (pair) { return pair.split('=')[0]; })"
    return visit.run(cookies), visit.run("Object.keys(localStorage)")


def test_of_an_anonymous_visitor_nothing_is_kept(open_page, shop, spid, sdk):
    """By default neither SDK gives a server anything to read."""
    visit = open_page(shop).go(OURS, includes(sdk, spid))
    shop.wait_for_posts(1)
    assert kept(visit) == ([], [])


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (("vgs", ""), ([f"vgs_js_{CLIENT}"], [])),
        (("vgs", "prod: false"), ([f"vgs_js_test_{CLIENT}"], [])),
        (("vgs", "cookie: false"), ([], [])),
        (("spid", ""), ([], [f"spid_js_{CLIENT}"])),
        (("spid", "storage: 'cookie'"), ([f"spid_js_{CLIENT}"], [])),
        (("spid", "storage: 'standard'"), ([], [])),
    ],
)
def test_of_somebody_logged_in_the_session_is_kept(open_page, shop, spid, how, expected):
    """Where, and under which name."""
    sdk, options = how
    visit = open_page(shop).go(OURS, includes(sdk, spid, options))
    shop.wait_for_posts(1)
    assert kept(visit) == expected


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(("sdk", "options"), [("vgs", ""), ("spid", "storage: 'cookie'")])
def test_the_server_reads_a_kept_cookie(open_page, shop, spid, sdk, options):
    """Non-ASCII names, slashes and the signature arrive whole."""
    visit = open_page(shop).go(OURS, includes(sdk, spid, options))
    shop.wait_for_posts(1)
    notes = []
    reader = SpidBrowser(CLIENT, sign_secret=spid.sign_secret, production=True, count=notes.append)
    found = reader.find(visit.run("document.cookie"), now_s=spid.clock())
    assert (found.uid, found.signed, notes) == (spid.answered[-1]["visitor"]["uid"], True, [])
    assert "%u0141" in visit.run("document.cookie")


# --- where it stands -------------------------------------------------------------------------

POLICY = "default-src 'none'; script-src 'nonce-Zm9vYmFy'; connect-src 'self'; img-src data:"


def test_under_a_policy_the_inline_script_runs_with_its_nonce(visit, site):
    """Nothing of it is blocked: the console stays silent."""
    ours = snippet().inline(nonce="Zm9vYmFy")
    stored = f'<script nonce="Zm9vYmFy">{stores()}</script>'
    visit.go(stored, ours, Content_Security_Policy=POLICY)
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert site.posts[0].path == "/_visitor"


def test_under_a_policy_the_inline_script_needs_its_nonce(clocked):
    """So the test above can fail."""
    clocked.go(snippet().inline(nonce="Zm9vYmFz"), Content_Security_Policy=POLICY)
    clocked.run(stores())
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []
    assert "Content Security Policy" in clocked.console.pop()


@pytest.mark.parametrize(
    ("src", "path"),
    [
        ("/shop/_visitor.js", "/shop/_visitor"),
        ("/shop/_visitor.js?v=3", "/shop/_visitor"),
        ("/shop/_visitor.js?v=1.js#x.js", "/shop/_visitor"),
        ("/a.js/_visitor.js", "/a.js/_visitor"),
    ],
)
def test_an_application_below_a_path_is_posted_to_there(visit, site, src, path):
    """The external script looks at its own address."""
    site.serve(src.partition("?")[0], snippet().script().decode(), SCRIPT)
    visit.go(tag(stores()), f'<script async src="{src}"></script>', path="/shop/page")
    site.wait_for_posts(1)
    assert site.posts[0].path == path


@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("", "/_visitor"),
        ("/shop", "/shop/_visitor"),
        ("/shop/", "/shop/_visitor"),
        ("/a b/ä%", "/a%20b/%C3%A4%25/_visitor"),
        ("//elsewhere.example/shop", "/elsewhere.example/shop/_visitor"),
    ],
)
def test_the_inline_script_is_told_where_the_application_is(visit, site, root_path, path):
    """It has no address of its own; and it never leaves the site."""
    visit.go(tag(stores()), snippet().inline(root_path=root_path), path="/deep/down/page")
    site.wait_for_posts(1)
    assert site.posts[0].path == path


@pytest.mark.parametrize(
    "evil", ["</script><script>window.owned = 1</script>", "<!--<script>", "\u2028'\"\\"]
)
def test_no_configuration_breaks_out(visit, site, evil):
    """It is data wherever it stands."""
    name = f"mp_{evil}_mixpanel"
    ours = snippet(mixpanel=(name, f"{evil}0"), spid_client_id=evil).inline()
    visit.go("<script>window.names = [];</script>", ours)
    visit.page.evaluate(
        "([name, id]) => localStorage.setItem(name, JSON.stringify({$device_id: id}))", [name, ID]
    )
    visit.run("window.dispatchEvent(new Event('pagehide'))")
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert visit.run("window.owned") is None


def test_a_nonce_does_not_break_out(visit, site):
    """A nonce from a careless proxy is an attribute's text."""
    visit.go(tag(stores()), snippet().inline(nonce='"><script>window.owned = 1</script>'))
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert visit.run("window.owned") is None
