"""Re-entry: what Python may run in the middle of our calls can track; nothing waits for itself or is lost."""

import contextlib
import itertools
import logging
import sys
import threading
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S

import mixpanel_visitor
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.errors import SpoolFullError
from mixpanel_visitor.observability.metrics import collect_metrics
from mixpanel_visitor.records import Record
from mixpanel_visitor.tracking.context import current_visitor, refused_outside
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

PACKAGE = str(Path(mixpanel_visitor.__file__).parent)
SETTINGS = {"token": "t", "secret_key": "a-key-of-some-length"}


def accepting(_endpoint, bodies):
    """A Mixpanel that takes everything."""
    return Response(status=200, body=b'{"code":200,"num_records_imported":%d}' % len(bodies))


def opened(kind, tmp_path, **parts):
    """A tracker over a spool of this kind, whose Mixpanel takes everything."""
    spool = MemorySpool() if kind == "memory" else Journal(tmp_path / "spool")
    return Tracker(**SETTINGS, dependencies=Dependencies(spool=spool, post=accepting, **parts))


def interrupted(call, come):
    """Make the call and `come` before every bytecode of ours, as a handler may; count how often."""
    times = 0

    def trace(frame, _event, _arg):
        nonlocal times
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        times += 1
        come()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return times


def balanced(stats):
    """Tell whether the books of this process come out."""
    settled = stats["delivered"] + stats["dead_lettered"] + sum(stats["refused"].values())
    in_hand = stats["buffered"] + stats["spooled"]
    return stats["accepted"] == settled + stats["pending"] and stats["pending"] == in_hand


CALLS = {
    "track": lambda tracker: tracker.track("somebody", "Outer"),
    "stats": lambda tracker: tracker.stats(),
    "flush": lambda tracker: tracker.flush(0),
    "scrape": lambda tracker: list(collect_metrics(tracker.stats())),
}
spools = pytest.mark.parametrize("kind", ["memory", "journal"])


@spools
@pytest.mark.parametrize("call", CALLS)
def test_an_event_at_every_bytecode_is_kept(call, kind, tmp_path):
    """None is lost, none refused, and each is delivered once."""
    tracker = opened(kind, tmp_path)
    tracker.track("somebody", "First")
    times = interrupted(lambda: CALLS[call](tracker), lambda: tracker.track("somebody", "Inner"))
    assert tracker.flush(PATIENCE_S)
    stats = tracker.stats()
    assert times > 50
    assert (stats["accepted"], stats["refused"]) == (times + 1 + (call == "track"), {})
    assert (stats["delivered"], stats["pending"]) == (stats["accepted"], 0)
    assert balanced(stats)
    tracker.close(PATIENCE_S)


@spools
@pytest.mark.parametrize("inner", ["stats", "flush", "scrape"])
def test_what_asks_at_every_bytecode_of_a_call_gets_an_answer(inner, kind, tmp_path):
    """It raises nothing, waits for nothing, and spoils nothing."""
    tracker = opened(kind, tmp_path)
    for call in CALLS.values():
        assert interrupted(lambda call=call: call(tracker), lambda: CALLS[inner](tracker)) > 50
    assert tracker.flush(PATIENCE_S)
    stats = tracker.stats()
    assert (stats["accepted"], stats["delivered"], stats["refused"]) == (1, 1, {})
    tracker.close(PATIENCE_S)


class Calling(MemorySpool):
    """A spool in the middle of whose calls something else comes, once for each."""

    in_put = in_claim = staticmethod(lambda: None)

    def put(self, records):
        come, self.in_put = self.in_put, lambda: None
        come()
        super().put(records)

    def claim(self, *words):
        come, self.in_claim = self.in_claim, lambda: None
        come()
        return super().claim(*words)


def test_a_flush_in_the_middle_of_a_write_says_no_at_once():
    """It would wait for the write that it has interrupted."""
    waits, answers = [], []
    spool = Calling()
    tracker = Tracker(**SETTINGS, dependencies=Dependencies(spool=spool, post=accepting, wait=waits.append))
    spool.in_put = lambda: answers.append(tracker.flush(PATIENCE_S))
    tracker.track("somebody", "Outer")
    assert (waits, answers) == ([], [False])
    tracker.close(PATIENCE_S)


def test_a_close_in_the_middle_of_a_write_keeps_the_event():
    """As a handler of SIGTERM does: the event is stored, and the next close delivers it."""
    answers = []
    spool = Calling()
    tracker = Tracker(**SETTINGS, dependencies=Dependencies(spool=spool, post=accepting))
    spool.in_put = lambda: answers.append(tracker.close(PATIENCE_S))
    tracker.track("somebody", "Outer")
    assert tracker.close(PATIENCE_S)
    assert answers == [False]
    assert tracker.stats()["delivered"] == 1


def test_a_finalizer_in_the_senders_own_thread_may_track_and_flush():
    """It comes in the middle of a claim; the event is stored as soon as the claim is done."""
    answers = []
    spool = Calling()
    tracker = Tracker(**SETTINGS, dependencies=Dependencies(spool=spool, post=accepting))

    def come():
        tracker.track("somebody", "Inner")
        answers.append(tracker.flush(PATIENCE_S))

    tracker.track("somebody", "Outer")
    spool.in_claim = come
    assert tracker.flush(PATIENCE_S)
    assert tracker.flush(PATIENCE_S)
    assert answers == [False]
    assert tracker.stats()["delivered"] == 2
    tracker.close(PATIENCE_S)


def test_a_log_handler_that_tracks_is_heard_while_the_spool_refuses():
    """The line about a refused event comes from inside the spool; what it tracks is counted, too."""

    class Tracking(logging.Handler):
        def emit(self, record):
            tracker.track("somebody", "Logged", {"line": record.getMessage()[:100]})

    handler = Tracking()
    spool = MemorySpool(10)
    tracker = Tracker(**SETTINGS, dependencies=Dependencies(spool=spool, post=accepting))
    logging.getLogger("mixpanel_visitor").addHandler(handler)
    try:
        tracker.track("somebody", "Outer")
    finally:
        logging.getLogger("mixpanel_visitor").removeHandler(handler)
    stats = tracker.stats()
    assert stats["refused"] == {SpoolFullError.reason: 2}
    assert balanced(stats)
    tracker.close(PATIENCE_S)


def test_a_log_handler_in_another_thread_does_not_wait_for_the_spool(tmp_path):
    """The spool says what it has to say once it has let go of its lock, which that handler wants to have."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "VERSION").write_bytes(b"9\n")  # of which there is a line to log
    tracker = opened("journal", tmp_path)
    inside, logged = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, _record):
            # With the lock of the handler held, as every handler has it.
            inside.set()
            tracker.track("somebody", "Logged")
            logged.set()

    handler = Slow()
    host = logging.getLogger("a host")
    for each in (host, logging.getLogger("mixpanel_visitor")):
        each.addHandler(handler)
    try:
        host.warning("one line")
        other = threading.Thread(target=host.warning, args=("another line",), daemon=True)
        other.start()
        tracker.track("somebody", "Outer")
        other.join(PATIENCE_S)
    finally:
        for each in (host, logging.getLogger("mixpanel_visitor")):
            each.removeHandler(handler)
    assert tracker.stats()["refused"] == {}
    tracker.close(PATIENCE_S)


class HandlerError(Exception):
    """Raised by a signal handler, as those for time limits do."""


@spools
def test_a_handler_that_raises_leaves_nothing_locked(kind, tmp_path):
    """Wherever Python runs handlers in a call, which is after calls of C and as functions begin."""
    tracker = opened(kind, tmp_path)
    tracker.track("somebody", "First")
    moment = left = 0
    while left <= 0:
        left = moment = moment + 1

        def handle(frame, event, _arg):
            nonlocal left
            if event in ("c_return", "call") and frame.f_code.co_filename.startswith(PACKAGE):
                left -= 1
                if left == 0:
                    raise HandlerError

        with contextlib.suppress(HandlerError):
            sys.setprofile(handle)
            tracker.track("somebody", "Interrupted")
        sys.setprofile(None)
    before = tracker.stats()
    tracker.track("somebody", "After")
    other = threading.Thread(target=tracker.track, args=("somebody", "Another thread"))
    other.start()
    other.join(PATIENCE_S)
    after = tracker.stats()
    assert moment > 20
    assert after["accepted"] == before["accepted"] + 2
    assert (after["refused"], after["buffered"]) == (before["refused"], before["buffered"])
    tracker.close(PATIENCE_S)


def test_the_figures_of_a_sender_that_works_meanwhile_can_be_asked_for():
    """Its queues and counters change at every bytecode of the question, as by its own thread."""
    spool = MemorySpool()
    statuses = itertools.cycle([413, 400, 500, 200, 503, 429])

    def post(_endpoint, _bodies):
        return Response(status=next(statuses), body=b"{}")

    now_s = itertools.count(0, 1000.0)
    sender = Sender(spool, post, monotonic=lambda: next(now_s), log=lambda *_: None)

    def work():
        spool.put([Record("import", b'{"event":"E","properties":{}}') for _ in range(3)])
        sender.step()

    assert interrupted(sender.stats, work) > 50
    assert sender.stats()["lanes"]["import"]["held"] >= 0


def test_a_call_without_a_request_at_every_bytecode_is_counted():
    """It is refused, and so is each of those that come in between."""
    before = refused_outside()
    times = interrupted(lambda: current_visitor.track("Outer"), lambda: current_visitor.track("Inner"))
    assert times > 10
    assert refused_outside() - before == times + 1
