"""Tracker: where core and delivery meet. Its counters add up whatever happens."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.facts import facts
from support.inbox import Inbox
from support.trackers import NOW_S, known, recording_tracker
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor import asgi, wsgi
from mixpanel_visitor.core.exchange import COMMIT_AT_RECORDS
from mixpanel_visitor.core.identity.spid_browser import signed_payload
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.errors import SettingsError, SpoolError, SpoolFullError
from mixpanel_visitor.tracking import context
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker, engine_of

SETTINGS = {"token": "t", "secret_key": "a-key-of-some-length", "spool": "memory:"}


def balanced(stats):
    settled = stats["delivered"] + stats["dead_lettered"] + sum(stats["refused"].values())
    return stats["accepted"] == settled + stats["pending"] and stats["pending"] == (
        stats["buffered"] + stats["spooled"]
    )


def accepting(requests=None):
    """A Mixpanel that takes everything."""

    def post(endpoint, bodies):
        if requests is not None:
            requests.append((endpoint, list(bodies)))
        body = b'{"code":200,"num_records_imported":%d,"status":"OK"}' % len(bodies)
        return Response(status=200, headers={}, body=body if endpoint == "import" else b"1")

    return post


def test_wrong_settings_raise_at_construction():
    """All mistakes at once, and nothing else of ours ever raises."""
    with pytest.raises(SettingsError) as caught:
        Tracker(secret_key="a-key-of-some-length", regoin="eu")
    assert len(caught.value.problems) == 2


def test_events_are_delivered_and_the_ledger_adds_up():
    """From `track` to acknowledged, through the spool and the sender."""
    requests = []
    tracker = Tracker(**SETTINGS, dependencies=Dependencies(post=accepting(requests)))
    with tracker.visitor("u") as visitor:
        visitor.track("a")
        visitor.people_set({"x": 1})
        visitor.track("")
    assert tracker.flush(timeout_s=PATIENCE_S)
    stats = tracker.stats()
    assert (stats["accepted"], stats["delivered"], stats["pending"]) == (3, 2, 0)
    assert stats["refused"] == {"bad_name": 1}
    assert balanced(stats)
    assert sorted(endpoint for endpoint, _ in requests) == ["engage", "import"]
    tracker.close()


def test_open_requests_count_as_pending():
    """What a handler has queued is not lost from the books before the response ends."""
    tracker, _ = recording_tracker()
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=True)
    visitor.track("x")
    stats = tracker.stats()
    assert (stats["accepted"], stats["pending"], stats["buffered"]) == (1, 1, 1)
    assert balanced(stats)
    engine_of(tracker).on_response_end(exchange, in_background=False)
    stats = tracker.stats()
    assert (stats["pending"], stats["buffered"], stats["spooled"]) == (1, 0, 1)
    assert balanced(stats)


def test_flush_is_false_while_mixpanel_is_away():
    """It says so within its time-out, and keeps the events."""

    def refused(_endpoint, _bodies):
        return Response(status=0, headers={}, body=b"", failure="refused")

    now_s = iter(range(10_000))
    tracker = Tracker(
        **SETTINGS,
        deliver=False,
        dependencies=Dependencies(post=refused, monotonic=lambda: next(now_s), wait=lambda _s: None),
    )
    tracker.track("u", "x")
    assert not tracker.flush(timeout_s=5)
    assert tracker.stats()["pending"] == 1


def test_flush_of_nothing_is_true():
    """There is nothing to wait for."""
    tracker, _ = recording_tracker()
    assert tracker.flush(timeout_s=0)


def test_after_close_events_are_refused():
    """By name and counted; close may be called again."""
    tracker, spool = recording_tracker()
    assert tracker.close(timeout_s=1)
    assert tracker.close(timeout_s=1)
    tracker.track("u", "x")
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    visitor.track("y")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.records == []
    assert tracker.stats()["refused"] == {"closed": 2}


def test_drain_is_not_the_end():
    """ASGI's lifespan drains; a server that starts again goes on."""
    tracker, spool = recording_tracker()
    engine_of(tracker).drain(timeout_s=1)
    tracker.track("u", "x")
    assert spool.names == ["x"]


class BrokenSpool:
    """Fails in the way it was told to."""

    def __init__(self, inner, error):
        self.inner = inner
        self.error = error

    def put(self, records):
        raise self.error

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SpoolFullError("1 GB"), "spool_full"),
        (SpoolError("?"), "spool_error"),
        (RuntimeError("bug"), "internal_error"),
    ],
)
def test_a_spool_that_fails_costs_events_and_nothing_else(error, reason, caplog):
    """Refused, counted, logged; the request goes on."""
    _, spool = recording_tracker()
    tracker = Tracker(**SETTINGS, deliver=False, dependencies=Dependencies(spool=BrokenSpool(spool, error)))
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    visitor.track("x")
    visitor.track("y")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    stats = tracker.stats()
    assert stats["refused"] == {reason: 2}
    assert balanced(stats)
    assert caplog.records


def test_disabled_tracks_nothing_and_sets_nothing():
    """`enabled=False`: handlers still find a visitor."""
    tracker, spool = recording_tracker(enabled=False)
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    visitor.track("x")
    assert engine_of(tracker).on_response_start(exchange, 200, list) == []
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.records == []
    assert tracker.stats()["refused"] == {"disabled": 1}


def test_dry_run_logs_instead_of_sending(caplog):
    """Every event is validated and shown; none is stored or sent."""
    caplog.set_level("INFO", "mixpanel_visitor")
    tracker, spool = recording_tracker(dry_run=True)
    tracker.track("u", "Signed up")
    assert spool.records == []
    assert "Signed up" in caplog.text
    assert tracker.stats()["refused"] == {"dry_run": 1}


def test_one_liners_use_exactly_the_given_id():
    """`tracker.track` is for those who know their distinct ID."""
    tracker, spool = recording_tracker()
    tracker.track("user-42", "a", {"x": 1}, y=2)
    tracker.track("$device:abc", "b")
    one, two = (event["properties"] for event in spool.events)
    assert (one["distinct_id"], one["x"], one["y"]) == ("user-42", 1, 2)
    assert "$device_id" not in one
    assert (two["distinct_id"], two["$device_id"]) == ("$device:abc", "abc")


@pytest.mark.parametrize("answer", ["denied", "unknown", "nonsense", None, RuntimeError("bug")])
def test_consent_is_asked_and_its_mistakes_mean_no(answer):
    """Whatever is not `granted` tracks nothing."""

    def consent(_facts):
        if isinstance(answer, Exception):
            raise answer
        return answer

    tracker, spool = recording_tracker(consent=consent)
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    visitor.track("x")
    assert engine_of(tracker).on_response_start(exchange, 200, list) == []
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.records == []
    assert visitor.consent in ("denied", "unknown")


def test_a_failing_request_filter_leaves_nothing_alone(caplog):
    """It is logged; the request is treated as any other."""

    def broken(_facts):
        raise RuntimeError("bug")

    tracker, _ = recording_tracker(request_filter=broken)
    exchange, _ = engine_of(tracker).begin(facts(), in_background=False)
    assert engine_of(tracker).on_response_start(exchange, 200, list)
    assert "request_filter" in caplog.text


def test_an_internal_error_gives_an_inert_visitor(caplog):
    """If our own code fails, the handler still finds a visitor with an ID, and the app goes on."""
    calls = []

    def clock():
        calls.append(1)
        raise RuntimeError("bug")

    tracker = Tracker(**SETTINGS, deliver=False, dependencies=Dependencies(clock=clock))
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    assert visitor.id
    visitor.track("x")
    assert engine_of(tracker).on_response_start(exchange, 200, list) == []
    assert tracker.stats()["notes"]["internal_error"] == 1
    assert "report" in caplog.text


def test_from_env_and_from_mapping(monkeypatch):
    """The same settings from the environment or from a mapping with the same names."""
    values = {"MIXPANEL_TOKEN": "t", "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length"}
    assert Tracker.from_mapping(values, spool="memory:").settings.token == "t"
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Tracker.from_env(spool="memory:", region="eu").settings.region == "eu"


def test_repr_holds_no_secret():
    """A tracker may be logged."""
    tracker, _ = recording_tracker()
    assert "a-key-of-some-length" not in repr(tracker)
    assert "a-key-of-some-length" not in repr(tracker.settings)


def test_projects_that_share_a_directory_do_not_share_a_spool(tmp_path):
    """Whoever leads delivers all that is in a spool, so each token has its own in there."""
    requests = {"a": [], "b": []}
    trackers = {
        token: Tracker(
            token=token,
            secret_key="a-key-of-some-length",
            spool=str(tmp_path),
            dependencies=Dependencies(post=accepting(requests[token])),
        )
        for token in requests
    }
    for token, tracker in trackers.items():
        tracker.track("u", f"event of {token}")
    for tracker in trackers.values():
        assert tracker.flush(timeout_s=PATIENCE_S)
        tracker.close()
    for token, sent in requests.items():
        ((_, (body,)),) = sent
        assert f"event of {token}".encode() in body


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("hook", ["handler", "job"])
def test_a_fork_leaves_the_parents_events_to_the_parent(hook):
    """What was queued before is stored once; the child's books begin empty."""
    tracker, spool = recording_tracker()
    if hook == "handler":
        exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
        block = contextlib.nullcontext(visitor)
        token = context.enter(visitor)
    else:
        block = tracker.visitor("u")
    reader, writer = os.pipe()
    with block as visitor:
        visitor.track("parent's")
        pid = os.fork()
        if pid == 0:
            visitor.track("child's")
            if hook == "handler":
                engine_of(tracker).on_response_end(exchange, in_background=False)
            else:
                block.__exit__(None, None, None)
            os.write(writer, f"{spool.names} {tracker.stats()['accepted']}".encode())
            os._exit(0)
    if hook == "handler":
        engine_of(tracker).on_response_end(exchange, in_background=False)
        context.leave(token)
    os.waitpid(pid, 0)
    assert os.read(reader, 1000).decode() == '["child\'s"] 1'
    os.close(reader)
    os.close(writer)
    assert spool.names == ["parent's"]


@pytest.mark.timeout(20)  # without a bound it would wait for an answer, 30 s
def test_drain_is_bounded_while_mixpanel_hangs():
    """A server that accepts and never answers does not keep a process from ending."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        tracker = Tracker(**SETTINGS, api_host=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        tracker.track("u", "x")
        engine_of(tracker).pipeline.sender.request_flush()
        connection, _ = deaf.accept()
        with connection:
            assert not engine_of(tracker).drain(timeout_s=0.2)
    assert tracker.stats()["pending"] == 1


def test_calls_after_close_are_logged(caplog):
    """Counted only, they would look as if they had worked."""
    tracker, _ = recording_tracker()
    tracker.close(timeout_s=1)
    tracker.track("u", "x")
    assert "was closed" in caplog.text


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), (("u",), {"user_id": "v"}), (("u",), {"device_id": "d"})]
)
def test_a_visitor_outside_of_a_request_needs_one_id(given, named):
    """No ID, or two that may contradict each other, is a mistake in the code."""
    tracker, _ = recording_tracker()
    with pytest.raises(TypeError, match="either one ID"):
        tracker.visitor(*given, **named)


@pytest.mark.parametrize("middleware", [asgi.VisitorMiddleware, wsgi.VisitorMiddleware])
def test_a_middleware_takes_a_tracker_or_settings(middleware):
    """Anything else is a mistake at construction, not at the first request."""
    tracker, _ = recording_tracker()
    assert middleware(None, tracker=tracker).tracker is tracker
    with pytest.raises(TypeError, match="either tracker= or settings"):
        middleware(None, tracker=tracker, token="t")
    with pytest.raises(TypeError, match=r"must be a mixpanel_visitor\.Tracker"):
        middleware(None, tracker=Tracker)


def test_before_response_stores_in_the_calling_thread():
    """Whoever has the response can rely on the event, so no thread may be waited for."""
    tracker, spool = recording_tracker(durability="before-response")
    for name in ("a", "b", "c"):
        exchange, visitor = engine_of(tracker).begin(facts(), in_background=True)
        visitor.track(name)
        engine_of(tracker).on_response_end(exchange, in_background=True)
    assert spool.names == ["a", "b", "c"]


def test_a_full_request_is_stored_before_it_ends():
    """A stream that tracks without end leaves its events in the spool on the way."""
    tracker, spool = recording_tracker()
    _, visitor = engine_of(tracker).begin(facts(known()), in_background=False)
    for _ in range(COMMIT_AT_RECORDS):
        visitor.track("x")
    assert len(spool.names) == COMMIT_AT_RECORDS


@pytest.mark.parametrize(
    "say",
    [
        lambda tracker: tracker.track("u", "x"),
        lambda tracker: tracker.visitor("u").track("x"),
        lambda tracker: (
            engine_of(tracker)
            .begin(
                facts(known(token="t", issued_at_s=int(time.time())), protocol="websocket"),
                in_background=False,
            )[1]
            .track("x")
        ),
    ],
)
def test_the_first_event_starts_delivery(say):
    """Nobody has to call `start` or `flush`."""
    delivered = threading.Event()
    accept = accepting()

    def post(endpoint, bodies):
        delivered.set()
        return accept(endpoint, bodies)

    tracker = Tracker(**SETTINGS, dependencies=Dependencies(post=post))
    say(tracker)
    assert delivered.wait(20)
    tracker.close(timeout_s=5)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 on; forking is the point
def test_a_forked_child_answers_for_its_own_events():
    """The counters of a child start from zero."""
    tracker, _ = recording_tracker()
    engine_of(tracker).begin(facts(), in_background=False)[1].track("the parent's")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, str(tracker.stats()["accepted"]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 10) == b"0"
    os.close(reader)
    os.close(writer)


def test_a_process_that_only_stores_empties_its_queue_at_exit(tmp_path):
    """`deliver=False`: what a thread was about to write is written when the interpreter ends."""
    code = (
        "import sys; from mixpanel_visitor.tracking.tracker import Tracker, engine_of;"
        "from support.facts import facts;"
        "tracker = Tracker(token='t', secret_key='a-key-of-some-length', spool=sys.argv[1], deliver=False);"
        "engine = engine_of(tracker);"
        "exchanges = [engine.begin(facts(), in_background=True) for _ in range(300)]\n"
        "for exchange, visitor in exchanges:\n"
        "    visitor.track('x')\n"
        "    engine.on_response_end(exchange, in_background=True)"
    )
    path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    stored = b"".join(segment.read_bytes() for segment in tmp_path.rglob("*.seg"))
    assert stored.count(b'"event":"x"') == 300


def test_flush_and_drain_do_not_say_yes_while_the_disk_is_stuck():
    """Events that wait for the committer are not stored, let alone acknowledged."""
    entered, gate = threading.Event(), threading.Event()
    _, spool = recording_tracker()
    put = spool.put

    def stuck(records):
        put(records)
        if len(spool.records) > 1:
            entered.set()
            gate.wait(10)

    spool.put = stuck
    tracker = Tracker(**SETTINGS, deliver=False, dependencies=Dependencies(spool=spool))
    for name in ("first", "second"):
        exchange, visitor = engine_of(tracker).begin(facts(), in_background=True)
        visitor.track(name)
        engine_of(tracker).on_response_end(exchange, in_background=True)
        run = engine_of(tracker).pipeline.committer._run_of_thread
        while run is not None and not run.running:
            gate.wait(0.001)
    assert entered.wait(10)
    assert not tracker.flush(timeout_s=0)
    assert not engine_of(tracker).drain(timeout_s=0)
    gate.set()
    tracker.close(timeout_s=5)


class SyncedSpool(MemorySpool):
    """A spool that tells when it is told to sync."""

    def __init__(self):
        super().__init__()
        self.synced = threading.Event()

    def sync(self):
        self.synced.set()


def test_who_only_stores_syncs_as_well():
    """With `deliver=False` nothing is sent from here, but a power failure must not take what was stored."""
    spool, requests = SyncedSpool(), []
    tracker = Tracker(
        **SETTINGS, deliver=False, dependencies=Dependencies(spool=spool, post=accepting(requests))
    )
    tracker.track("u", "Stored")
    assert spool.synced.wait(10)
    tracker.close()
    assert requests == []
    assert spool.counts().pending == 1


@pytest.mark.parametrize(
    ("setting", "figure"), [("dead-letter", "ambiguous"), ("retry", "duplicates_possible")]
)
def test_the_setting_about_ambiguous_updates_reaches_the_sender(setting, figure):
    """`on_ambiguous="retry"`: what may have been applied is not set aside, but sent again."""
    lost = Response(status=502, sent=True)
    tracker = Tracker(
        **SETTINGS, on_ambiguous=setting, dependencies=Dependencies(post=lambda _endpoint, _bodies: lost)
    )
    with tracker.visitor("u") as visitor:
        visitor.people_increment({"visits": 1})
    assert wait_until(lambda: tracker.stats()["sender"][figure] == 1, PATIENCE_S)
    assert wait_until(lambda: tracker.stats()["dead_lettered"] == (figure == "ambiguous"), PATIENCE_S)
    tracker.close(timeout_s=0.1)


DROPPED = """
import gc, os, sys, threading, time
from mixpanel_visitor.process import exit_hooks, fork
from mixpanel_visitor.tracking.tracker import Tracker

def trackers(number, spool):
    for each in range(number):
        tracker = Tracker(token="t", secret_key="a-key-of-some-length", spool=spool, api_host=sys.argv[1])
        if sys.argv[3] == "used":
            tracker.track("somebody", "Used")
    del tracker
    gc.collect()

def left():
    return (
        len(fork._members) + len(fork._in_children) + len(exit_hooks._to_drain),
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
    )

trackers(1, sys.argv[2])
ends_s = time.monotonic() + 50
while threading.active_count() > 1 and time.monotonic() < ends_s:
    time.sleep(0.05)
gc.collect()
before = left()
trackers(int(sys.argv[4]), sys.argv[2])
while threading.active_count() > 1 and time.monotonic() < ends_s:
    time.sleep(0.05)
gc.collect()
print(left() == before, before, left())
"""


@pytest.mark.parametrize(
    ("use", "number", "spool"),
    [("made", 1000, "memory:"), ("made", 1000, None), ("used", 20, "memory:"), ("used", 20, None)],
    ids=["memory", "journal", "memory, used", "journal, used"],
)
def test_trackers_that_were_dropped_leave_nothing(use, number, spool, tmp_path):
    """No hook, no thread, no file: what they still had to deliver is delivered first, or waits in a spool."""
    with LocalMixpanel() as mixpanel:
        done = subprocess.run(
            [sys.executable, "-c", DROPPED, mixpanel.url, spool or str(tmp_path), use, str(number)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        arrived = Inbox(mixpanel.url).events()
    assert done.stdout.startswith("True"), done.stdout + done.stderr
    if use == "used" and spool is not None:
        assert len(arrived) == number + 1


# --- traits for SPiD ----------------------------------------------------------------------------------


def test_traits_are_signed_with_the_sign_secret():
    """The text is what SPiD verifies."""
    tracker, _ = recording_tracker(spid_sign_secret="a-secret")
    payload = signed_payload(tracker.sign_traits({"Account type": "Personal"}), "a-secret")
    assert payload == {"Account type": "Personal", "algorithm": "HMAC-SHA256", "t": round(NOW_S, 2)}


@pytest.mark.parametrize(
    ("settings", "traits", "why"),
    [
        ({}, {"a": 1}, "spid_sign_secret is missing"),
        ({"spid_sign_secret": "a-secret"}, {"a": None}, "a trait is a str"),
        ({"spid_sign_secret": "a-secret"}, {}, "traits are a mapping"),
    ],
)
def test_traits_that_cannot_be_signed_break_no_page(caplog, settings, traits, why):
    """An empty text and one line that says why and where; in tests it raises."""
    tracker, _ = recording_tracker(**settings)
    assert tracker.sign_traits(traits) == tracker.sign_traits(traits) == ""
    assert caplog.text.count(why) == 1
    assert __file__ in caplog.text
    strict, _ = recording_tracker(**settings, on_error="raise")
    with pytest.raises(ValueError, match=why):
        strict.sign_traits(traits)


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"browser_sdk": "spid", "spid_client_id": "4321abc"}, 1),
        ({"browser_sdk": ("mixpanel", "spid"), "spid_client_id": "4321abc"}, 1),
        ({"browser_sdk": "spid", "spid_client_id": "4321abc", "spid_sign_secret": "a-secret"}, 0),
        ({}, 0),
    ],
)
def test_spid_without_its_secret_is_said_in_one_line(caplog, settings, lines):
    """Nothing fails, but no session is ever verified."""
    recording_tracker(**settings)
    assert caplog.text.count("spid_sign_secret is missing") == lines
