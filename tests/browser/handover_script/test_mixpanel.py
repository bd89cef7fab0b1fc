"""mixpanel-browser's ID on real pages: when the script posts it, and when not."""

from __future__ import annotations

import pytest
from support.handover_pages import (
    CHOICE,
    DEVICE,
    ID,
    MARKS,
    NO_SDK,
    OTHER_ID,
    OURS,
    SCHEDULE_S,
    SEED,
    SEEN,
    UID,
    heard,
    is_post,
    snippet,
    stores,
)
from support.snippet_pages import SCRIPT, tag

pytestmark = MARKS


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
