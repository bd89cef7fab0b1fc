"""What release 0.1 has left in browsers: its cookie was `mpv`, signed for all projects of a key."""

import pytest
from support.clients import CLIENTS
from support.responses import cookie_name
from support.trackers import COOKIE, NOW_S, recording_tracker

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
ANONYMOUS = f"1~{DEVICE}~t66hy8~.EcVnqI02FXHAA4NPZPxwq-pBBhgGnpb7eyl047SBbf4"
LOGGED_IN = f"1~{DEVICE}~t66hy8~udXNlci00Mg~s.fGu4UuFjF2YavSvDZ5DNfrj_TQSqNVIYoRA9KTUWpoM"
PAGE = {"accept": "text/html"}
DAY_S = 86_400


@pytest.fixture(params=list(CLIENTS))
def make(request):
    """Return a browser that comes back after so many days, and the spool."""

    def build(days=0, handler=lambda visitor: visitor.track("Page"), jar=None, **settings):
        tracker, spool = recording_tracker(
            now_s=NOW_S + days * DAY_S, durability="before-response", **settings
        )
        client = CLIENTS[request.param](tracker, handler)
        if jar is not None:
            client.jar = jar
        return client, spool

    return build


@pytest.mark.parametrize(("scheme", "prefix"), [("http", ""), ("https", "__Host-")])
def test_the_visitor_stays_the_same(make, scheme, prefix):
    """The old cookie is read where there is no new one, and is replaced at the next page."""
    client, spool = make()
    client.jar[f"{prefix}mpv"] = LOGGED_IN
    assert client.request("GET", "/", PAGE, scheme=scheme).text == DEVICE
    del client.jar[f"{prefix}mpv"]
    assert f"{prefix}{COOKIE}" in client.jar
    assert client.request("GET", "/", PAGE, scheme=scheme).text == DEVICE
    assert [event["properties"]["$user_id"] for event in spool.events] == ["user-42", "user-42"]


def test_an_anonymous_visitor_stays_the_same(make):
    """Also without a user, and on a request that may store nothing."""
    client, _ = make()
    client.jar["mpv"] = ANONYMOUS
    fetched = {"sec-fetch-dest": "image", "sec-fetch-site": "cross-site"}
    assert client.request("GET", "/", fetched).text == DEVICE
    assert COOKIE not in client.jar


def test_the_old_cookie_is_removed_when_the_new_one_has_come_back(make):
    """Not before: a process of the old release may still need it in a rolling deployment."""
    client, _ = make()
    client.jar["mpv"] = ANONYMOUS
    client.request("GET", "/", PAGE)
    assert set(client.jar) >= {"mpv", COOKIE}
    later, _ = make(days=2, jar=client.jar)
    assert later.request("GET", "/", PAGE).text == DEVICE
    assert "mpv" not in later.jar


def test_another_applications_cookie_stays(make):
    """One of another device was not replaced by ours: an application of the old release has set it."""
    client, _ = make()
    client.request("GET", "/", PAGE)
    client.jar["mpv"] = ANONYMOUS
    later, _ = make(days=2, jar=client.jar)
    assert later.request("GET", "/", PAGE).text != DEVICE
    assert later.jar["mpv"] == ANONYMOUS


def test_the_new_cookie_counts(make):
    """Whoever has both is who the new one says."""
    client, _ = make()
    first = client.request("GET", "/", PAGE).text
    client.jar["mpv"] = ANONYMOUS
    assert client.request("GET", "/", PAGE).text == first


def test_a_log_out_ends_the_old_cookie(make):
    """The user who is in it does not come back with it."""
    client, _ = make()
    client.jar["mpv"] = LOGGED_IN
    client.request("GET", "/", PAGE)
    leaving, _ = make(handler=lambda visitor: visitor.reset(), jar=client.jar)
    leaving.request("POST", "/log-out")
    assert "mpv" not in leaving.jar


def test_a_name_of_ones_own_stays(make):
    """`cookie_name` is as it was; what 0.1 has signed under it is believed."""
    client, _ = make(cookie_name="who")
    client.jar["who"] = LOGGED_IN
    assert client.request("GET", "/", PAGE).text == DEVICE
    later, _ = make(days=2, jar=client.jar, cookie_name="who")
    assert later.request("GET", "/", PAGE).text == DEVICE
    assert later.jar["who"] not in (LOGGED_IN, ANONYMOUS)


def test_another_name_is_not_read(make):
    """With a `cookie_name` of one's own, `mpv` is somebody else's."""
    client, _ = make(cookie_name="who")
    client.jar["mpv"] = ANONYMOUS
    assert client.request("GET", "/", PAGE).text != DEVICE


def test_an_old_cookie_grows_old(make):
    """It is valid for as long as it was."""
    client, _ = make(days=366)
    client.jar["mpv"] = ANONYMOUS
    assert client.request("GET", "/", PAGE).text != DEVICE


def test_an_old_opt_out_still_counts(make):
    """The browser that has told 0.1 of it need not do so again; and an opt-in takes it back."""
    client, spool = make()
    client.jar["mpv_js"] = "0"
    client.request("GET", "/", PAGE)
    assert (spool.events, COOKIE in client.jar) == ([], False)
    back, _ = make(handler=lambda visitor: visitor.opt_in(), jar=client.jar)
    back.request("POST", "/opt-in")
    assert "mpv_js" not in back.jar
    assert COOKIE in back.jar


@pytest.mark.parametrize("headers", [{"dnt": "1"}, {"sec-gpc": "1"}])
def test_an_objection_removes_the_old_cookies(make, headers):
    """No ID stays in the browser of somebody who objects."""
    client, _ = make()
    client.jar.update({"mpv": ANONYMOUS, "mpv_js": DEVICE})
    client.request("GET", "/", {**PAGE, **headers})
    assert not {"mpv", "mpv_js", cookie_name("t")} & set(client.jar)
