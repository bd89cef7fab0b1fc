"""Events and updates: what Mixpanel takes, and a clear word on what it does not."""

import enum
import uuid
from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpanel_visitor.core.events.record_builder import event_record, profile_record
from mixpanel_visitor.errors import InvalidEventError


class Level(enum.IntEnum):
    HIGH = 3


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
        ({"distinct_id": 0}, "banned_id"),
        ({"distinct_id": True}, "banned_id"),
        ({"distinct_id": None}, "banned_id"),
        ({"$insert_id": "x" * 37}, "bad_insert_id"),
        ({"$insert_id": "a_b"}, "bad_insert_id"),
        ({"$insert_id": None}, "bad_insert_id"),
        ({"$insert_id": "undefined"}, "bad_insert_id"),
        ({"x": "y" * 1_000_000}, "too_large"),
        ({"x": {"a": {"b": {"c": {"d": 1}}}}}, "too_deep"),
        ({"x": list(range(255))}, "too_large"),
        ({f"p{number}": 1 for number in range(255)}, "too_many_properties"),
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
    ("given", "text"), [(42, "42"), (uuid.UUID(int=7), str(uuid.UUID(int=7))), (Level.HIGH, "3"), ("u", "u")]
)
def test_ids_are_sent_as_text(given, text):
    """Mixpanel takes strings only."""
    properties = orjson.loads(event_record(event(distinct_id=given, **{"$user_id": given})).body)[
        "properties"
    ]
    assert (properties["distinct_id"], properties["$user_id"]) == (text, text)
    update = profile_record("engage", {"$distinct_id": given, "$set": {"a": 1}})
    assert orjson.loads(update.body)["$distinct_id"] == text


def test_both_ids_of_a_merge_are_sent_as_text():
    """`$merge` holds them in a list."""
    merge = {"event": "$merge", "properties": {"$insert_id": "a", "$distinct_ids": [1, uuid.UUID(int=2)]}}
    sent = orjson.loads(event_record(merge).body)["properties"]
    assert sent["$distinct_ids"] == ["1", str(uuid.UUID(int=2))]


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
        ("engage", {"$distinct_id": "u", "$add": {"a": True}}, "bad_update"),
        ("engage", {"$distinct_id": "u", "$add": {"a": Decimal("NaN")}}, "bad_update"),
        ("engage", {"$distinct_id": "u", "$union": {"a": 1}}, "bad_update"),
        ("engage", {"$distinct_id": "u", "$unset": "a"}, "bad_update"),
        ("engage", {"$distinct_id": "null", "$set": {}}, "banned_id"),
        ("groups", {"$group_key": "", "$group_id": "x", "$set": {}}, "bad_update"),
        ("groups", {"$group_key": "company", "$group_id": None, "$set": {}}, "bad_update"),
        ("groups", {"$group_key": "company", "$group_id": True, "$set": {}}, "bad_update"),
        ("groups", {"$group_key": "company", "$group_id": ["x"], "$set": {}}, "bad_update"),
    ],
)
def test_bad_updates(endpoint, update, expected):
    """What Mixpanel would answer with 0 is refused here, with a reason."""
    assert reason(profile_record, endpoint, update) == expected


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
