"""Events are made in a short way where nothing speaks against it: they are those of the long way."""

import datetime as dt
import decimal
import enum
import functools
import operator
import os
import uuid
import warnings

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.facts import BROWSER_DOCUMENT, facts
from support.trackers import known, recording_tracker

from mixpanel_visitor.core.events.record_builder import MAX_PROPERTIES
from mixpanel_visitor.tracking.dependencies import Dependencies, InsertIds
from mixpanel_visitor.tracking.tracker import engine_of

HEADERS = {
    **known(),
    **BROWSER_DOCUMENT,
    "user-agent": "Mozilla/5.0 Firefox/140.0",
    "referer": "https://a.test/",
}
LONG_WAY = {"before_send": lambda event: event}


class Plan(enum.Enum):
    PRO = "pro"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([Plan.PRO, {1, 2}, dt.timedelta(1), "\ud800", 2**70]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text() | st.sampled_from(
    ["time", "$insert_id", "distinct_id", "$browser", "token", "password", "ip", "$os"]
)


def told(properties, *, name="Seen", registered=None, settings=None, user=None):
    """The event as it is stored, and what was refused."""
    tracker, spool = recording_tracker(**(settings or {}))
    exchange, visitor = engine_of(tracker).begin(facts(HEADERS, query="utm_source=x"), in_background=False)
    if registered:
        visitor.register(registered)
    visitor.track("First")
    if user:
        visitor.identify(user)
    visitor.track(name, properties)
    engine_of(tracker).on_response_end(exchange, in_background=False)
    events = spool.events
    for event in events:
        event["properties"].pop("$insert_id")
    return events, tracker.stats()["refused"]


@given(
    st.dictionaries(NAMES, VALUES, max_size=6),
    st.sampled_from(["Seen", "", " ", "x" * 256, "\ud800", 'é"\n']),
)
def test_the_short_way_says_what_the_long_way_says(properties, name):
    """For any properties and names: the same event, or refused for the same reason."""
    assert told(properties, name=name) == told(properties, name=name, settings=LONG_WAY)


@pytest.mark.parametrize(
    "more",
    [
        {"registered": {"plan": "pro", "$os": "Mine"}},
        {"settings": {"extra_properties": {"site": "no", "password": "x"}}},
        {"settings": {"extra_properties": lambda: {"site": "no"}}},
        {"settings": {"extra_properties": {"time": 1_700_000_000_000, "site": "no"}}},
        {"user": "user-42"},
    ],
)
def test_whatever_else_is_said_is_said_both_ways(more):
    """Registered properties, extra ones, and a log-in between two events."""
    long_way = {**more, "settings": {**more.get("settings", {}), **LONG_WAY}}
    assert told({"n": 1}, **more) == told({"n": 1}, **long_way)


@pytest.mark.parametrize("number", range(MAX_PROPERTIES - 25, MAX_PROPERTIES + 1))
def test_too_many_properties_are_as_many_both_ways(number):
    """To the last one."""
    properties = {f"p{n}": n for n in range(number)}
    assert told(properties)[1] == told(properties, settings=LONG_WAY)[1]


def test_a_fresh_id_is_a_random_uuid():
    """Of version 4, as the standard library writes it; all of its bits but six are left to chance."""
    texts = [Dependencies().fresh_id() for _ in range(2_000)]
    drawn = [uuid.UUID(text) for text in texts]
    assert [str(each) for each in drawn] == texts
    assert {(each.version, each.variant) for each in drawn} == {(4, uuid.RFC_4122)}
    ones, zeros = (
        functools.reduce(join, (each.int for each in drawn)) for join in (operator.and_, operator.or_)
    )
    assert f"{ones:032x}" == "00000000000040008000000000000000"
    assert f"{zeros:032x}" == "ffffffffffff4fffbfffffffffffffff"


def test_insert_ids_are_never_the_same():
    """32 hex digits, in this process and in a forked child."""
    make = InsertIds()
    ours = [make() for _ in range(1_000)]
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of whoever runs the tests
        child = os.fork()
    if not child:
        os.write(writable, orjson.dumps([make() for _ in range(100)]))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        theirs = orjson.loads(pipe.read())
    assert len({*ours, *theirs}) == 1_100
    assert ours[0][:16] != theirs[0][:16]
    assert {len(each) for each in ours} == {32}
    assert all(each.isalnum() for each in ours)


def test_a_decimal_and_an_id_are_what_they_were():
    """Values that JSON does not know are encoded as ever."""
    (_, event), _ = told({"price": decimal.Decimal("9.50"), "id": uuid.UUID(int=7), "plan": Plan.PRO})
    assert (event["properties"]["price"], event["properties"]["plan"]) == (9.5, "pro")
