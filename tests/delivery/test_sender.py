"""Sender: at exit, and in its thread."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import warnings

import pytest
from support.sending import (
    FUTURE,
    POLL_S,
    Rig,
    answer,
    event,
    events,
    failed,
    received,
)
from support.waiting import PATIENCE_S

from mixpanel_visitor.delivery.sending.send_queue import MAX_RECORDS
from mixpanel_visitor.delivery.sending.sender import THREAD_NAME, Sender
from mixpanel_visitor.records import Record

# --- drain and stop --------


def test_drain_delivers_in_the_calling_thread(rig):
    """At exit no thread is needed."""
    rig.put(*events(MAX_RECORDS + 1))
    rig.put(b"{}", endpoint="groups")
    assert rig.sender.drain(5.0)
    assert rig.spool.counts().pending == 0


def test_drain_of_an_empty_spool_is_done_at_once(rig):
    """Nothing to do is success."""
    assert rig.sender.drain(5.0)
    assert rig.time.waits_s == []


def test_drain_waits_for_a_retry_that_is_still_in_time(rig):
    """A short hiccup does not end it."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503)]
    assert rig.sender.drain(5.0)
    assert rig.time.waits_s == [3.0]


def test_drain_does_not_wait_for_what_comes_too_late(rig):
    """During an outage the process may exit at once; the records are in the spool."""
    rig.put(*events(1))
    rig.mixpanel.otherwise = lambda bodies: answer(401)
    assert not rig.sender.drain(5.0)
    assert rig.time.waits_s == []


def test_drain_goes_on_with_the_lanes_that_work(rig):
    """One paused lane does not keep the others from being emptied."""
    rig.put(*events(1))
    rig.put(b"{}", endpoint="engage")
    rig.mixpanel.scripts["import"] = [answer(401)]
    assert not rig.sender.drain(5.0)
    assert rig.spool.acked == [b"{}"]


def test_drain_bounds_each_request_by_the_time_left(rig):
    """A server that hangs does not hold up the exit."""

    def slow(bodies):
        rig.time.now_s += 1.5
        return received(bodies)

    rig.mixpanel.otherwise = slow
    rig.sender = rig.make(post_within=rig.mixpanel)
    rig.put(*events(MAX_RECORDS * 3))
    assert not rig.sender.drain(2.0)
    assert rig.mixpanel.timeouts_s == [2.0, 0.5]


def test_a_sender_that_was_stopped_asks_anew(rig):
    """After a silence in which the lead may have gone to another process, nothing is sent from memory."""
    rig.put(*events(2))
    rig.mixpanel.scripts["import"] = [answer(503)]
    rig.sender.step()
    assert rig.spool.unclaimed == 0
    rig.spool.failing = {"claim import"}
    rig.time.wait(121)
    rig.sender.step()
    assert rig.spool.unclaimed == 2
    assert len(rig.mixpanel.batches()) == 1


def test_drain_without_time_sends_nothing(rig):
    """No time, no attempt."""
    rig.put(*events(1))
    assert not rig.sender.drain(0.0)
    assert rig.mixpanel.sent == []


def test_a_drain_whose_time_the_spool_takes_is_no_outage(rig):
    """With no time left for a request there is none, and so nothing that fails and makes it pause."""
    claim = rig.spool.claim

    def slow(*arguments):
        rig.time.now_s += 2.0
        return claim(*arguments)

    rig.spool.claim = slow
    rig.sender = rig.make(post_within=rig.mixpanel)
    rig.put(*events(1))
    assert not rig.sender.drain(1.0)
    assert rig.mixpanel.timeouts_s == []
    rig.spool.claim = claim
    assert rig.sender.drain(1.0)


def test_stop_gives_back_what_is_held(rig):
    """Another sender on the same spool can go on at once."""
    rig.put(*events(3))
    rig.mixpanel.scripts["import"] = [failed({**FUTURE, "index": 2, "insert_id": ""}), answer(503)]
    rig.run()
    rig.put(event("late"))
    rig.run()
    assert rig.spool.unclaimed == 0
    assert rig.sender.stop(1.0)
    assert rig.spool.unclaimed == 2


def test_stop_survives_a_spool_that_takes_nothing_back(rig):
    """The next process claims it anyway."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503)]
    rig.run()
    rig.spool.failing = {"release"}
    assert rig.sender.stop(1.0)


# --- the thread ---------


class Gate:
    """Holds a request until the test lets it through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, bodies):
        self.reached.set()
        assert self.open.wait(10)
        return received(bodies)


@pytest.fixture
def started(rig):
    """Make a rig whose thread runs on real time, and end it with the test."""
    senders: list[Sender] = []

    def start(**options) -> Rig:
        real = {"monotonic": time.monotonic, "wait": None, "linger_s": 0.0, "poll_s": 0.01}
        rig.sender = rig.make(**(real | options))
        senders.append(rig.sender)
        return rig

    yield start
    for sender in senders:
        assert sender.stop(5.0)


@pytest.fixture
def sender_threads():
    """Return the threads that senders have started since this test began; others may have left theirs."""
    before = set(threading.enumerate())
    return lambda: [thread for thread in set(threading.enumerate()) - before if thread.name == THREAD_NAME]


def test_the_thread_delivers(started):
    """What is put and notified is delivered in the background."""
    rig = started()
    gate = Gate()
    gate.open.set()
    rig.mixpanel.otherwise = gate
    assert rig.sender.start()
    rig.put(*events(1))
    rig.sender.notify()
    assert gate.reached.wait(5)
    assert rig.sender.stop(5.0)
    assert rig.spool.acked == events(1)


def test_starting_twice_makes_one_thread(sender_threads, started):
    """Start may be called with every record."""
    rig = started()
    assert all(rig.sender.start() for _ in range(3))
    assert len(sender_threads()) == 1


def test_the_thread_is_a_daemon(sender_threads, started):
    """It never keeps a process from exiting."""
    rig = started()
    rig.sender.start()
    assert sender_threads()[0].daemon


def test_nothing_runs_before_start(sender_threads, started):
    """Making a sender costs no thread."""
    started()
    assert sender_threads() == []


def test_a_stopped_sender_can_start_again(sender_threads, started):
    """The thread's life may be repeated."""
    rig = started()
    rig.sender.start()
    assert rig.sender.stop(5.0)
    assert sender_threads() == []
    rig.sender.start()
    assert len(sender_threads()) == 1


def test_a_thread_that_cannot_be_started_is_no_error(rig, monkeypatch):
    """At interpreter exit, or out of memory, the caller is told to deliver by itself."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not rig.sender.start()


def test_stop_does_not_wait_longer_than_asked(started):
    """A request under way may outlive the patience of an exit."""
    rig = started()
    gate = Gate()
    rig.mixpanel.otherwise = gate
    rig.put(*events(1))
    rig.sender.start()
    assert gate.reached.wait(5)
    assert not rig.sender.stop(0.01)
    gate.open.set()


def test_drain_waits_for_the_threads_request_at_most_until_its_deadline(started):
    """Two threads never send at once, and the exit is not held up."""
    rig = started()
    gate = Gate()
    rig.mixpanel.otherwise = gate
    rig.put(*events(1))
    rig.sender.start()
    assert gate.reached.wait(5)
    assert not rig.sender.drain(0.01)
    gate.open.set()
    assert rig.sender.drain(5.0)
    assert len(rig.mixpanel.sent) == 1


class Loop:
    """Lets the thread run on fake time through so many waits, and tells what had been sent by each."""

    def __init__(self, rig: Rig, waits: int) -> None:
        self.rig = rig
        self.left = waits
        self.seen: list[tuple[float, int]] = []
        self.done = threading.Event()
        self.end = threading.Event()

    def wait(self, seconds: float) -> None:
        self.seen.append((seconds, len(self.rig.mixpanel.sent)))
        self.rig.time.now_s += seconds
        self.left -= 1
        if self.left == 0:
            self.done.set()
            self.end.wait(10)


@pytest.fixture
def looped(rig):
    """Run the loop of the thread for some waits on fake time."""
    with contextlib.ExitStack() as stack:

        def run(waits: int, before, **options) -> list[tuple[float, int]]:
            loop = Loop(rig, waits)
            rig.sender = rig.make(wait=loop.wait, linger_s=1.0, **options)
            before(rig.sender)
            stack.callback(rig.sender.stop, 5.0)
            stack.callback(loop.end.set)
            rig.sender.start()
            assert loop.done.wait(5)
            return loop.seen

        yield run


def test_the_thread_lingers_after_the_first_notify(rig, looped):
    """Records that are put together are sent together."""
    rig.put(*events(1))
    assert looped(2, lambda sender: sender.notify()) == [(1.0, 0), (POLL_S, 1)]


def test_a_flush_skips_the_linger(rig, looped):
    """Who asks for a flush does not wait for company."""
    rig.put(*events(1))

    def flush(sender):
        sender.notify()
        sender.request_flush()

    assert looped(1, flush) == [(POLL_S, 1)]


def test_a_full_batch_skips_the_linger(rig, looped):
    """There is nothing to wait for once a request is full."""
    rig.put(*events(1))

    def fill(sender):
        sender.notify()
        sender.notify(MAX_RECORDS - 1)

    assert looped(1, fill) == [(POLL_S, 1)]


def test_without_notify_the_thread_polls(rig, looped):
    """Other processes put records without telling."""
    assert looped(2, lambda sender: None) == [(POLL_S, 0), (POLL_S, 0)]


def test_the_thread_outlives_an_error_of_its_own(rig, looped):
    """Even a clock that fails ends nothing; the thread waits a second and goes on."""
    broken: list[bool] = []

    def monotonic() -> float:
        if broken:
            broken.clear()
            raise OSError
        return rig.time.monotonic()

    rig.put(*events(1))
    seen = looped(2, lambda sender: broken.append(True), monotonic=monotonic)
    assert seen == [(1.0, 0), (POLL_S, 1)]


def test_a_forked_child_starts_anew(started):
    """The child has no thread, no claims and no held lock of its parent's."""
    rig = started()
    gate = Gate()
    rig.mixpanel.otherwise = gate
    rig.put(*events(1))
    rig.sender.start()
    assert gate.reached.wait(5)  # the parent's thread is in a request now, and holds the lock
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what is tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
            rig.mixpanel.otherwise = received
            before = rig.sender.stats()
            anew = not before["running"] and before["batches"] == 0 and before["lanes"]["import"]["held"] == 0
            rig.spool.put([Record("groups", b"{}")])
            delivered = rig.sender.drain(5.0) and rig.spool.acked == [b"{}"]
            status = 0 if anew and delivered and rig.sender.start() and rig.sender.stop(5.0) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    gate.open.set()


EXITING = """
import json, threading
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.delivery.spool import Claim

class Endless:
    def claim(self, endpoint, max_records, max_bytes):
        return Claim(endpoint=endpoint, bodies=(b"{}",), positions=(0,))
    def ack(self, claim, indexes):
        pass

begun = threading.Event()
def post(endpoint, bodies):
    begun.set()
    return Response(status=200, body=json.dumps({"code": 200}).encode())

sender = Sender(Endless(), post)
sender.start()
begun.wait(10)
"""


def test_a_busy_thread_dies_quietly_with_the_interpreter():
    """An exit in the middle of delivery writes nothing to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", EXITING], check=False, capture_output=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_thread_syncs_after_each_round(started):
    """What was put while Mixpanel is away survives a power failure as well."""
    synced = threading.Event()
    rig = started(sync=synced.set)
    rig.sender.start()
    assert synced.wait(10.0)
