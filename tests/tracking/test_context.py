"""current_visitor: falsy and harmless outside of a request, the visitor inside of one."""

import asyncio
import contextvars
import copy
import doctest
import inspect
import logging
import pickle
import threading
import types
import typing
import unittest.mock
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.spools import RecordingSpool
from support.trackers import tracker_into

from mixpanel_visitor import Tracker, keep_visitor
from mixpanel_visitor.errors import NoVisitorError
from mixpanel_visitor.tracking import context
from mixpanel_visitor.tracking.context import current_visitor, get_current, refused_outside


@pytest.fixture
def spool():
    """What the tracker has stored."""
    return RecordingSpool()


@pytest.fixture
def tracker(spool):
    """Store into `spool`, deliver nothing."""
    return tracker_into(spool)


def test_outside_of_a_request_it_is_falsy():
    """`if current_visitor:` tells whether there is a request."""
    assert not current_visitor
    assert get_current() is None
    assert repr(current_visitor) == "<no current visitor>"


@pytest.mark.parametrize("name", ["id", "user_id", "distinct_id", "source", "consent", "mixpanel"])
def test_outside_of_a_request_reading_says_what_to_do(name):
    """There is no ID to give, and the error names the fix."""
    with pytest.raises(NoVisitorError, match=rf"current_visitor\.{name}: .*tracker\.visitor\("):
        getattr(current_visitor, name)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("track", ("Paid",)),
        ("identify", ("user-42",)),
        ("reset", ()),
        ("register", ({"plan": "pro"},)),
        ("set_group", ("company", "acme")),
        ("people_set", ({"plan": "pro"},)),
        ("group_set", ("company", "acme", {"plan": "pro"})),
    ],
)
def test_outside_of_a_request_writing_is_refused_and_counted(name, arguments):
    """A helper that tracks may also run in a cron job: nothing is raised."""
    before = refused_outside()
    getattr(current_visitor, name)(*arguments)
    assert refused_outside() == before + 1


def test_outside_of_a_request_a_refusal_is_logged_with_its_place(caplog):
    """Whoever reads the log finds the line that tracked for nobody."""
    with caplog.at_level(logging.WARNING, logger="mixpanel_visitor"):
        for _ in range(3):
            current_visitor.track("Paid")
    (line,) = caplog.messages
    assert "current_visitor.track(...) at " in line
    assert "tracking/test_context.py" in line


def test_a_refusal_says_how_a_thread_takes_its_visitor_along(caplog):
    """`ThreadPoolExecutor.submit` loses the visitor; that is no job, and the fix is another."""
    with caplog.at_level(logging.WARNING, logger="mixpanel_visitor"):
        thread = threading.Thread(target=lambda: current_visitor.track("Resized"))
        thread.start()
        thread.join()
    (line,) = caplog.messages
    assert "`pool.submit(keep_visitor(function), ...)`" in line


def test_a_kept_visitor_is_current_in_the_thread_and_only_during_the_call():
    """The thread of a pool serves others afterwards."""
    with ThreadPoolExecutor(1) as pool:
        with Tracker(enabled=False).visitor("user-42"):
            kept = pool.submit(keep_visitor(lambda: current_visitor.user_id))
        assert kept.result() == "user-42"
        assert pool.submit(bool, current_visitor).result() is False


def test_where_no_visitor_was_none_is_kept():
    """Whoever is current where the function runs is somebody else."""
    kept = keep_visitor(lambda: bool(current_visitor))
    with Tracker(enabled=False).visitor("user-42"):
        assert kept() is False


def test_a_coroutine_function_keeps_its_visitor_while_it_runs():
    """It runs later than it is called."""

    async def user():
        await asyncio.sleep(0)
        return current_visitor.user_id

    with Tracker(enabled=False).visitor("user-42"):
        kept = keep_visitor(user)
    assert asyncio.run(kept()) == "user-42"


def test_probes_of_the_language_find_nothing():
    """Doctest, copy and their like ask objects for dunder names; they get an AttributeError."""
    assert not hasattr(current_visitor, "__wrapped__")


@pytest.mark.parametrize("name", ["id", "extensions", "_pytestfixturefunction", "user_middleware"])
def test_whoever_only_asks_finds_nothing(name):
    """A default is taken, as from any object that lacks the attribute."""
    assert getattr(current_visitor, name, "nothing") == "nothing"
    assert not hasattr(current_visitor, name)


def test_inspection_finds_nothing():
    """Tools look at every name of a module that imports it."""
    module = types.ModuleType("shop")
    module.current_visitor = current_visitor
    assert doctest.DocTestFinder().find(module) == []
    assert inspect.unwrap(current_visitor) is current_visitor
    assert dict(inspect.getmembers(module))["current_visitor"] is current_visitor
    assert inspect.getmembers(current_visitor)
    assert not isinstance(current_visitor, HasExtensions)
    assert unittest.mock.create_autospec(module).current_visitor is not None


@typing.runtime_checkable
class HasExtensions(typing.Protocol):
    """What Flask applications and others have."""

    extensions: dict


def test_copies_are_the_proxy_still():
    """Whatever way they are made."""
    for made in (
        copy.copy(current_visitor),
        copy.deepcopy(current_visitor),
        pickle.loads(pickle.dumps(current_visitor)),
    ):
        assert not made
        assert repr(made) == "<no current visitor>"


def test_a_job_has_a_current_visitor(tracker, spool):
    """Within `with tracker.visitor(...)` helpers find whom the job is about."""
    with tracker.visitor("user-42") as visitor:
        assert current_visitor == visitor
        assert current_visitor.user_id == "user-42"
        assert repr(current_visitor) == repr(visitor)
        assert hash(current_visitor) == hash(visitor)
        current_visitor.track("Paid")
    assert not current_visitor
    assert spool.names == ["Paid"]


def test_jobs_within_jobs_restore_the_outer_visitor(tracker):
    """Leaving the inner block brings the outer visitor back."""
    with tracker.visitor("anna") as anna:
        with tracker.visitor("bert") as bert:
            assert get_current() is bert
        assert get_current() is anna


def test_a_job_that_fails_leaves_no_visitor(tracker, spool):
    """The exception passes, what was tracked is stored, and nobody is the current visitor."""

    def job():
        with tracker.visitor("anna") as anna:
            anna.track("Begun")
            raise RuntimeError("of the job")

    with pytest.raises(RuntimeError):
        job()
    assert not current_visitor
    assert spool.names == ["Begun"]


def test_leaving_in_another_context_forgets_the_visitor(tracker):
    """A server may close a response in another context than it began in: there, nobody is restored."""
    token = contextvars.Context().run(context.enter, tracker.visitor("anna"))
    context.leave(token)
    assert not current_visitor


def test_a_plain_thread_has_no_visitor(tracker):
    """Contexts do not pass into threads by themselves; asyncio.to_thread and tasks take them along."""
    seen = []

    def look():
        seen.append(get_current())

    with tracker.visitor("anna") as anna:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

        async def main():
            await asyncio.to_thread(look)
            await asyncio.create_task(asyncio.to_thread(look))

        asyncio.run(main())
    assert seen == [None, anna, anna]
