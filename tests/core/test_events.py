"""Events and updates: what Mixpanel takes, and a clear word on what it does not."""

import dataclasses
import datetime as dt
import enum
import uuid
from decimal import Decimal
from types import MappingProxyType

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpanel_visitor.core.encoding import encode
from mixpanel_visitor.core.events import event_record, profile_record, time_ms
from mixpanel_visitor.errors import InvalidEventError


def event(name="Signed up", **properties):
    stamps = {"distinct_id": "$device:abc", "$insert_id": "a1-b2", "time": 1_763_900_000_000}
    return {"event": name, "properties": {**stamps, **properties}}


def reason(call, *args):
    with pytest.raises(InvalidEventError) as caught:
        call(*args)
    return caught.value.reason


def test_an_event_gets_its_final_bytes():
    """The record is the event's JSON, in one line, for the import endpoint."""
    record = event_record(event(plan="pro"))
    assert record.endpoint == "import"
    assert orjson.loads(record.body) == event(plan="pro")
    assert b"\n" not in record.body


@pytest.mark.parametrize("name", ["", "  ", "x" * 256, None, 7, b"x", ["x"]])
def test_bad_names(name):
    """An event needs a name of 1 to 255 characters."""
    assert reason(event_record, event(name)) == "bad_name"


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"distinct_id": "null"}, "banned_id"),
        ({"distinct_id": ""}, "banned_id"),
        ({"distinct_id": 7}, "banned_id"),
        ({"$insert_id": "x" * 37}, "bad_insert_id"),
        ({"$insert_id": "a_b"}, "bad_insert_id"),
        ({"$insert_id": None}, "bad_insert_id"),
        ({"$insert_id": "undefined"}, "bad_insert_id"),
        ({"x": object()}, "not_serialisable"),
        ({"x": "y" * 1_000_000}, "too_large"),
        ({"x": {"a": {"b": {"c": {"d": 1}}}}}, "too_deep"),
        ({"x": list(range(255))}, "too_large"),
        ({f"p{number}": 1 for number in range(255)}, "too_many_properties"),
        ({7: 1}, "bad_properties"),
    ],
)
def test_bad_properties(properties, expected):
    """Each limit of Mixpanel's has a reason of its own."""
    bad = event()
    bad["properties"].update(properties)
    assert reason(event_record, bad) == expected


def test_properties_must_be_a_dict():
    """`before_send` may have returned anything."""
    assert reason(event_record, {"event": "x", "properties": None}) == "bad_properties"


def test_identity_events_may_lack_a_distinct_id():
    """`$merge` names two IDs of its own."""
    merge = {"event": "$merge", "properties": {"$insert_id": "a", "$distinct_ids": ["a", "b"]}}
    assert event_record(merge)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1_763_900_000, 1_763_900_000_000),
        (1_763_900_000.123, 1_763_900_000_123),
        (1_763_900_000_123, 1_763_900_000_123),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 1_767_225_600_000),
        (dt.datetime(2026, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))), 1_767_225_600_000),
        (dt.datetime(2026, 1, 1), 1_767_225_600_000),  # noqa: DTZ001  # read as UTC, as Mixpanel does
    ],
)
def test_a_given_time_becomes_milliseconds(given, expected):
    """Seconds, milliseconds and datetimes are understood."""
    assert time_ms(given) == expected


@pytest.mark.parametrize("bad", ["now", None, True, float("nan"), float("inf"), 12, 2**60])
def test_a_bad_time_is_refused(bad):
    """So is everything before 1971."""
    assert reason(time_ms, bad) == "bad_time"


def test_a_profile_update():
    """One operation on one person, for the engage endpoint."""
    update = {"$token": "t", "$distinct_id": "u", "$set": {"a": 1}}
    record = profile_record("engage", update)
    assert (record.endpoint, orjson.loads(record.body)) == ("engage", update)


@pytest.mark.parametrize(
    ("endpoint", "update", "expected"),
    [
        ("engage", {"$distinct_id": "u"}, "bad_update"),
        ("engage", {"$distinct_id": "u", "$set": {}, "$add": {}}, "bad_update"),
        ("engage", {"$distinct_id": "u", "$set": "x"}, "bad_update"),
        ("engage", {"$distinct_id": "u", "$add": {"a": "1"}}, "bad_update"),
        ("engage", {"$distinct_id": "u", "$union": {"a": 1}}, "bad_update"),
        ("engage", {"$distinct_id": "u", "$unset": "a"}, "bad_update"),
        ("engage", {"$distinct_id": "null", "$set": {}}, "banned_id"),
        ("groups", {"$group_key": "", "$group_id": "x", "$set": {}}, "bad_update"),
    ],
)
def test_bad_updates(endpoint, update, expected):
    """What Mixpanel would answer with 0 is refused here, with a reason."""
    assert reason(profile_record, endpoint, update) == expected


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Size:
    width: int = 1


class Text(str):
    __slots__ = ()


class Scalar:
    """Like a numpy value."""

    def tolist(self):
        return 1.5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.50"), 1.5),
        (Decimal(7), 7),
        (Decimal("NaN"), None),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(1, 2), "01:02:00"),
        (dt.timedelta(seconds=90), 90.0),
        (
            dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=2))),
            "2026-01-02T01:04:05",
        ),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05"),  # noqa: DTZ001
        (Size(), {"width": 1}),
        ({3, 1}, [1, 3]),
        (b"ab\xff", "ab�"),
        (float("nan"), None),
        (float("inf"), None),
        (Text("x"), "x"),
        (Scalar(), 1.5),
        (2**70, str(2**70)),
        ("\ud800", "?"),
        ((1, 2), [1, 2]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({1: 2}, {"1": 2}),
    ],
)
def test_values_are_encoded_sensibly(value, expected):
    """What Python has and JSON lacks becomes its nearest."""
    assert orjson.loads(encode({"x": value})) == {"x": expected}


def test_a_value_that_holds_itself_is_refused():
    """No recursion without end."""
    knot: list = []
    knot.append(knot)
    assert reason(encode, {"x": knot}) == "not_serialisable"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.integers())
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON))
@settings(max_examples=200, deadline=None)
def test_any_properties_are_encoded_or_refused(properties):
    """There is no third outcome, and what is encoded is valid JSON without a newline."""
    try:
        record = event_record(event(**{f"p {key}": value for key, value in properties.items()}))
    except InvalidEventError:
        return
    assert b"\n" not in record.body
    assert orjson.loads(record.body)
