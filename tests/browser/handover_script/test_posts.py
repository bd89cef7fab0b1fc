"""The script's posts on real pages: how they leave, and what it does about the server's responses."""

from __future__ import annotations

import contextlib
import threading

import pytest
from support.handover_pages import (
    ID,
    MARKS,
    NO_SDK,
    OURS,
    SCHEDULE_S,
    WITHOUT_KEEPALIVE,
    chooses,
    heard,
    is_post,
    stores,
)
from support.snippet_pages import tag
from support.waiting import PATIENCE_S

pytestmark = MARKS


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
