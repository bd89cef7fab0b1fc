"""The door for Dramatiq: in this process by its own broker for tests, and with Redis and a real worker."""

import contextlib
import threading

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import (
    AsyncIO,
    GroupCallbacks,
    Middleware,
    Pipelines,
    SkipMessage,
    TimeLimitExceeded,
    raise_thread_exception,
)
from dramatiq.rate_limits.backends import StubBackend
from support import redis_servers
from support.job_visitors import assert_as_ordered, imported_shop, order_all, request_of, tracked, worker
from support.trackers import NOW_S, recording_tracker

from mixpanel_visitor.dramatiq import OPTION, VisitorMiddleware, current_visitor

from .conftest import assert_takes_trackers_only

PATIENCE_MS = 60_000


class Shop:
    """A broker in memory with our middleware, and one thread that works, so that jobs come one by one."""

    def __init__(self, *, last=True, middleware=(), **settings):
        self.now_s = NOW_S
        self.tracker, self.spool = recording_tracker(clock=lambda: self.now_s, **settings)
        self.broker = StubBroker()
        for each in middleware:
            self.broker.add_middleware(each)
        place = {} if last else {"before": self.broker.middleware[0].__class__}
        self.broker.add_middleware(VisitorMiddleware(self.tracker), **place)
        self.users = []

    def actor(self, function=None, **options):
        """Declare an actor of this broker."""

        def declare(function):
            return dramatiq.actor(function, broker=self.broker, **options)

        return declare if function is None else declare(function)

    def noting(self, name, **options):
        """Declare an actor that does nothing else than to note who is current."""
        return self.actor(lambda: self.note(name), actor_name=name, **options)

    def note(self, label):
        """Note whose job this is."""
        self.users.append((label, current_visitor.user_id if current_visitor else "nobody"))

    @contextlib.contextmanager
    def working(self):
        """Work in this block, and until all is done."""
        running = dramatiq.Worker(self.broker, worker_timeout=10, worker_threads=1)
        running.start()
        try:
            yield
            for queue in self.broker.get_declared_queues() - self.broker.get_declared_delay_queues():
                self.broker.join(queue, timeout=PATIENCE_MS, fail_fast=False)
            running.join()
        finally:
            running.stop()

    def work(self):
        """Do all that was sent."""
        with self.working():
            pass


def test_an_actor_tracks_for_who_has_sent_its_message():
    """One message after the other, in the same thread; a message of nobody tracks for nobody."""
    shop = Shop()

    @shop.actor
    def pay():
        shop.note("pay")
        current_visitor.track("Paid")

    for user in ("ann", "bob"):
        with request_of(shop.tracker, user):
            pay.send()
    pay.send()
    shop.work()
    assert sorted(shop.users) == [("pay", "ann"), ("pay", "bob"), ("pay", "nobody")]
    assert sorted(tracked(shop.spool)) == [("Paid", "ann"), ("Paid", "bob")]


def test_who_may_not_be_tracked_is_current_and_tracks_nothing():
    """The option is empty, and what is refused is counted."""
    shop = Shop()

    @shop.actor
    def pay():
        shop.users.append(bool(current_visitor))
        current_visitor.track("Paid")

    with request_of(shop.tracker, "ann", dnt="1"):
        pay.send()
    shop.work()
    assert (shop.users, tracked(shop.spool)) == ([True], [])
    assert shop.tracker.stats()["refused"] == {"resume_empty": 1}


def test_who_opts_out_before_the_actor_runs_is_not_tracked():
    """The message waits in a queue that is not ours."""
    shop = Shop()

    @shop.actor
    def pay():
        current_visitor.track("Paid")

    with request_of(shop.tracker) as visitor:
        pay.send()
        visitor.opt_out()
    shop.work()
    assert tracked(shop.spool) == []
    assert shop.tracker.stats()["refused"] == {"consent_denied": 1}


def test_a_message_that_comes_too_late_tracks_nothing():
    """So long after the request nobody has agreed any more."""
    shop = Shop()

    @shop.actor
    def pay():
        current_visitor.track("Paid")

    with request_of(shop.tracker):
        pay.send()
    shop.now_s += 90_000
    shop.work()
    assert shop.tracker.stats()["refused"] == {"resume_expired": 1}


@pytest.mark.parametrize("sender", ["ann", None])
def test_a_retry_is_its_visitors_still(sender):
    """Also where it is sent again by a thread that delays it; and what nobody has sent stays nobody's."""
    shop = Shop()

    @shop.actor(max_retries=1, min_backoff=1)
    def pay():
        shop.note("pay")
        raise dramatiq.errors.Retry("later", delay=1)

    with request_of(shop.tracker, sender) if sender else contextlib.nullcontext():
        pay.send()
    shop.work()
    assert shop.users == [("pay", sender or "nobody")] * 2


@pytest.mark.parametrize("last", [True, False], ids=["added last", "added first"])
def test_what_follows_an_actor_is_its_visitors(last):
    """The next one of a pipeline, a callback, and that of a group; in whatever order middleware was added."""
    shop = Shop(last=last, middleware=[GroupCallbacks(StubBackend())])

    first, second, complete = map(shop.noting, ("first", "second", "complete"))

    @shop.actor
    def success(_message, _result):
        shop.note("success")

    with request_of(shop.tracker):
        messages = [first.message(), second.message_with_options(pipe_ignore=True)]
        dramatiq.pipeline(messages, broker=shop.broker).run()
    with request_of(shop.tracker, "bob"):
        first.send_with_options(on_success=success)
        group = dramatiq.group([second.message()], broker=shop.broker)
        group.add_completion_callback(complete.message())
        group.run()
    shop.work()
    assert sorted(shop.users) == [
        ("complete", "bob"), ("first", "ann"), ("first", "bob"), ("second", "ann"), ("second", "bob"),
        ("success", "bob"),
    ]  # fmt: skip


def test_an_actor_that_sends_sends_for_its_visitor():
    """Delayed, too."""
    shop = Shop()
    inner = shop.noting("inner")

    @shop.actor
    def outer():
        inner.send_with_options(delay=1)

    with request_of(shop.tracker):
        outer.send()
    shop.work()
    assert shop.users == [("inner", "ann")]


def test_an_option_that_an_application_gives_is_kept():
    """A job for somebody else than who is current."""
    shop = Shop()
    pay = shop.noting("pay")
    with request_of(shop.tracker):
        pay.send_with_options(**{OPTION: shop.tracker.visitor("bob").export()})
    shop.work()
    assert shop.users == [("pay", "bob")]


def test_a_message_that_is_sent_again_is_the_next_visitors():
    """An application may make a pipeline once, and run it in each request."""
    shop = Shop()
    message = shop.noting("pay").message()
    for user in ("ann", "bob"):
        with request_of(shop.tracker, user):
            shop.broker.enqueue(message)
    shop.broker.enqueue(message)
    shop.work()
    assert sorted(shop.users) == [("pay", "ann"), ("pay", "bob"), ("pay", "nobody")]


class Skip(Middleware):
    """Skips what says so, before or after our middleware has seen it."""

    def before_process_message(self, broker, message):
        if message.options.get("skipped"):
            raise SkipMessage


def end_by_error():
    raise RuntimeError("of the actor")


def end_by_abort():
    raise SystemExit


def end_by_time():
    """End as Dramatiq ends an actor whose time is over: in the middle of it, by another thread."""
    raise_thread_exception(threading.get_ident(), TimeLimitExceeded)
    while True:
        pass


@pytest.mark.parametrize(
    "end", [end_by_error, end_by_abort, end_by_time, "skipped"], ids=["error", "abort", "time", "skipped"]
)
@pytest.mark.parametrize("last", [True, False], ids=["added last", "added first"])
def test_a_message_leaves_however_it_ends(end, last):
    """The same thread has no visitor then, neither for the next actor nor for what a middleware does."""
    seen = []

    class Watch(Middleware):
        def after_ack(self, broker, message):
            seen.append(bool(current_visitor))

        after_nack = after_ack

    shop = Shop(last=last, middleware=[Skip(), Watch()])

    @shop.actor(max_retries=0)
    def pay():
        shop.note("pay")
        end()

    with request_of(shop.tracker):
        pay.send_with_options(skipped=end == "skipped")
    shop.work()
    assert shop.users == ([] if end == "skipped" else [("pay", "ann")])
    assert seen == [False]


def test_async_actors_have_their_visitor_each():
    """They run in one event loop."""
    shop = Shop(middleware=[AsyncIO()])

    @shop.actor
    async def pay():
        shop.note("pay")
        current_visitor.track("Paid")

    for user in ("ann", "bob"):
        with request_of(shop.tracker, user):
            pay.send()
    pay.send()
    shop.work()
    assert sorted(shop.users) == [("pay", "ann"), ("pay", "bob"), ("pay", "nobody")]


class EagerBroker(StubBroker):
    """Processes a message where it is sent, as some applications have it in their tests."""

    def enqueue(self, message, *, delay=None):
        self.emit_before("enqueue", message, delay)
        self.emit_before("process_message", message)
        try:
            result = self.get_actor(message.actor_name)(*message.args, **message.kwargs)
        except Exception as error:
            self.emit_after("process_message", message, exception=error)
        else:
            self.emit_after("process_message", message, result=result)
        self.emit_after("enqueue", message, delay)
        return message


def test_who_sends_keeps_their_visitor():
    """Where the actor runs within the request, too, and is one of somebody else."""
    shop = Shop()
    shop.broker = EagerBroker(middleware=[VisitorMiddleware(shop.tracker)])

    @shop.actor
    def inner():
        shop.note("inner")
        raise RuntimeError("of the actor")

    @shop.actor
    def outer():
        inner.send_with_options(**{OPTION: shop.tracker.visitor("ann").export()})
        shop.note("outer")

    with request_of(shop.tracker, "ann") as visitor:
        outer.send_with_options(**{OPTION: shop.tracker.visitor("bob").export()})
        assert current_visitor == visitor
    outer.send()
    assert not current_visitor
    assert shop.users == [("inner", "ann"), ("outer", "bob"), ("inner", "ann"), ("outer", "nobody")]


@pytest.mark.parametrize("begin", ["after_worker_thread_boot", "after_consumer_thread_boot"])
def test_a_thread_of_a_worker_begins_without_a_visitor(begin):
    """Free-threaded Python gives it that of the block in which the worker was started."""
    shop = Shop()
    with shop.tracker.visitor("ann"):
        getattr(VisitorMiddleware(shop.tracker), begin)(shop.broker, threading.current_thread())
        assert not current_visitor


def test_the_middleware_comes_first_in_a_worker():
    """And is there once."""
    shop = Shop()
    assert isinstance(shop.broker.middleware[-1], VisitorMiddleware)
    with shop.working():
        kinds = [type(each) for each in shop.broker.middleware]
    assert (kinds[0], kinds.count(VisitorMiddleware)) == (VisitorMiddleware, 1)
    assert Pipelines in kinds


def test_the_tracker_may_be_made_when_it_is_needed():
    """Django makes it when its settings are there."""
    shop = Shop()
    shop.broker.middleware.pop()
    shop.broker.add_middleware(VisitorMiddleware(lambda: shop.tracker))

    @shop.actor
    def pay():
        current_visitor.track("Paid")

    with request_of(shop.tracker):
        pay.send()
    shop.work()
    assert tracked(shop.spool) == [("Paid", "ann")]


def test_what_is_no_tracker_says_so():
    """Where the middleware is made."""
    assert_takes_trackers_only(VisitorMiddleware)


def test_a_worker_delivers_from_its_start_to_its_end(delivery):
    """What waits in the spool before the first message, too."""
    broker = StubBroker(middleware=[VisitorMiddleware(delivery.tracker)])
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    assert delivery.has_begun
    worker.stop()
    assert delivery.has_ended


@pytest.mark.servers
@pytest.mark.skipif(redis_servers.executable() is None, reason="there is no redis-server")
def test_a_site_and_its_workers(tmp_path, monkeypatch):
    """Redis, and two processes of Dramatiq's own command: events are as in the request, and a no is kept."""
    with imported_shop("support.dramatiq_shop", tmp_path, monkeypatch) as (shop, inbox, _):
        order_all(shop.app.test_client)
        assert shop.tracker.flush(timeout_s=60)
        with worker(
            tmp_path, "dramatiq", "support.dramatiq_shop:broker", "--processes", "2", "--threads", "2"
        ):
            shop.broker.join("default", interval=20, timeout=PATIENCE_MS)
        assert_as_ordered(inbox)
        shop.broker.close()
