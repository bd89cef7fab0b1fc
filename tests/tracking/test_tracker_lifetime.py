"""Tracker from its first event to the end of its process: flush, drain, close, forks, and being dropped."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.delivering import SETTINGS, accepting
from support.facts import facts
from support.inbox import Inbox
from support.trackers import known, recording_tracker
from support.waiting import PATIENCE_S

from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking import context
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker, engine_of


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
        run = engine_of(tracker).pipeline.background_writer._run_of_thread
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
        len(fork._members) + len(fork._child_methods) + len(exit_hooks._to_drain),
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
