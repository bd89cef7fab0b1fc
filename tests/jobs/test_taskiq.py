"""The door for taskiq: in this process by its own broker in memory, and with Redis and a real worker."""

import asyncio
import contextlib
import datetime as dt
from typing import Annotated

import pytest
from fastapi.testclient import TestClient
from support import redis_servers
from support.job_visitors import assert_as_ordered, imported_shop, order_all, request_of, tracked, worker
from support.trackers import NOW_S, recording_tracker
from support.waiting import PATIENCE_S, wait_until
from taskiq import (
    AsyncBroker,
    Context,
    InMemoryBroker,
    SimpleRetryMiddleware,
    TaskiqDepends,
    TaskiqMiddleware,
)
from taskiq.exceptions import SendTaskError
from taskiq.schedule_sources import LabelScheduleSource

from mixpanel_visitor.taskiq import LABEL, VisitorMiddleware, current_visitor

from .conftest import assert_takes_trackers_only


class Shop:
    """A broker in memory with our middleware."""

    def __init__(self, *, inside=False, middleware=(), **settings):
        self.now_s = NOW_S
        self.tracker, self.spool = recording_tracker(clock=lambda: self.now_s, **settings)
        self.broker = InMemoryBroker(await_inplace=inside)
        self.broker.add_middlewares(*middleware, VisitorMiddleware(self.tracker))
        self.users = []

    def task(self, function=None, **labels):
        """Declare a task of this broker."""

        def declare(function):
            return self.broker.register_task(function, function.__name__, **labels)

        return declare if function is None else declare(function)

    def note(self, label):
        """Note whose job this is; None: nobody's."""
        self.users.append((label, current_visitor.user_id if current_visitor else None))

    def run(self, send):
        """Run what sends tasks, and the tasks."""

        async def run():
            await AsyncBroker.startup(self.broker)  # its own starts no middleware before taskiq 0.13
            await send()
            while self.broker._running_tasks:  # those that tasks have sent, too
                await self.broker.wait_all()
                await asyncio.sleep(0)
            await self.broker.shutdown()

        asyncio.run(run())

    def send(self, task, *users, **headers):
        """Run a task for each of these users, one after the other; None: for nobody."""

        async def send():
            for user in users:
                with request_of(self.tracker, user, **headers) if user else contextlib.nullcontext():
                    await task.kiq()
                await self.broker.wait_all()

        self.run(send)


@pytest.fixture(params=[False, True], ids=["later", "inside"])
def shop(request):
    """Tasks run when the request goes on, or in the very call that sends them."""
    return Shop(inside=request.param)


def test_a_task_tracks_for_who_has_sent_it(shop):
    """A task of nobody tracks for nobody."""

    @shop.task
    async def pay():
        shop.note("pay")
        current_visitor.track("Paid")

    shop.send(pay, "ann", "bob", None)
    assert shop.users == [("pay", "ann"), ("pay", "bob"), ("pay", None)]
    assert tracked(shop.spool) == [("Paid", "ann"), ("Paid", "bob")]


def test_a_task_that_is_no_coroutine_has_its_visitor_in_its_thread(shop):
    """The threads of the pool are the same for all."""

    @shop.task
    def pay():
        shop.note("pay")

    shop.send(pay, *(["ann", None] * 5))
    assert shop.users == [("pay", "ann"), ("pay", None)] * 5


def test_who_may_not_be_tracked_is_current_and_tracks_nothing(shop):
    """The label is empty, and what is refused is counted."""

    @shop.task
    async def pay():
        shop.users.append(bool(current_visitor))
        current_visitor.track("Paid")

    shop.send(pay, "ann", **{"sec-gpc": "1"})
    assert (shop.users, tracked(shop.spool)) == ([True], [])
    assert shop.tracker.stats()["refused"] == {"resume_empty": 1}


def test_who_opts_out_before_the_task_runs_is_not_tracked():
    """The message waits in a queue that is not ours."""
    shop = Shop()

    @shop.task
    async def pay():
        current_visitor.track("Paid")

    async def send():
        with request_of(shop.tracker) as visitor:
            await pay.kiq()
            visitor.opt_out()

    shop.run(send)
    assert (tracked(shop.spool), shop.tracker.stats()["refused"]) == ([], {"consent_denied": 1})


def test_a_task_that_comes_too_late_tracks_nothing():
    """So long after the request nobody has agreed any more."""
    shop = Shop()

    @shop.task
    async def pay():
        current_visitor.track("Paid")

    async def send():
        with request_of(shop.tracker):
            await pay.kiq()
        shop.now_s += 90_000

    shop.run(send)
    assert shop.tracker.stats()["refused"] == {"resume_expired": 1}


@pytest.mark.parametrize("user", ["ann", None])
@pytest.mark.parametrize("inside", [False, True], ids=["later", "inside"])
def test_a_retry_is_its_visitors_still(user, inside):
    """And what nobody has sent stays nobody's."""
    shop = Shop(inside=inside, middleware=[SimpleRetryMiddleware(default_retry_count=3)])

    @shop.task(retry_on_error=True)
    async def pay():
        shop.note("pay")
        raise RuntimeError("of the task")

    shop.send(pay, user)
    assert shop.users == [("pay", user)] * 3


def test_a_task_that_puts_itself_back_is_its_visitors_still():
    """By taskiq's own context."""
    shop = Shop()

    @shop.task
    async def pay(context: Annotated[Context, TaskiqDepends()]):
        shop.note("pay")
        if len(shop.users) < 2:
            await context.requeue()

    shop.send(pay, "ann")
    assert shop.users == [("pay", "ann")] * 2


def test_what_a_task_sends_is_its_visitors(shop):
    """While it runs, and what a middleware sends after it, whatever order they were added in."""

    class Follow(TaskiqMiddleware):
        async def post_save(self, message, result):
            if message.task_name == "outer":
                await after.kiq()

    @shop.task
    async def after():
        shop.note("after")

    @shop.task
    async def inner():
        shop.note("inner")

    @shop.task
    async def outer():
        await inner.kiq()
        shop.note("outer")

    shop.broker.middlewares.insert(0, Follow())
    shop.send(outer, "ann", "bob")
    assert sorted(shop.users) == [
        (name, user) for name in ("after", "inner", "outer") for user in ("ann", "bob")
    ]


def test_who_sends_keeps_their_visitor():
    """Where a task runs in the call that sends it, for whomever, and fails."""
    shop = Shop(inside=True)

    @shop.task
    async def inner():
        shop.note("inner")
        raise RuntimeError("of the task")

    @shop.task
    async def outer():
        with shop.tracker.visitor("carl"):
            await inner.kiq()
            shop.note("in outer")
        shop.note("outer")

    async def send():
        with request_of(shop.tracker) as visitor:
            await outer.kicker().with_labels(**{LABEL: shop.tracker.visitor("bob").export()}).kiq()
            assert current_visitor == visitor
        await outer.kiq()
        assert not current_visitor

    shop.run(send)
    one = [("inner", "carl"), ("in outer", "carl")]
    assert shop.users == [*one, ("outer", "bob"), *one, ("outer", None)]


@pytest.mark.parametrize("sender", ["ann", None])
def test_a_middleware_that_fails_inside_costs_the_outer_task_nothing(sender):
    """Its task was entered for somebody else, and is never ended."""

    class Fail(TaskiqMiddleware):
        def pre_execute(self, message):
            if message.task_name == "inner":
                raise RuntimeError("of the middleware")
            return message

    shop = Shop(inside=True, middleware=[Fail()])

    @shop.task
    async def inner():
        raise AssertionError

    @shop.task
    async def outer():
        with contextlib.suppress(SendTaskError):
            await inner.kicker().with_labels(**{LABEL: shop.tracker.visitor("bob").export()}).kiq()

    async def send():
        with request_of(shop.tracker, sender) if sender else contextlib.nullcontext() as visitor:
            await outer.kiq()
            assert current_visitor == visitor

    shop.run(send)


def test_a_scheduled_task_is_whose_label_it_has():
    """A schedule passes through no middleware; when the time comes, its label is kept."""
    shop = Shop()
    kept = []

    class Source(LabelScheduleSource):
        async def add_schedule(self, schedule):
            kept.append(schedule)

    @shop.task
    async def pay():
        shop.note("pay")

    async def send():
        when = dt.datetime.now(dt.UTC)
        with request_of(shop.tracker):
            sender = pay.kicker().with_labels(**{LABEL: current_visitor.export()})
            await sender.schedule_by_time(Source(shop.broker), when)
        (schedule,) = kept
        await pay.kicker().with_labels(**schedule.labels).kiq()

    shop.run(send)
    assert shop.users == [("pay", "ann")]


def test_the_middleware_comes_first():
    """Once, from the broker's start on."""
    shop = Shop(middleware=[SimpleRetryMiddleware()])
    shop.run(lambda: asyncio.sleep(0))
    assert [type(each) for each in shop.broker.middlewares] == [VisitorMiddleware, SimpleRetryMiddleware]


def test_a_worker_delivers_from_its_start_to_its_end(delivery):
    """What waits in the spool before the first task, too; the tracker may be made when it is needed."""
    broker = InMemoryBroker()
    broker.add_middlewares(VisitorMiddleware(lambda: delivery.tracker))
    broker.is_worker_process = True

    async def run():
        await AsyncBroker.startup(broker)
        assert delivery.has_begun
        await AsyncBroker.shutdown(broker)

    asyncio.run(run())
    assert delivery.has_ended


def test_an_application_delivers_on_when_its_broker_ends(delivery):
    """It begins and ends by itself, and its requests may go on."""
    broker = InMemoryBroker()
    broker.add_middlewares(VisitorMiddleware(delivery.tracker))
    delivery.tracker.start()
    assert delivery.has_begun
    asyncio.run(AsyncBroker.shutdown(broker))
    assert delivery.goes_on


def test_what_is_no_tracker_says_so():
    """Where the middleware is made."""
    assert_takes_trackers_only(VisitorMiddleware)


@pytest.mark.servers
@pytest.mark.skipif(redis_servers.executable() is None, reason="there is no redis-server")
def test_a_site_and_its_workers(tmp_path, monkeypatch):
    """Redis, and two processes of taskiq's own command: events are as in the request, and a no is kept."""
    with imported_shop("support.taskiq_shop", tmp_path, monkeypatch) as (shop, inbox, redis):
        with TestClient(shop.app) as site:
            order_all(lambda: with_no_cookies(site))
            assert shop.tracker.flush(timeout_s=60)
            command = ("taskiq", "worker", "support.taskiq_shop:broker", "--workers", "2")
            with redis.client() as client, worker(tmp_path, *command):
                assert wait_until(lambda: client.llen("taskiq") == 0, PATIENCE_S)
                # The last one may still run: the worker ends it before it ends.
        assert_as_ordered(inbox)


def with_no_cookies(client):
    """Return the client as the next person has it."""
    client.cookies.clear()
    return client
