"""What this package offers to tests of applications: it has to say what was tracked, and to say why not."""

import datetime as dt
import decimal

import flask
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from mixpanel_visitor import Tracker
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.flask import MixpanelVisitor, current_visitor
from mixpanel_visitor.starlette import VisitorMiddleware
from mixpanel_visitor.testing import capture_events
from mixpanel_visitor.tracking.tracker import engine_of

pytest_plugins = ["pytester"]
SETTINGS = {"token": "testing", "secret_key": "a-key-of-some-length"}


@pytest.fixture
def tracker(tmp_path):
    """A tracker as an application has it: with a spool on the disk, and a Mixpanel that is not there."""
    tracker = Tracker(**SETTINGS, spool=str(tmp_path / "spool"), api_host="http://127.0.0.1:9")
    yield tracker
    tracker.close()


@pytest.fixture
def signup(tracker):
    """A Starlette application whose handlers track."""

    async def sign_up(request):
        visitor = request.state.visitor
        visitor.track("Signed up", {"plan": "pro", "price": decimal.Decimal("9.50")})
        visitor.people_set({"plan": "pro"})
        return PlainTextResponse(visitor.id)

    routes = [Route("/signup", sign_up, methods=["POST"])]
    app = Starlette(routes=routes, middleware=[Middleware(VisitorMiddleware, tracker=tracker)])
    with TestClient(app) as client:
        yield client


def test_a_test_sees_what_was_tracked(signup, mixpanel_events):
    """Right after the answer, with its properties and whose it was."""
    visitor_id = signup.post("/signup").text
    event = mixpanel_events.assert_tracked("Signed up", plan="pro", price=decimal.Decimal("9.5"))
    assert event.properties["$device_id"] == visitor_id
    assert event.distinct_id == f"$device:{visitor_id}"
    assert mixpanel_events.names == ["Signed up"]
    assert len(mixpanel_events) == 1
    assert mixpanel_events[0] is next(iter(mixpanel_events)) is event
    (update,) = mixpanel_events.updates
    assert (update.endpoint, update.message["$set"]) == ("engage", {"plan": "pro"})


def test_flask_and_jobs_are_seen_as_well(tracker, mixpanel_events):
    """Whatever tracks in this process, with whichever tracker."""
    app = flask.Flask("testing")
    MixpanelVisitor(app, **SETTINGS, spool="memory:")

    @app.get("/")
    def front():
        current_visitor.track("Front")
        return "hello"

    assert app.test_client().get("/").text == "hello"
    tracker.track("user-42", "Invoice paid", amount=12)
    mixpanel_events.assert_order("Front", "Invoice paid")


def test_nothing_is_stored_or_sent(tmp_path):
    """Not even what waited before, and not by a thread that runs already."""
    with LocalMixpanel() as mixpanel:
        tracker = Tracker(**SETTINGS, spool=str(tmp_path), api_host=mixpanel.url)
        with capture_events() as events:
            tracker.track("somebody", "Captured")
            tracker.flush(0.2)
            assert not mixpanel.store.events()
            assert tracker.stats()["refused"] == {"captured": 1}
        tracker.track("somebody", "Sent")
        assert tracker.flush(10)
        assert [event.name for event in mixpanel.store.events()] == ["Sent"]
        tracker.close()
    assert events.names == ["Captured"]


def test_what_waited_before_is_not_sent_meanwhile(tmp_path):
    """No network while a test looks on: it goes out afterwards."""
    with LocalMixpanel() as mixpanel:
        earlier = Tracker(**SETTINGS, spool=str(tmp_path), deliver=False)
        earlier.track("somebody", "Earlier")
        earlier.close()
        tracker = Tracker(**SETTINGS, spool=str(tmp_path), api_host=mixpanel.url)
        with capture_events():
            tracker.start()
            assert not engine_of(tracker).drain(0.3)
            assert mixpanel.store.stats()["requests"] == {}
        tracker.close()


def test_bad_input_raises(tracker, mixpanel_events):
    """A test is the place to learn of it."""
    with pytest.raises(InvalidEventError):
        tracker.track("somebody", "")
    assert len(mixpanel_events) == 0


@pytest.fixture
def some(tracker, mixpanel_events):
    """Three events of two people."""
    tracker.track("ann", "Signed up", plan="free", seats=3)
    tracker.track("$device:d-1", "Signed up", plan="free", seats=1)
    tracker.track("ann", "Paid", at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    return mixpanel_events


def test_what_was_not_tracked_is_told_with_what_came_near(some):
    """The nearest first, with each property that differs."""
    with pytest.raises(AssertionError) as failure:
        some.assert_tracked("Signed up", plan="pro", seats=3, coupon=...)
    assert str(failure.value) == (
        "'Signed up' with plan='pro', seats=3, coupon=... was not tracked.\n"
        "Nearest:\n"
        "  Signed up:\n"
        "    plan: 'free', expected 'pro'\n"
        "    coupon: missing, expected any value\n"
        "  Signed up:\n"
        "    plan: 'free', expected 'pro'\n"
        "    seats: 1, expected 3\n"
        "    coupon: missing, expected any value\n"
        "Tracked: 'Signed up' x2, 'Paid'."
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda events: events.assert_tracked("Left"), "'Left' was not tracked."),
        (lambda events: events.assert_tracked("Signed up", times=1), "was tracked 2 times, not once"),
        (lambda events: events.assert_not_tracked("Paid"), "'Paid' was tracked once:"),
        (lambda events: events.assert_not_tracked("Signed up", seats=3), "with seats=3 was tracked once:"),
        (lambda events: events.assert_not_tracked(), "Something was tracked 3 times:"),
        (lambda events: events.assert_order("Paid", "Signed up"), "'Signed up' was not tracked after 'Paid'"),
        (lambda events: events.assert_order("Left"), "'Left' was not tracked."),
    ],
)
def test_each_assertion_can_fail(some, call, message):
    """And says what it has seen."""
    with pytest.raises(AssertionError) as failure:
        call(some)
    assert message in str(failure.value)


def test_each_assertion_can_hold(some):
    """Values are compared as they arrive; dots stand for any value."""
    some.assert_tracked("Paid", at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    some.assert_tracked("Signed up", times=2, plan=...)
    some.assert_not_tracked("Left")
    some.assert_not_tracked("Signed up", plan="pro")
    some.assert_order("Signed up", "Signed up", "Paid")
    some.clear()
    some.assert_not_tracked()


def test_not_at_all_is_no_number_of_times(some):
    """There is another word for it."""
    with pytest.raises(ValueError, match="assert_not_tracked"):
        some.assert_tracked("Left", times=0)


def test_one_visitors_events_can_be_looked_at(some):
    """By any of the IDs, with and without `$device:`."""
    assert some.of("ann").names == ["Signed up", "Paid"]
    assert some.of("d-1").names == some.of("$device:d-1").names == ["Signed up"]
    assert some.of("nobody").names == []


def test_captures_may_be_nested():
    """The inner one catches; the outer one goes on afterwards."""
    tracker = Tracker(**SETTINGS, spool="memory:", deliver=False)
    with capture_events() as outer:
        with capture_events() as inner:
            tracker.track("ann", "Inside")
        tracker.track("ann", "Outside")
    assert (inner.names, outer.names) == (["Inside"], ["Outside"])


def test_the_live_mixpanel_gets_what_is_sent(live_mixpanel):
    """For tests that want the whole way: trackers from the environment find it."""
    tracker = Tracker(**SETTINGS)
    tracker.track("ann", "Signed up")
    assert tracker.flush(10)
    assert [event.name for event in live_mixpanel.store.events()] == ["Signed up"]
    tracker.close()


def test_the_plugin_needs_no_configuration(pytester):
    """Installing the package is enough."""
    pytester.makepyfile(
        """
        from mixpanel_visitor import Tracker

        def test_it(mixpanel_events):
            Tracker(token="t", secret_key="a-key-of-some-length", spool="memory:").track("ann", "Signed up")
            mixpanel_events.assert_tracked("Signed up")
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_no_module_of_ours_is_imported_beside_a_test(pytester):
    """Python 3.11.7 cannot parse in two threads, and pytest parses what it imports of ours (gh-106905)."""
    pytester.makeconftest(
        """
        import sys, threading

        beside = []

        def note(event, args):
            if event == "import" and threading.current_thread() is not threading.main_thread():
                beside.append(args[0])

        sys.addaudithook(note)
        """
    )
    pytester.makepyfile(
        """
        from conftest import beside
        from mixpanel_visitor import Tracker

        def test_it(live_mixpanel):
            tracker = Tracker(token="t", secret_key="a-key-of-some-length")
            tracker.track("ann", "Signed up")
            tracker.close()
            assert [event.name for event in live_mixpanel.store.events()] == ["Signed up"]
            assert [name for name in beside if name.startswith("mixpanel_visitor")] == []
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.fixture
def no_credentials(monkeypatch):
    """An environment as CI has it: nobody has set anything."""
    for name in ("MIXPANEL_TOKEN", "MIXPANEL_PROJECT_TOKEN", "MIXPANEL_VISITOR_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)


def by_starlette():
    def home(request):
        request.state.visitor.track("Seen")
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/", home)])
    app.add_middleware(VisitorMiddleware)
    assert TestClient(app).get("/").text == ""


def by_flask():
    app = flask.Flask(__name__)
    MixpanelVisitor(app)
    app.add_url_rule("/", "home", lambda: current_visitor.track("Seen") or "")
    assert app.test_client().get("/").text == ""


DOORS = {
    "tracker": lambda: Tracker().visitor("ann").track("Seen"),
    "from_env": lambda: Tracker.from_env().visitor("ann").track("Seen"),
    "from_mapping": lambda: Tracker.from_mapping({}).visitor("ann").track("Seen"),
    "starlette": by_starlette,
    "flask": by_flask,
}


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize("door", sorted(DOORS))
def test_while_a_test_captures_no_credentials_are_needed(door):
    """Every new user's first run in CI has neither a token nor a key, and is green."""
    with capture_events() as events:
        DOORS[door]()
    events.assert_tracked("Seen")


@pytest.mark.usefixtures("no_credentials")
def test_a_tracker_without_a_token_sends_nothing_after_the_test():
    """What was made while a test captured knows no project: later events are refused and counted."""
    with capture_events():
        tracker = Tracker()
    tracker.visitor("ann").track("Seen")
    assert tracker.stats()["refused"] == {"no_token": 1}


@pytest.mark.parametrize(
    "assertion",
    [
        "assert_tracked('Left')", "assert_tracked('Seen', times=2)", "assert_not_tracked('Seen')",
        "assert_order('Left')",
    ],
)  # fmt: skip
def test_a_failing_assertion_shows_the_test_and_none_of_our_frames(pytester, assertion):
    """The line that failed and the message, not thirty lines of this package."""
    pytester.makepyfile(
        "from mixpanel_visitor import Tracker\n"
        "def test_it(mixpanel_events):\n"
        "    Tracker().visitor('ann').track('Seen')\n"
        f"    mixpanel_events.{assertion}\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_*.py:4: AssertionError"])
    result.stdout.no_fnmatch_line("*testing.py*")
