"""SPiD's visitor on real pages: whom the script posts, with which signature."""

from __future__ import annotations

import pytest
from support.handover_pages import (
    CHOICE,
    CLIENT,
    ID,
    MARKS,
    OTHER_UID,
    OURS,
    SCHEDULE_S,
    SEEN,
    UID,
    heard,
    snippet,
    stores,
)
from support.snippet_pages import SCRIPT, Site, tag
from support.spid import SpidServer, User

from mixpanel_visitor.core.identity.spid_browser import SpidBrowser, verify

pytestmark = MARKS


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
