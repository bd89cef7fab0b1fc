"""Feature flags of a visitor: the same through a request, exposed once, and nothing that hurts."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from support.facts import facts
from support.flags import OfficialFlags, a_b_test, answer_of, definition, figures, flag_tracker, on_off
from support.trackers import TOKEN, known, recording_tracker
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.flags.fetcher import Answer
from mixpanel_visitor.plan import Plan
from mixpanel_visitor.testing import capture_events, force_flags
from mixpanel_visitor.tracking.context import current_visitor
from mixpanel_visitor.tracking.tracker import engine_of

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
EXPOSURE = "$experiment_started"


@pytest.fixture
def started():
    """Return a way to make a tracker that knows flags; it is closed at the end."""
    trackers = []

    def start(*flags, **settings):
        trackers.append(flag_tracker(*flags, **settings))
        return trackers[-1]

    yield start
    for tracker in trackers:
        tracker.close()


def begin(tracker, headers=None, **more):
    """Begin the request of a visitor whom we know."""
    return engine_of(tracker).begin(
        facts(known() if headers is None else headers, **more), in_background=False
    )


def end(tracker, exchange):
    """End it."""
    engine_of(tracker).on_response_end(exchange, in_background=False)


def test_a_flag_is_what_its_rules_say(started):
    """A variant's value, or the default where no rule selects one and where there is no such flag."""
    box = definition("box", [{"key": "on", "value": {"size": [1]}}], [{"rollout_percentage": 1}])
    _, visitor = begin(started(on_off("everybody"), on_off("nobody", 0), box))
    assert visitor.flag("everybody") is True
    assert visitor.flag("nobody") is False
    assert visitor.flag("nobody", default="old") == "old"
    assert visitor.flag("unheard-of", "old") == "old"
    visitor.flag("box")["size"].append(2)
    assert visitor.flag("box") == {"size": [1]}


@pytest.mark.parametrize("assigned_by", ["device_id", "distinct_id"])
def test_a_log_in_in_mid_request_flips_nothing(started, assigned_by):
    """Whichever ID decides."""
    tracker = started(*(a_b_test(f"flag-{number}", assigned_by=assigned_by) for number in range(30)))
    _, visitor = begin(tracker)
    before = dict(visitor.flags())
    visitor.identify("user-42")
    assert dict(visitor.flags()) == before
    assert {key: visitor.flag(key) for key in before} == before


def test_a_device_keeps_its_variants_with_its_log_in(started):
    """In the requests before, during and after."""
    flags = [a_b_test(f"flag-{number}") for number in range(30)]
    tracker = started(*flags)
    _, before = begin(tracker)
    _, after = begin(tracker, known(user_id="user-42"))
    expected = OfficialFlags(flags).variants({"distinct_id": "any", "device_id": DEVICE})
    assert dict(before.flags()) == dict(after.flags()) == {key: value for key, (_, value) in expected.items()}


def test_fifty_evaluations_are_one_exposure(started):
    """With the identity of every event, and what the official library says of it."""
    tracker = started(a_b_test("checkout"))
    with capture_events() as events:
        exchange, visitor = begin(tracker, known(user_id="user-42"))
        values = {visitor.flag("checkout") for _ in range(50)}
        end(tracker, exchange)
    event = events.assert_tracked(EXPOSURE, times=1, **{"Experiment name": "checkout"})
    assert {event.properties["Variant name"]} == values
    assert (event.properties["$device_id"], event.properties["$user_id"]) == (DEVICE, "user-42")
    official = []
    OfficialFlags([a_b_test("checkout")], lambda *words: official.append(words)).provider.get_variant_value(
        "checkout", None, {"distinct_id": "user-42", "device_id": DEVICE}
    )
    (_, name, properties) = official[0]
    assert name == EXPOSURE
    latency = properties.pop("Variant fetch latency (ms)")
    assert isinstance(event.properties["Variant fetch latency (ms)"], type(latency))
    assert properties.items() <= event.properties.items()


def test_a_visitor_is_exposed_once_a_day(started):
    """Over requests and log-in, for each variant; the next day once more."""
    now_s = [1_763_900_000.0]
    tracker = started(a_b_test("checkout"), dependencies={"clock": lambda: now_s[0]})
    with capture_events() as events:
        for headers in (known(), known(), known(user_id="user-42"), known(device_id="d" * 36)):
            exchange, visitor = begin(tracker, headers)
            visitor.flag("checkout")
            end(tracker, exchange)
        assert events.names == [EXPOSURE, EXPOSURE]
        now_s[0] += 86_400
        exchange, visitor = begin(tracker)
        visitor.flag("checkout")
        end(tracker, exchange)
        assert events.names == [EXPOSURE, EXPOSURE, EXPOSURE]


BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
BOT = "Googlebot/2.1 (+http://www.google.com/bot.html)"
NOT_TRACKED = [
    pytest.param({"user-agent": BOT}, id="bot"),
    pytest.param({**known(user_id="user-42"), "user-agent": BOT}, id="bot that is logged in"),
    pytest.param(
        {**known(user_id="user-42"), "user-agent": BROWSER, "sec-gpc": "1"}, id="GPC of who is logged in"
    ),
    pytest.param({"user-agent": BROWSER, "sec-gpc": "1"}, id="GPC"),
    pytest.param({"user-agent": BROWSER, "dnt": "1"}, id="DNT"),
]


@pytest.mark.parametrize("headers", NOT_TRACKED)
def test_who_is_not_tracked_gets_what_everybody_gets_and_is_not_exposed(started, headers):
    """And not another variant with each page: their ID is drawn anew each time."""
    tracker = started(on_off("everybody"), on_off("half", 0.5), a_b_test("drawn"))
    with capture_events() as events:
        for _ in range(20):
            exchange, visitor = begin(tracker, headers)
            assert (visitor.flag("everybody"), visitor.flag("half"), visitor.flag("drawn")) == (
                True,
                False,
                False,
            )
            end(tracker, exchange)
        assert events.names == []
    assert (tracker.stats()["accepted"], tracker.stats()["refused"]) == (0, {})


def test_a_default_is_no_exposure(started):
    """Nobody was shown a variant."""
    tracker = started(on_off("nobody", 0))
    with capture_events() as events:
        exchange, visitor = begin(tracker)
        visitor.flag("nobody"), visitor.flag("unheard-of")
        end(tracker, exchange)
    assert events.names == []


def test_to_look_a_flag_up_in_all_of_them_is_to_show_it(started):
    """To list them is not."""
    tracker = started(a_b_test("shown"), a_b_test("listed"))
    with capture_events() as events:
        exchange, visitor = begin(tracker)
        flags = visitor.flags()
        assert {**flags} == dict(flags.items())
        assert flags["shown"] == flags.get("shown")
        assert flags.get("unheard-of", "default") == "default"
        end(tracker, exchange)
    assert [event.properties["Experiment name"] for event in events] == ["shown"]


def test_rules_see_what_the_request_and_the_application_say(started):
    """In the words of mixpanel-browser; groups are IDs as well."""
    by_browser = on_off("by-browser")
    by_browser["ruleset"]["rollout"][0]["runtime_evaluation_rule"] = {"==": [{"var": "$browser"}, "Chrome"]}
    by_plan = on_off("by-plan")
    by_plan["ruleset"]["rollout"][0]["runtime_evaluation_rule"] = {"==": [{"var": "plan"}, "pro"]}
    by_company = on_off("by-company", assigned_by="company")
    tracker = started(by_browser, by_plan, by_company)
    _, visitor = begin(tracker, {**known(), "user-agent": BROWSER})
    assert dict(visitor.flags()) == {"by-browser": True}
    _, visitor = begin(tracker)
    visitor.register(plan="PRO")
    visitor.set_group("company", "Acme")
    assert dict(visitor.flags()) == {"by-plan": True, "by-company": True}


def test_a_job_has_flags(started):
    """By the IDs that it is given; who has no device has the default of flags that are assigned by it."""
    tracker = started(on_off("by-device"), on_off("by-user", assigned_by="distinct_id"))
    with capture_events() as events, tracker.visitor("user-42") as visitor:
        assert (visitor.flag("by-device"), visitor.flag("by-user")) == (False, True)
        assert current_visitor.flag("by-user") is True
    assert [event.distinct_id for event in events] == ["user-42"]


def test_what_was_decided_is_exported(started):
    """And holds for whoever resumes it, by whichever ID the flags are assigned; it is not exposed again."""
    tracker = started(*(a_b_test(f"flag-{number}", assigned_by="distinct_id") for number in range(9)))
    _, visitor = begin(tracker)
    before = dict(visitor.flags())
    visitor.flag("gone")
    exported, _ = engine_of(tracker).exports.read(visitor.export(), max_age_s=60)
    assert exported.flags == {**before, "gone": None}
    with capture_events() as events, tracker.visitor("user-42") as resumed:
        tracker_flags = engine_of(tracker).event_builder.flags
        tracker_flags.restore(resumed._scope, exported.flags)
        assert {key: resumed.flag(key) for key in before} == before
    assert events.names == []


def test_flags_that_are_off_have_their_default(caplog):
    """And it is logged how to turn them on."""
    tracker, _ = recording_tracker()
    _, visitor = begin(tracker)
    assert visitor.flag("checkout", default="old") == "old"
    assert visitor.flags() == {}
    assert "MIXPANEL_VISITOR_FLAGS=local" in caplog.text
    assert tracker.stats()["flags"] is None


def test_a_test_says_what_flags_are(mixpanel_flags, mixpanel_events):
    """Whatever the settings; nothing is exposed."""
    tracker, _ = recording_tracker()
    mixpanel_flags["checkout"] = "new"
    exchange, visitor = begin(tracker)
    assert (visitor.flag("checkout"), visitor.flag("other", 7)) == ("new", 7)
    assert dict(visitor.flags()) == {"checkout": "new"}
    assert (current_visitor.flag("checkout"), current_visitor.flags()) == ("new", {"checkout": "new"})
    end(tracker, exchange)
    mixpanel_events.assert_not_tracked()
    with force_flags({"other": 1}) as flags:
        assert (visitor.flag("checkout"), visitor.flag("other")) == (False, 1)
        flags["checkout"] = "newer"
        assert visitor.flag("checkout") == "newer"
    assert visitor.flag("checkout") == "new"


def test_outside_of_a_request_a_flag_has_its_default():
    """Nothing is raised: a helper may also run in a cron job."""
    assert current_visitor.flag("checkout", default="old") == "old"
    assert current_visitor.flags() == {}


def test_an_exposure_stands_in_no_plan(started):
    """It is the package's own event, so that a plan does not refuse it."""
    tracker = started(a_b_test("checkout"), plan=Plan())
    with capture_events() as events:
        exchange, visitor = begin(tracker)
        visitor.flag("checkout")
        end(tracker, exchange)
    assert events.names == [EXPOSURE]
    assert "off_plan" not in tracker.stats()["notes"]


@pytest.mark.parametrize("key", [None, 7, "", "\ud800", "x" * 100_000, ("a",), [], {}])
def test_whatever_is_asked_for_nothing_is_raised(started, key):
    """The default is returned."""
    tracker = started(a_b_test("checkout"))
    _, visitor = begin(tracker)
    assert visitor.flag("checkout") in ("a", "b")
    assert visitor.flag(key, "default") == "default"
    with force_flags({"checkout": "c"}):
        assert visitor.flag(key, "default") == "default"


def test_mixpanel_is_away(started, caplog):
    """What was known counts on; it is logged once, and counted."""
    caplog.set_level(logging.INFO)
    answers = [answer_of(on_off("checkout"), etag='"1"')]
    asked, now_s = [], [0.0]

    def fetch(etag):
        asked.append(etag)
        return answers[-1]

    tracker = started(
        on_off("checkout"), dependencies={"fetch_flags": fetch, "monotonic": lambda: now_s[0]}, deliver=True
    )

    def fetched_again():
        count = len(asked)

        def is_done():
            now_s[0] += 70.0
            return len(asked) > count and sum(_counts(tracker)) == len(asked)

        assert wait_until(is_done, PATIENCE_S)

    answers.append(Answer(error="status 503: away"))
    fetched_again(), fetched_again()
    _, visitor = begin(tracker)
    assert visitor.flag("checkout") is True
    assert figures(tracker)["last_error"] == "status 503: away"
    assert figures(tracker)["failed"] == len(asked) - 1
    assert caplog.text.count("status 503: away") == 1
    answers.append(Answer())
    fetched_again()
    assert figures(tracker)["last_error"] == ""
    assert set(asked[1:]) == {'"1"'}
    assert caplog.text.count("gives the definitions of feature flags again") == 1


def _counts(tracker):
    return figures(tracker)["fetched"], figures(tracker)["failed"]


def test_until_definitions_are_here_each_flag_has_its_default(caplog):
    """That is logged once, and counted."""
    tracker = flag_tracker(dependencies={"fetch_flags": lambda _etag: Answer(error="refused: away")})
    _, visitor = begin(tracker)
    assert [visitor.flag(f"flag-{number}", number) for number in range(5)] == [0, 1, 2, 3, 4]
    assert tracker.stats()["notes"]["flags_not_ready"] == 5
    assert caplog.text.count("before their definitions are here") == 1
    assert figures(tracker)["age_s"] is None
    tracker.close()


def test_a_clock_that_was_set_back_changes_nothing(started):
    """The age of the definitions is not negative, and flags are what they were."""
    now_s = [1_763_900_000.0]
    tracker = started(on_off("checkout"), dependencies={"clock": lambda: now_s[0]})
    now_s[0] += 30
    assert figures(tracker)["age_s"] == 30
    now_s[0] -= 1_000_000
    assert figures(tracker)["age_s"] == 0
    _, visitor = begin(tracker)
    assert visitor.flag("checkout") is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_knows_what_its_parent_knew(started):
    """At once: it asks nobody for it."""
    tracker = started(on_off("checkout"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _, visitor = begin(tracker)
            code = 0 if visitor.flag("checkout") is True and figures(tracker)["fetched"] == 0 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_without_flags_their_code_is_not_imported_and_with_them_httpx_is_not():
    """An application that has no flags does not pay for them."""
    program = f"""if True:
        import sys
        from mixpanel_visitor import Tracker
        for flags in ("off", "local"):
            settings = dict(token={TOKEN!r}, secret_key="a-key-of-some-length", deliver=False)
            tracker = Tracker(flags=flags, spool="memory:", **settings)
            visitor = tracker.visitor(device_id="device-1")
            visitor.track("Paid")
            visitor.flag("checkout")
            print(sorted(name for name in sys.modules if name in WATCHED))
    """
    watched = (
        "httpx",
        "json_logic",
        "mixpanel",
        "mixpanel_visitor.core.flags.evaluator",
        "mixpanel_visitor.core.flags.exposures",
        "mixpanel_visitor.delivery.flags.refresher",
        "mixpanel_visitor.tracking.flags",
    )
    done = subprocess.run(
        [sys.executable, "-c", program.replace("WATCHED", repr(watched))],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    off, local = done.stdout.splitlines()
    assert off == "[]"
    assert local == repr(sorted(watched[3:]))


def test_a_job_sees_what_its_request_saw(started):
    """Though the definitions have changed since, and nothing is exposed again."""
    keys = [f"flag-{number}" for number in range(12)]
    by_now_b = [a_b_test(key) for key in keys]
    for flag in by_now_b:
        flag["ruleset"]["rollout"][0]["variant_override"] = {"key": "b"}
    tracker, changed = started(*map(a_b_test, keys)), started(*by_now_b)
    emptied = started(*(on_off(key, 0) for key in keys))
    _, visitor = begin(tracker)
    seen = {key: visitor.flag(key, "default") for key in keys}
    assert set(seen.values()) == {"a", "b"}
    for each in (tracker, changed):
        with each.resume(visitor.export()) as job, capture_events() as events:
            assert {key: job.flag(key, "default") for key in seen} == seen
        assert not events
    with emptied.resume(visitor.export()) as job:
        assert job.flag("flag-0", "default") == "default"  # a variant that is no more
