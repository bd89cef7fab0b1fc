"""A visitor's choice on real pages: an opt-out is posted, and no ID beside it."""

from __future__ import annotations

import pytest
from support.handover_pages import (
    CHOICE,
    CLIENT,
    ID,
    MARKS,
    OTHER_ID,
    OURS,
    SCHEDULE_S,
    SEEN,
    UID,
    chooses,
    stores,
)
from support.snippet_pages import tag

pytestmark = MARKS


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
