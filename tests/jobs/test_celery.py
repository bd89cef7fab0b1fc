"""Celery: the tasks of a worker in this process, in two threads of a pool, over a broker in memory."""

import logging
import uuid

import celery
import pytest
from celery import chain, chord, group, signals
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from support.trackers import NOW_S
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor import current_visitor
from mixpanel_visitor.celery import install
from mixpanel_visitor.tracking import context

from .conftest import Site, assert_takes_trackers_only

app = celery.Celery("jobs", broker="memory://", backend="cache+memory://", set_as_current=False)
app.conf.update(
    broker_transport_options={"polling_interval": 0.01},
    result_chord_retry_interval=0.01,
    task_default_queue="jobs",
    worker_hijack_root_logger=False,
)

PAID = ("Paid", "ann", "phone-1")


@app.task
def pay(*_results):
    current_visitor.track("Paid")
    return bool(current_visitor)


@app.task
def fail():
    current_visitor.track("Failing")
    raise ValueError("as the test wants it")


@app.task
def end_by(kind):
    raise {"ignore": Ignore, "reject": Reject, "soft limit": SoftTimeLimitExceeded}[kind]


@app.task(bind=True, max_retries=2)
def pay_at_the_third_try(self):
    texts.append(self.request.mixpanel_visitor)
    if self.request.retries < 2:
        raise self.retry(countdown=0, headers={"other": "1"} if self.request.retries else None)
    pay()


@app.task
def call_pay():
    pay.delay().forget()


@app.task
def log_in_and_pay(user_id):
    current_visitor.identify(user_id)
    pay.delay().forget()


@app.task
def pay_eagerly():
    pay.apply()
    pay()


@app.task(bind=True)
def replaced(self):
    raise self.replace(pay.s())


@app.task(bind=True)
def pay_once(self, paid_at):
    current_visitor.track("Paid", time=paid_at, **{"$insert_id": self.request.id})


texts = []


# Now: tasks of other modules are shared with each application that is completed after them.
app.finalize()


@pytest.fixture(scope="module")
def worker():
    """A worker with two threads."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    with start_worker(
        app, pool="threads", concurrency=2, perform_ping_check=False, shutdown_timeout=PATIENCE_S
    ):
        # It has set the level of all loggers to ERROR.
        root.setLevel(level)
        yield
    root.handlers[:] = handlers


@pytest.fixture
def ended(worker):
    """The names of the tasks that have ended, each with whether a visitor was current in its thread then."""
    ended = []

    def note(task, **_signal):
        ended.append((task.name.rpartition(".")[2], context.get_current() is not None))

    signals.task_postrun.connect(note, weak=False)
    yield ended
    signals.task_postrun.disconnect(note)


@pytest.fixture(autouse=True)
def _installed(site):
    install(site.tracker)
    texts.clear()


def result(call):
    """Wait for what a task returns."""
    return call.get(timeout=PATIENCE_S, interval=0.005)


@pytest.mark.parametrize(
    "call",
    [
        pay.delay,
        lambda: pay.apply_async(countdown=0.01),
        lambda: pay.apply_async(headers={"trace": "1"}),
        lambda: app.send_task(pay.name),
        lambda: pay.s().apply_async(priority=1),
        replaced.delay,
    ],
    ids=["delay", "countdown", "other headers", "by name", "signature", "replace"],
)
def test_a_task_tracks_for_the_visitor_who_has_called_it(site, worker, call):
    """By whichever call."""
    with site.visitor():
        called = call()
    assert result(called)
    assert site.tracked == [PAID]


def test_the_first_protocol_of_messages_carries_it_as_well(site, worker, monkeypatch):
    """`task_protocol = 1` is for workers of Celery 3."""
    monkeypatch.setitem(vars(app.amqp), "create_task_message", app.amqp.as_task_v1)
    with site.visitor():
        called = pay.delay()
    assert result(called)
    assert site.tracked == [PAID]


@pytest.mark.parametrize(
    ("call", "payments"),
    [
        (chain(pay.s(), pay.s(), pay.s()), 3),
        (chord([pay.s(), pay.s()], pay.s()), 3),
        (group(pay.s(), pay.s()), 2),
        (chain(group(pay.s(), pay.s()), pay.s(), call_pay.si()), 4),
    ],
    ids=["chain", "chord", "group", "chain of a group"],
)
def test_a_workflow_is_its_callers(site, worker, call, payments):
    """Each of its tasks, whoever publishes it."""
    with site.visitor():
        called = call()
    result(called)
    _wait(lambda: len(site.tracked) >= payments)
    assert site.tracked == [PAID] * payments


def test_callbacks_are_the_visitors(site, worker):
    """`link` after what succeeded, `link_error` after what failed."""
    with site.visitor():
        pay.apply_async(link=pay.si())
        fail.apply_async(link_error=pay.si())
    _wait(lambda: len(site.tracked) >= 4)
    assert sorted(site.tracked) == [("Failing", "ann", "phone-1"), PAID, PAID, PAID]


def test_a_task_of_a_task_is_the_visitors(site, worker):
    """And their identity as the task has left it."""
    with site.visitor():
        result(log_in_and_pay.delay("bob"))
        result(call_pay.delay())
    _wait(lambda: len(site.tracked) >= 2)
    assert sorted(site.tracked) == [PAID, ("Paid", "bob", None)]


def test_a_retry_carries_the_text_of_the_first_try(site, worker):
    """So it grows old, and an opt-out is not forgotten."""
    with site.visitor():
        called = pay_at_the_third_try.delay()
    site.now_s += 60
    result(called)
    assert site.tracked == [PAID]
    assert len(texts) == 3
    assert len(set(texts)) == 1


def test_a_header_that_is_there_stays(site, worker):
    """Whoever gives one knows for whom the task is."""
    text = site.visitor("bob", "phone-2").export()
    with site.visitor():
        called = pay.apply_async(headers={"mixpanel_visitor": text})
    assert result(called)
    assert site.tracked == [("Paid", "bob", "phone-2")]


def test_where_nobody_is_current_the_task_has_no_visitor(site, worker):
    """Beat and scripts; in a thread that has just run tasks of a visitor."""
    with site.visitor():
        calls = [pay.delay() for _ in range(8)]
    calls += [pay.delay() for _ in range(8)]
    assert [result(call) for call in calls] == [True] * 8 + [False] * 8
    assert site.tracked == [PAID] * 8


@pytest.mark.parametrize("kind", ["ignore", "reject", "soft limit"])
def test_no_end_of_a_task_leaves_its_visitor_behind(site, ended, kind):
    """Whatever it raises."""
    with site.visitor():
        end_by.delay(kind).forget()
        fail.delay().forget()
        pay_at_the_third_try.delay().forget()
    _wait(lambda: len(ended) >= 5)
    assert sorted(ended) == [("end_by", False), ("fail", False)] + [("pay_at_the_third_try", False)] * 3


def test_who_may_not_be_tracked_is_the_current_visitor_who_tracks_nothing(site, worker):
    """Counted at both ends; no log line complains of a missing visitor."""
    with site.refusing():
        called = pay.delay()
    assert result(called)
    assert site.tracked == []
    assert site.refused == {"resume_empty": 1}
    assert site.tracker.stats()["notes"]["export_consent_denied"] == 1


def test_who_opts_out_while_the_task_waits_is_not_tracked(site, worker):
    """The broker's queue is not ours, but what the spool knows is asked."""
    text = site.visitor().export()
    site.now_s += 1
    site.refusing()
    result(pay.apply_async(headers={"mixpanel_visitor": text}))
    assert (site.tracked, site.refused) == ([], {"consent_denied": 1})


@pytest.mark.parametrize("text", ["1.e30.forged", 7, ["a", "list"]], ids=str)
def test_a_header_that_is_none_of_ours_is_refused_and_counted(site, worker, text):
    """The task runs all the same."""
    assert result(pay.apply_async(headers={"mixpanel_visitor": text}))
    assert site.tracked == []
    assert sum(site.refused.values()) == 1


def test_an_eager_task_has_its_callers_visitor(site):
    """In tests (`task_always_eager`), and where the application calls `apply`."""
    with site.visitor() as visitor:
        assert pay.apply().get()
        assert current_visitor == visitor
        site.tracker.flush(0)
    assert site.tracked == [PAID]
    assert pay.apply().get() is False


def test_an_eager_task_in_a_task_has_the_tasks_visitor(site, worker, ended):
    """And leaves it to what comes after it."""
    with site.visitor():
        result(pay_eagerly.delay())
    assert site.tracked == [PAID, PAID]
    assert ended == [("pay", True), ("pay_eagerly", False)]


def test_an_eager_task_that_is_given_a_header_is_still_its_callers(site):
    """What a retry of an eager task does."""
    text = site.visitor("bob", "phone-2").export()
    with site.visitor():
        pay.apply(headers={"mixpanel_visitor": text})
    assert site.tracked == [PAID]


def test_a_second_install_adds_nothing(site, worker):
    """Modules are imported under two names, applications are made twice."""
    install(site.tracker)
    with site.visitor():
        result(pay.delay())
    assert site.tracked == [PAID]


def test_the_last_tracker_counts(site, worker):
    """An application that is made anew for each test has a new one."""
    other = Site()
    install(other.tracker)
    with site.visitor():
        result(pay.delay())
    assert (site.tracked, other.tracked) == ([], [PAID])


def test_a_visitor_of_another_project_is_refused_and_counted(site, worker):
    """A process that serves two projects: the worker has the tracker of one."""
    other = Site(token="fedcba9876543210fedcba9876543210")
    with other.visitor():
        result(pay.delay())
    assert (site.tracked, other.tracked) == ([], [])
    assert site.refused == {"resume_bad_signature": 1}


def test_the_tracker_may_be_made_later(site, worker):
    """Django's is asked for when settings are there, and anew when they change."""
    asked = []
    install(lambda: asked.append(1) or site.tracker)
    assert not asked
    with site.visitor():
        result(pay.delay())
    assert site.tracked == [PAID]


def test_what_is_no_tracker_is_refused_at_once():
    """Where it is installed."""
    assert_takes_trackers_only(install)


@pytest.mark.parametrize("ending", [signals.worker_shutdown, signals.worker_process_shutdown])
def test_a_worker_delivers_from_its_start_to_its_end(delivery, ending):
    """Whether it has children or not; `test_workers.py` has real ones."""
    install(delivery.tracker)
    signals.worker_ready.send(sender=None)
    assert delivery.has_begun
    ending.send(sender=None)
    assert delivery.has_ended


def test_a_visitor_counts_for_as_long_as_was_said(site, worker):
    """A task that is to run in three days says so."""
    text = site.visitor().export()
    site.now_s += 2 * 86_400
    for max_age_s in (86_400, 3 * 86_400):
        install(site.tracker, max_age_s=max_age_s)
        result(pay.apply_async(headers={"mixpanel_visitor": text}))
    assert (site.tracked, site.refused) == ([PAID], {"resume_expired": 1})


def test_a_task_that_runs_again_can_track_the_same_event_again(site, worker):
    """By its own time and the task's ID, as the documentation has it: Mixpanel counts it once."""
    with site.visitor():
        for runs in (1, 2):
            pay_once.apply_async([NOW_S - 60], task_id=str(uuid.UUID(int=7)))
            _wait(lambda runs=runs: len(site.tracked) >= runs)
            site.now_s += 10
    first, second = site.spool.records
    assert first.body == second.body


def _wait(predicate):
    assert wait_until(predicate, PATIENCE_S)
