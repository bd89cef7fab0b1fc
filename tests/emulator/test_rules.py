"""The documented rules about one event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpanel_visitor.emulator.rules import BANNED_IDS, Event, Problem, check_event

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
VECTORS = Path(__file__).parent.parent / "data" / "identity-vectors.json"


def check(endpoint: Any = "import", /, name: Any = "Page viewed", **properties: Any) -> Event | Problem:
    """Judge an event that is good but for these properties; one given as `...` is left out."""
    given = {"time": NOW_MS, "distinct_id": "u-1", "$insert_id": "i-1", "token": "t", **properties}
    item = {"event": name, "properties": {key: value for key, value in given.items() if value is not ...}}
    return check_event(item, endpoint=endpoint, now_ms=NOW_MS)


def field_of(outcome: Event | Problem) -> str:
    """Return the field at fault; fails if there is none."""
    assert isinstance(outcome, Problem), outcome
    return outcome.field


def nested(levels: int) -> Any:
    """Make objects in objects, so many of them."""
    return {"inner": nested(levels - 1)} if levels else 1


@pytest.mark.parametrize("item", [None, 1, "event", [], [{"event": "a"}], True])
def test_a_record_must_be_an_object(item):
    """Anything but a JSON object is refused as a whole."""
    assert field_of(check_event(item, endpoint="import", now_ms=NOW_MS)) == ""


@pytest.mark.parametrize("name", [None, "", "  ", 5, ["a"], "x" * 256])
def test_the_name_must_be_a_string_of_1_to_255_characters(name):
    """An event's name is neither missing nor blank nor too long."""
    assert field_of(check(name=name)) == "event"


def test_a_name_of_255_characters_is_accepted():
    """The limit itself is allowed."""
    assert isinstance(check(name="x" * 255), Event)


@pytest.mark.parametrize("properties", [None, [], "a", 1])
def test_properties_must_be_an_object(properties):
    """An event without an object of properties is refused."""
    outcome = check_event({"event": "a", "properties": properties}, endpoint="import", now_ms=NOW_MS)
    assert field_of(outcome) == "properties"


@pytest.mark.parametrize("missing", ["time", "distinct_id", "$insert_id"])
@pytest.mark.parametrize("value", [..., None])
def test_import_requires_what_it_deduplicates_by(missing, value):
    """/import refuses an event without time, distinct_id or $insert_id."""
    assert field_of(check(**{missing: value})) == f"properties.{missing}"


def test_track_requires_the_token_only():
    """/track takes an event with nothing but a token, and calls it now."""
    outcome = check_event({"event": "a", "properties": {"token": "t"}}, endpoint="track", now_ms=NOW_MS)
    assert isinstance(outcome, Event)
    assert (outcome.time_ms, outcome.distinct_id, outcome.insert_id) == (NOW_MS, "", None)


@pytest.mark.parametrize("token", [..., None, "", 5])
def test_track_refuses_an_event_without_a_token(token):
    """On /track the token is in the properties."""
    assert field_of(check("track", token=token)) == "properties.token"


def test_an_empty_distinct_id_is_accepted():
    """An event that belongs to nobody has an empty distinct_id."""
    assert isinstance(check(distinct_id=""), Event)


def test_the_banned_ids_are_those_of_the_reference():
    """The list is Mixpanel's, all 17 of it."""
    assert set(json.loads(VECTORS.read_text())["mixpanel_disallowed_ids"]) == BANNED_IDS


@pytest.mark.parametrize("banned", sorted(BANNED_IDS))
@pytest.mark.parametrize("key", ["distinct_id", "$insert_id"])
@pytest.mark.parametrize("endpoint", ["import", "track"])
def test_banned_ids_are_refused(endpoint, key, banned):
    """What bugs send for many people is no ID."""
    assert field_of(check(endpoint, **{key: banned})) == f"properties.{key}"


@pytest.mark.parametrize("spelling", ["None", "NULL", " undefined "])
def test_banned_ids_are_refused_however_they_are_written(spelling):
    """Python writes None where JavaScript writes null."""
    assert field_of(check(distinct_id=spelling)) == "properties.distinct_id"


@pytest.mark.parametrize("distinct_id", [5, 1.5, True, ["a"], {}])
def test_a_distinct_id_must_be_a_string(distinct_id):
    """A number is not an ID."""
    assert field_of(check(distinct_id=distinct_id)) == "properties.distinct_id"


@pytest.mark.parametrize("insert_id", ["", "x" * 37, "a b", "a_b", "é", 5])
def test_an_insert_id_is_36_bytes_of_letters_digits_and_hyphens(insert_id):
    """Anything else is refused."""
    assert field_of(check(**{"$insert_id": insert_id})) == "properties.$insert_id"


def test_a_uuid_is_an_insert_id():
    """The longest one that is allowed has 36 bytes."""
    assert isinstance(check(**{"$insert_id": "5d958f87-542d-4c10-9422-0ed75893dc81"}), Event)


@pytest.mark.parametrize("time", ["1800000000", True, [1], 1_800_000_000.5])
def test_time_must_be_a_whole_number_on_import(time):
    """/import takes integers only."""
    assert field_of(check(time=time)) == "properties.time"


def test_track_takes_fractions_of_a_second():
    """The official library and the browser SDK send such times."""
    outcome = check("track", time=NOW_MS / 1000 - 0.5)
    assert isinstance(outcome, Event)
    assert outcome.time_ms == NOW_MS - 500


@pytest.mark.parametrize("time", [NOW_MS - 5_000, (NOW_MS - 5_000) // 1000])
def test_seconds_and_milliseconds_mean_the_same_moment(time):
    """Both units are told apart by their size."""
    outcome = check(time=time)
    assert isinstance(outcome, Event)
    assert outcome.time_ms == NOW_MS - 5_000


@pytest.mark.parametrize("time", [31_536_000 - 1, 0, -5, -1e300, NOW_MS + HOUR_MS + 1, 1e300, 2**64 - 1])
def test_times_before_1971_or_more_than_an_hour_ahead_are_refused(time):
    """The server's clock decides."""
    assert field_of(check(time=time)) == "properties.time"


def test_the_message_for_a_future_time_says_future():
    """A sender may wait for its time to come, if it understands."""
    outcome = check(time=NOW_MS + 2 * HOUR_MS)
    assert isinstance(outcome, Problem)
    assert "future" in outcome.message


@pytest.mark.parametrize(
    ("time", "written"), [(NOW_MS + HOUR_MS, NOW_MS), (NOW_MS // 1000 + 60, NOW_MS // 1000)]
)
def test_a_time_in_the_next_hour_becomes_now(time, written):
    """Mixpanel overwrites it, in the unit it came in, and so changes what the event is deduplicated by."""
    outcome = check(time=time)
    assert isinstance(outcome, Event)
    assert outcome.time_ms == NOW_MS
    assert json.loads(outcome.properties)["time"] == written


def test_judging_an_event_leaves_it_as_it_is():
    """The rules are pure, even where a time is overwritten."""
    item = {
        "event": "a",
        "properties": {"time": NOW_MS + 5, "distinct_id": "u", "$insert_id": "i"},
    }
    check_event(item, endpoint="import", now_ms=NOW_MS)
    assert item["properties"]["time"] == NOW_MS + 5


def test_track_refuses_events_older_than_5_days():
    """That is what /import is for."""
    assert field_of(check("track", time=NOW_MS - 5 * DAY_MS - 1)) == "properties.time"
    assert isinstance(check("track", time=NOW_MS - 5 * DAY_MS), Event)


def test_import_takes_events_of_any_age_after_1971():
    """History may be imported."""
    assert isinstance(check(time=31_536_000), Event)


@pytest.mark.parametrize(
    "value",
    [nested(4), [[[[1]]]], list(range(255)), {str(n): n for n in range(255)}, {"a": [0] * 255}],
)
def test_values_that_are_too_deep_or_too_long_are_refused(value):
    """Three levels, fewer than 255 keys, fewer than 255 elements; the field is named."""
    assert field_of(check(thing=value)) == "properties.thing"


@pytest.mark.parametrize("value", [nested(3), list(range(254)), {str(n): n for n in range(254)}])
def test_values_at_the_limits_are_accepted(value):
    """One less is allowed."""
    assert isinstance(check(thing=value), Event)


def test_an_event_has_fewer_than_255_properties():
    """Those that Mixpanel needs count too."""
    base = 4
    assert isinstance(check(**{f"p{n}": n for n in range(254 - base)}), Event)
    assert field_of(check(**{f"p{n}": n for n in range(255 - base)})) == "properties"


def test_an_event_is_smaller_than_1_mb():
    """Measured in bytes of JSON."""
    assert field_of(check(text="x" * 1024 * 1024)) == ""
    assert isinstance(check(text="x" * 1_000_000), Event)


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        ("$identify", {"$identified_id": "u", "$anon_id": "d", "token": "t"}),
        ("$identify", {"distinct_id": "u", "$anon_distinct_id": "$device:d", "token": "t"}),
        ("$create_alias", {"distinct_id": "d", "alias": "u", "token": "t"}),
        ("$merge", {"$distinct_ids": ["a", "b"], "token": "t"}),
    ],
)
@pytest.mark.parametrize("endpoint", ["import", "track"])
def test_identity_events_have_their_own_required_properties(endpoint, name, properties):
    """They need neither time nor $insert_id."""
    outcome = check_event({"event": name, "properties": properties}, endpoint=endpoint, now_ms=NOW_MS)
    assert isinstance(outcome, Event)


@pytest.mark.parametrize(
    ("name", "properties", "field"),
    [
        ("$identify", {"token": "t"}, "properties.$identified_id"),
        ("$identify", {"$identified_id": "u", "token": "t"}, "properties.$anon_id"),
        ("$identify", {"$anon_distinct_id": "d", "token": "t"}, "properties.distinct_id"),
        (
            "$identify",
            {"$identified_id": "u", "$anon_id": "d", "distinct_id": "", "token": "t"},
            "properties.distinct_id",
        ),
        ("$create_alias", {"distinct_id": "d", "token": "t"}, "properties.alias"),
        ("$create_alias", {"alias": "u", "token": "t"}, "properties.distinct_id"),
        ("$merge", {"token": "t"}, "properties.$distinct_ids"),
        ("$merge", {"$distinct_ids": ["a"], "token": "t"}, "properties.$distinct_ids"),
        ("$merge", {"$distinct_ids": ["a", "b", "c"], "token": "t"}, "properties.$distinct_ids"),
        ("$merge", {"$distinct_ids": ["a", 5], "token": "t"}, "properties.$distinct_ids"),
        ("$merge", {"$distinct_ids": ["a", "b"]}, "properties.token"),
    ],
)
def test_identity_events_without_their_properties_are_refused(name, properties, field):
    """Each says which one is missing."""
    outcome = check_event({"event": name, "properties": properties}, endpoint="import", now_ms=NOW_MS)
    assert field_of(outcome) == field


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
interesting = st.sampled_from(
    ["event", "properties", "time", "distinct_id", "$insert_id", "token", "$distinct_ids", "alias"]
)


@given(
    item=json_values
    | st.fixed_dictionaries(
        {
            "event": st.sampled_from(["a", "$identify", "$merge", "$create_alias"]) | json_values,
            "properties": st.dictionaries(interesting | st.text(), json_values, max_size=6),
        }
    ),
    endpoint=st.sampled_from(["import", "track"]),
)
@settings(deadline=None)
def test_any_json_gets_a_verdict(item, endpoint):
    """No value that JSON can hold raises, and what is accepted has what deduplication needs."""
    outcome = check_event(item, endpoint=endpoint, now_ms=NOW_MS)
    assert isinstance(outcome, Problem) or outcome.time_ms <= NOW_MS
