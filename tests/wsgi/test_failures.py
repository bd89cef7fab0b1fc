"""Our own failures over WSGI: none of them reaches the application."""

import pytest
from support.failing import EACH_CALLABLE, failing
from support.trackers import tracker_into
from support.wsgi_apps import HEADERS, answering, call
from support.wsgi_driver import environ_of

from mixpanel_visitor.errors import SpoolFullError
from mixpanel_visitor.wsgi import VISITOR_KEY, VisitorMiddleware


@EACH_CALLABLE
def test_a_failing_callable_in_the_settings_does_not_reach_the_application(
    wrap, spool, setting, stored, cookies
):
    """The response is the application's own; who cannot be asked for consent has not given it."""
    seen = call(wrap(answering([b"hello"]), **{setting: failing}))
    assert (seen.status, seen.body, seen.error) == (200, b"hello", None)
    assert len(seen.our_cookies) == cookies
    assert spool.names == stored


@pytest.mark.parametrize("body", [[b"hello"], (b"hello",)])
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(SpoolFullError("the disk is full"), "spool_full"), (ZeroDivisionError("a bug"), "internal_error")],
)
def test_a_failing_spool_does_not_reach_the_application(wrap, spool, trouble, reason, body):
    """Events that cannot be stored are refused and counted; the response is complete."""
    spool.trouble = trouble
    app = wrap(answering(body))
    seen = call(app)
    assert (seen.status, seen.body, seen.error) == (200, b"hello", None)
    assert app.tracker.stats()["refused"] == {reason: 1}


def test_a_head_that_breaks_us_does_not_break_the_application(wrap):
    """A status or headers that we cannot read go to the server as they are."""
    starter = []

    def app(environ, start_response):
        start_response(None, None)
        return [b"hello"]

    app = wrap(app)
    assert app(environ_of(), lambda *call: starter.extend(call)) == [b"hello"]
    assert starter == [None, None]
    assert app.tracker.stats()["notes"] == {"internal_error": 1}


def test_an_environ_that_breaks_us_does_not_break_the_application(wrap):
    """Where we cannot read a request, the application is served without us."""

    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        return [b"hello"]

    app = wrap(app)
    assert call(app, PATH_INFO="/", HTTP_COOKIE=Unreadable()).body == b"hello"
    assert app.tracker.stats()["notes"] == {"internal_error": 1}


def test_a_path_that_breaks_us_costs_an_event_and_no_request(wrap):
    """What only an event asks for is not read for the others; where it cannot be, that is counted."""

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/track":
            environ[VISITOR_KEY].track("Seen")
        start_response("200 OK", HEADERS)
        return [b"hello"]

    app = wrap(app)
    assert call(app, PATH_INFO="/", SCRIPT_NAME=Unreadable()).body == b"hello"
    assert app.tracker.stats()["refused"] == {}
    assert call(app, PATH_INFO="/track", SCRIPT_NAME=Unreadable()).body == b"hello"
    stats = app.tracker.stats()
    assert (stats["accepted"], stats["refused"]) == (1, {"internal_error": 1})


class Unreadable:
    """What no server should put into an environ."""

    def __str__(self):
        raise LookupError("of a server")


def test_settings_and_a_tracker_exclude_each_other(spool):
    """Settings beside a tracker would have no effect, so they are refused."""
    with pytest.raises(TypeError, match="token"):
        VisitorMiddleware(answering([]), tracker=tracker_into(spool), token="t")
