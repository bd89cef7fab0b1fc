"""Threads, tasks and pools that a handler starts: who has a visitor there, and what the helper is for."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import flask
import gevent
import orjson
import pytest
from asgiref.sync import sync_to_async
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.spools import RecordingSpool
from support.trackers import tracker_into

from mixpanel_visitor import current_visitor, keep_visitor
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.starlette import VisitorMiddleware


@pytest.fixture
def spool():
    return RecordingSpool()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def track(name="Resized"):
    current_visitor.track(name)
    return current_visitor.id if current_visitor else None


def names(spool):
    return [orjson.loads(record.body)["event"] for record in spool.records]


def ask_starlette(spool, handler):
    """Return the visitor's ID in the request, and what the handler made of it."""
    seen = []

    async def endpoint(request):
        seen.append(request.state.visitor_id)
        seen.append(await handler())
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(VisitorMiddleware, tracker=tracker_into(spool))
    with TestClient(app) as client:
        assert client.get("/").status_code == 200
    return seen


async def track_later():
    await asyncio.sleep(0)
    return track()


async def in_a_task():
    return await asyncio.create_task(track_later())


async def in_a_task_group():
    async with anyio.create_task_group() as group:
        group.start_soon(run_in_threadpool, track)
    return current_visitor.id


COPIED = {
    "asyncio.to_thread": lambda: asyncio.to_thread(track),
    "run_in_threadpool": lambda: run_in_threadpool(track),
    "sync_to_async": sync_to_async(track),
    "create_task": in_a_task,
    "task group": in_a_task_group,
}


@pytest.mark.parametrize("handler", COPIED.values(), ids=COPIED)
def test_what_copies_the_context_needs_no_help(spool, handler):
    """Whatever is written with contextvars in mind."""
    in_request, seen = ask_starlette(spool, handler)
    assert seen == in_request
    assert names(spool) == ["Resized"]


def test_an_executor_of_the_event_loop_needs_the_helper(spool, pool):
    """`run_in_executor` copies no context."""
    in_request, seen = ask_starlette(
        spool, lambda: asyncio.get_running_loop().run_in_executor(pool, keep_visitor(track))
    )
    assert seen == in_request
    assert names(spool) == ["Resized"]


def test_without_the_helper_the_log_names_it(spool, pool, caplog):
    """The event is refused and counted, and the line says what to write."""
    with caplog.at_level(logging.WARNING, logger="mixpanel_visitor"):
        _, seen = ask_starlette(spool, lambda: asyncio.get_running_loop().run_in_executor(pool, track))
    assert seen is None
    assert not spool.records
    assert "`pool.submit(keep_visitor(function), ...)`" in caplog.text
    assert "test_threads.py" in caplog.text


def flask_app(spool, handler):
    app = flask.Flask(__name__)
    MixpanelVisitor(app, tracker=tracker_into(spool))

    @app.get("/")
    def endpoint():
        flask.g.future = handler()
        return flask.g.visitor_id

    return app.test_client()


def test_a_pool_keeps_the_visitor_with_the_helper(spool, pool):
    """And the thread serves nobody's visitor afterwards."""
    futures = []
    client = flask_app(spool, lambda: futures.append(pool.submit(keep_visitor(track))))
    assert client.get("/").text == futures[0].result()
    assert pool.submit(bool, current_visitor).result() is False


def test_what_a_thread_tracks_after_the_response_is_stored_at_once(spool, pool):
    """The response has gone, and nothing comes that would take the event along."""
    go_on, futures = threading.Event(), []

    def later():
        assert go_on.wait(60)
        return track("After the response")

    client = flask_app(spool, lambda: futures.append(pool.submit(keep_visitor(later))))
    visitor_id = client.get("/").text
    assert not spool.records
    go_on.set()
    assert futures[0].result() == visitor_id
    assert names(spool) == ["After the response"]


def test_flasks_own_helper_keeps_the_visitor_as_well(spool, pool):
    """`copy_current_request_context` is what Flask's users write."""
    futures = []
    client = flask_app(spool, lambda: futures.append(pool.submit(flask.copy_current_request_context(track))))
    assert client.get("/").text == futures[0].result()


def test_a_greenlet_keeps_the_visitor_with_the_helper(spool):
    """Each greenlet has a context of its own."""
    greenlets = []
    client = flask_app(spool, lambda: greenlets.append(gevent.spawn(keep_visitor(track))))
    visitor_id = client.get("/").text
    assert greenlets[0].get(timeout=60) == visitor_id


class Resizer:
    def __init__(self, name):
        self.name = name

    def resize(self):
        return track(self.name)


def test_methods_and_arguments_are_kept_as_they_are(spool, pool):
    """It wraps whatever can be called."""
    futures = []

    def handler():
        futures.append(pool.submit(keep_visitor(Resizer("Method").resize)))
        futures.append(pool.submit(keep_visitor(track), "Argument"))

    visitor_id = flask_app(spool, handler).get("/").text
    assert [future.result() for future in futures] == [visitor_id, visitor_id]
    assert sorted(names(spool)) == ["Argument", "Method"]
