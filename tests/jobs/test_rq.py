"""RQ: the jobs of a worker in this process, over a real Redis."""

import signal

import pytest
import rq
from rq.timeouts import TimerDeathPenalty
from support.redis_servers import running
from support.trackers import NOW_S

from mixpanel_visitor import current_visitor
from mixpanel_visitor.rq import VisitorJob, VisitorWorkerMixin
from mixpanel_visitor.tracking import context

PAID = ("Paid", "ann", "phone-1")
PAYS = "jobs.test_rq.pay"


def pay():
    current_visitor.track("Paid")
    return bool(current_visitor)


def fail():
    current_visitor.track("Failing")
    raise ValueError("as the test wants it")


def pay_at_the_second_try():
    job = rq.get_current_job()
    texts.append(job.meta["mixpanel_visitor"])
    if len(texts) < 2:
        raise ValueError("as the test wants it")
    pay()


def call_pay():
    job = rq.get_current_job()
    rq.Queue("jobs", connection=job.connection, job_class=VisitorJob).enqueue(pay)


def say_succeeded(*_job):
    current_visitor.track("Succeeded")


def say_failed(*_job):
    current_visitor.track("Failed")


def pay_once(paid_at):
    current_visitor.track("Paid", time=paid_at, **{"$insert_id": rq.get_current_job().id})


def note_delivery():
    seen.append(deliveries[0].has_begun)


texts = []
deliveries, seen = [], []


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real Redis."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(server):
    """A client of an empty Redis."""
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def queue(redis):
    """The queue as a site has it."""
    return rq.Queue("jobs", connection=redis, job_class=VisitorJob)


@pytest.fixture
def work(site, redis):
    """Run all jobs of the queue in this process. Return the worker."""
    texts.clear()
    handlers = [(each, signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM)]

    class Worker(VisitorWorkerMixin, rq.SimpleWorker):
        tracker = site.tracker
        death_penalty_class = TimerDeathPenalty  # SIGALRM is pytest's here

    def work(**attributes):
        worker = type("Worker", (Worker,), attributes)(["jobs"], connection=redis)
        worker.work(burst=True, logging_level="WARNING")
        return worker

    yield work
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.enqueue(pay),
        lambda queue: queue.enqueue(PAYS),
        lambda queue: queue.enqueue(pay, meta={"other": 1}, retry=rq.Retry(max=1)),
        lambda queue: queue.enqueue_call(pay),
        lambda queue: queue.enqueue_many([queue.prepare_data(pay)]),
        lambda queue: queue.enqueue(call_pay),
    ],
    ids=["function", "name", "meta", "call", "many", "by another job"],
)
def test_a_job_tracks_for_the_visitor_who_has_enqueued_it(site, queue, work, call):
    """By whichever call."""
    with site.visitor():
        call(queue)
    work()
    assert site.tracked == [PAID]


def test_what_the_application_has_put_into_meta_stays(site, queue):
    """Its own dict is not changed, and a text that it gives itself counts."""
    meta = {"other": 1}
    with site.visitor():
        job = queue.enqueue(pay, meta=meta)
        given = queue.enqueue(pay, meta={"mixpanel_visitor": "the application's"})
    assert set(job.get_meta()) == {"other", "mixpanel_visitor"}
    assert meta == {"other": 1}
    assert given.meta["mixpanel_visitor"] == "the application's"


def test_a_job_that_waits_for_another_has_its_own_visitor(site, queue, work):
    """That of the request which has enqueued it."""
    with site.visitor():
        first = queue.enqueue(pay)
    with site.visitor("bob", "phone-2"):
        queue.enqueue(pay, depends_on=first)
    work()
    assert site.tracked == [PAID, ("Paid", "bob", "phone-2")]


def test_a_job_that_is_tried_again_has_the_text_of_the_first_try(site, queue, work):
    """So it grows old, and an opt-out is not forgotten."""
    with site.visitor():
        queue.enqueue(pay_at_the_second_try, retry=rq.Retry(max=1))
    work()
    assert site.tracked == [PAID]
    assert len(texts) == 2
    assert len(set(texts)) == 1


def test_callbacks_are_the_visitors(site, queue, work):
    """After what succeeded, and after what failed."""
    with site.visitor():
        queue.enqueue(pay, on_success=rq.Callback(say_succeeded))
        queue.enqueue(fail, on_failure=rq.Callback(say_failed))
    work()
    assert [name for name, *_ in site.tracked] == ["Paid", "Succeeded", "Failing", "Failed"]
    assert {user for _, user, _ in site.tracked} == {"ann"}


def test_where_nobody_is_current_the_job_has_no_visitor(site, queue, work):
    """Cron and scripts; after a job of a visitor, and when the worker was started in a visitor's block."""
    with site.visitor():
        queue.enqueue(pay)
    job = queue.enqueue(pay)
    with site.visitor("bob"):
        work()
    assert job.return_value() is False
    assert "mixpanel_visitor" not in job.get_meta()
    assert site.tracked == [PAID]


def test_no_end_of_a_job_leaves_its_visitor_behind(site, queue, work):
    """Whatever it raises."""
    with site.visitor():
        queue.enqueue(fail)
    work()
    assert context.get_current() is None


def test_who_may_not_be_tracked_is_the_current_visitor_who_tracks_nothing(site, queue, work):
    """Counted at both ends; no log line complains of a missing visitor."""
    with site.refusing():
        job = queue.enqueue(pay)
    work()
    assert job.return_value() is True
    assert site.tracked == []
    assert site.refused == {"resume_empty": 1}
    assert site.tracker.stats()["notes"]["export_consent_denied"] == 1


def test_who_opts_out_while_the_job_waits_is_not_tracked(site, queue, work):
    """RQ's queue is not ours, but what the spool knows is asked."""
    with site.visitor():
        queue.enqueue(pay)
    site.now_s += 1
    site.refusing()
    work()
    assert (site.tracked, site.refused) == ([], {"consent_denied": 1})


def test_a_job_that_runs_at_once_has_its_callers_visitor(site, redis):
    """As with `is_async=False`, in tests."""
    queue = rq.Queue("jobs", connection=redis, job_class=VisitorJob, is_async=False)
    queue.death_penalty_class = TimerDeathPenalty
    with site.visitor() as visitor:
        assert queue.enqueue(pay).return_value() is True
        assert current_visitor == visitor
    assert site.tracked == [PAID]


def test_a_visitor_counts_for_as_long_as_was_said(site, queue, work):
    """A job that is to run in three days says so."""
    with site.visitor():
        queue.enqueue(pay)
    site.now_s += 2 * 86_400
    work(max_age_s=3 * 86_400)
    assert site.tracked == [PAID]


def test_a_job_that_runs_again_can_track_the_same_event_again(site, queue, work):
    """By its own time and the job's ID, as the documentation has it: Mixpanel counts it once."""
    with site.visitor():
        job = queue.enqueue(pay_once, NOW_S - 60)
    work()
    site.now_s += 10
    queue.enqueue_job(job)
    work()
    first, second = site.spool.records
    assert first.body == second.body


def test_a_worker_delivers_from_its_start_to_its_end(delivery, queue, work):
    """Whatever its jobs do."""
    deliveries[:], seen[:] = [delivery], []
    queue.enqueue(note_delivery)
    work(tracker=delivery.tracker)
    assert seen == [True]
    assert delivery.has_ended


def test_without_a_tracker_the_worker_makes_one_from_the_environment(monkeypatch, queue, work, site):
    """As `rq worker --worker-class mixpanel_visitor.rq.VisitorWorker` does."""
    monkeypatch.setenv("MIXPANEL_TOKEN", site.tracker.settings.token)
    monkeypatch.setenv("MIXPANEL_VISITOR_SECRET_KEY", "a-key-of-some-length")
    monkeypatch.setenv("MIXPANEL_VISITOR_ENABLED", "no")
    with site.visitor():
        job = queue.enqueue(pay)
    work(tracker=None)
    assert job.return_value() is True
    assert site.tracked == []
