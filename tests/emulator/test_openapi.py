"""What is accepted, refused and answered agrees with Mixpanel's own OpenAPI files.

The files are in `tests/data`; without them these tests are skipped and the facts in the other ones remain.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mixpanel_visitor.emulator.profiles import Update, check_update
from mixpanel_visitor.emulator.rules import Event, check_event

DATA = Path(__file__).parent.parent / "data"
INGESTION, IDENTITY = (DATA / f"mixpanel-{name}.openapi.yaml" for name in ("ingestion", "identity"))

if not (INGESTION.exists() and IDENTITY.exists()):
    pytest.skip("Mixpanel's OpenAPI files are not in tests/data", allow_module_level=True)

NOW_MS = 1_800_000_000_000
INGESTION_API: Any = yaml.safe_load(INGESTION.read_text())
IDENTITY_API: Any = yaml.safe_load(IDENTITY.read_text())

# Slips in the file: copied from the operation above.
REQUIRED_INSTEAD = {"/groups#group-delete": ("$set", "$delete"), "/groups#group-union": ("$unset", "$union")}


def json_schema(node: Any) -> Any:
    """Turn a schema of OpenAPI 3.0 into JSON Schema: `nullable` is a type there."""
    if isinstance(node, list):
        return [json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: json_schema(value) for key, value in node.items() if key != "nullable"}
    if node.get("nullable"):
        found["type"] = [found["type"], "null"]
    return found


def record_schema(api: Any, path: str) -> Any:
    """Return the schema of one record of a request, or None where the file says only that it is text."""
    content = api["paths"][path]["post"]["requestBody"]["content"]
    schema = json_schema(copy.deepcopy(content.get("application/json", {}).get("schema", {})))
    items = schema.get("items")
    wrong, right = REQUIRED_INSTEAD.get(path, ("", ""))
    if items and wrong:
        items["required"] = [right if each == wrong else each for each in items["required"]]
    return items


UPDATES = {
    path: record_schema(INGESTION_API, path)
    for path in INGESTION_API["paths"]
    if path.startswith(("/engage#", "/groups#")) and record_schema(INGESTION_API, path)
}
EVENTS = {path: record_schema(INGESTION_API, path) for path in ("/import", "/track")}
MERGE = record_schema(IDENTITY_API, "/import")

integers = st.integers(-(2**63), 2**64 - 1)  # what the JSON reader gives; it makes others floats
texts = st.text(min_size=1, max_size=20).map(lambda text: f"x{text}")
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def from_schema(schema: Any) -> st.SearchStrategy[Any]:
    """Make values of a schema, as far as the files use JSON Schema."""
    if "oneOf" in schema:
        return st.one_of(*map(from_schema, schema["oneOf"]))
    match schema.get("type"):
        case "object" if "properties" in schema:
            required = {key: from_schema(schema["properties"].get(key, {})) for key in schema["required"]}
            return st.fixed_dictionaries(required)
        case "object":
            inner = schema.get("additionalProperties")
            least = schema.get("minProperties", 0)
            return st.dictionaries(
                texts, from_schema(inner) if inner else integers, min_size=least, max_size=4
            )
        case "array":
            return st.lists(
                from_schema(schema["items"]),
                min_size=schema.get("minItems", 0),
                max_size=schema.get("maxItems", 4),
            )
        case "integer":
            return st.integers(31_536_000, NOW_MS // 1000)
        case "number":
            return st.integers(-(2**50), 2**50) | st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case ["string", "null"]:
            return st.none() | texts
        case _:
            return texts


def is_valid(schema: Any, record: Any) -> bool:
    """Whether the file would take this record."""
    return Draft202012Validator(schema).is_valid(record)


def test_every_operation_is_in_the_file():
    """Eight for people, six for groups."""
    assert len([path for path in UPDATES if path.startswith("/engage#")]) == 8
    assert len([path for path in UPDATES if path.startswith("/groups#")]) == 6


@pytest.mark.parametrize("path", UPDATES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_updates_of_the_file_are_accepted(path, data):
    """What a schema makes passes the rules."""
    update = data.draw(from_schema(UPDATES[path]))
    assert is_valid(UPDATES[path], update)
    outcome = check_update(update, endpoint=path[1:].partition("#")[0])
    assert isinstance(outcome, Update), outcome


@pytest.mark.parametrize("path", UPDATES)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_updates_that_are_accepted_are_of_the_file(path, data):
    """A record with one field replaced or removed passes the rules only if it passes the schema."""
    update = data.draw(from_schema(UPDATES[path]))
    key = data.draw(st.sampled_from(sorted(update)))
    # Known departures: $delete's value "is ignored", and a number is a $group_id.
    assume(key != "$delete")
    update[key] = data.draw(values)
    assume(key != "$group_id" or not isinstance(update[key], (int, float)))
    if update[key] is None:
        del update[key]
    outcome = check_update(update, endpoint=path[1:].partition("#")[0])
    assert not isinstance(outcome, Update) or is_valid(UPDATES[path], update)


def insert_ids() -> st.SearchStrategy[str]:
    """Make insert IDs as the reference's prose wants them."""
    return st.from_regex(r"[A-Za-z0-9-]{2,36}", fullmatch=True).map(lambda text: f"x{text}"[:36])


@pytest.mark.parametrize("path", EVENTS)
@given(data=st.data())
@settings(deadline=None)
def test_events_of_the_file_are_accepted(path, data):
    """With a token for /track, and an insert ID as the prose wants it."""
    event = data.draw(
        st.fixed_dictionaries(
            {
                "event": texts,
                "properties": st.fixed_dictionaries(
                    {
                        "time": st.integers(NOW_MS // 1000 - 400_000, NOW_MS // 1000),
                        "distinct_id": texts,
                        "$insert_id": insert_ids(),
                        "token": texts,
                    },
                    optional={"extra": integers | texts},
                ),
            }
        )
    )
    assert is_valid(EVENTS[path], event)
    outcome = check_event(event, endpoint=path[1:], now_ms=NOW_MS)
    assert isinstance(outcome, Event), outcome


@pytest.mark.parametrize("path", EVENTS)
@given(
    data=st.data(), key=st.sampled_from(["event", "properties", "time", "distinct_id", "$insert_id", "token"])
)
@settings(max_examples=200, deadline=None)
def test_events_that_are_accepted_are_of_the_file(path, data, key):
    """An event with one field replaced or removed passes the rules only if it passes the schema."""
    properties = {"time": NOW_MS, "distinct_id": "u", "$insert_id": "i-1", "token": "t"}
    event: dict[str, Any] = {"event": "a", "properties": properties}
    holder = event if key in event else properties
    holder[key] = data.draw(values)
    # Known departure: the SDKs send fractions of a second to /track.
    assume(not (path == "/track" and key == "time" and isinstance(holder[key], float)))
    if holder[key] is None:
        del holder[key]
    outcome = check_event(event, endpoint=path[1:], now_ms=NOW_MS)
    assert not isinstance(outcome, Event) or is_valid(EVENTS[path], event)


@given(event=from_schema(MERGE))
@settings(deadline=None)
def test_merges_of_the_file_are_accepted(event):
    """Two distinct IDs and a token."""
    event["event"] = "$merge"
    assert isinstance(check_event(event, endpoint="import", now_ms=NOW_MS), Event)


@pytest.mark.parametrize("key", ["$distinct_ids", "token"])
@given(value=values)
@settings(deadline=None)
def test_merges_that_are_accepted_are_of_the_file(key, value):
    """With one property replaced."""
    event = {"event": "$merge", "properties": {"$distinct_ids": ["a", "b"], "token": "t", key: value}}
    outcome = check_event(event, endpoint="import", now_ms=NOW_MS)
    assert not isinstance(outcome, Event) or is_valid(MERGE, event)


def examples() -> dict[int, dict[str, Any]]:
    """Return the schema of each answer of /import by status; the examples stand inside of the schemas."""
    found = {}
    for status, reference in INGESTION_API["paths"]["/import"]["post"]["responses"].items():
        name = reference["$ref"].rpartition("/")[2]
        found[int(status)] = INGESTION_API["components"]["responses"][name]["content"]["application/json"][
            "schema"
        ]
    return found


@pytest.mark.parametrize("status", [200, 400, 401, 413])
def test_the_answers_of_import_are_those_of_the_file(client, event, status):
    """The same keys and types, and the same words where the file has any."""
    answer = {
        200: lambda: client.import_([event()]),
        400: lambda: client.import_([event(time="yesterday")]),
        401: lambda: client.import_([event()], user=":"),
        413: lambda: client.import_(b"x" * 10_485_761),
    }[status]()
    assert answer.status == status
    found, schema = answer.json(), examples()[status]
    example = schema["example"]
    Draft202012Validator(json_schema(schema)).validate(found)
    assert set(example) <= set(found) <= set(schema["properties"])
    assert (found["code"], found["status"]) == (example["code"], example["status"])
    if status == 400:
        (failed,), (sample,) = found["failed_records"], example["failed_records"]
        assert failed == {**sample, "insert_id": failed["insert_id"]}
    elif status != 200:
        assert found["error"].replace("10485760", "2097152") == example["error"]


@pytest.mark.parametrize("path", ["/track", "/engage", "/groups"])
def test_the_other_endpoints_answer_1_or_0(client, path):
    """As text, which is the integer of the schema."""
    schema = INGESTION_API["components"]["responses"]["Received"]["content"]["text/plain"]["schema"]
    answer = client.post(path, {})
    assert answer.headers["content-type"].startswith("text/plain")
    Draft202012Validator(schema).validate(int(answer.body))
