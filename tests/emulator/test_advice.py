"""Each refusal comes with what to do about it."""

from __future__ import annotations

import pytest

from mixpanel_visitor.emulator.advice import fix_of
from mixpanel_visitor.emulator.model import Rejection

CASES = {
    "str(None)": {"distinct_id": "None"},
    "new UUID": {"$insert_id": "undefined"},
    "a UUID": {"$insert_id": "with spaces"},
    "fewer than 255 properties": {f"p{number}": number for number in range(300)},
    "255 keys": {"value": {f"p{number}": number for number in range(300)}},
    "255 elements": {"value": list(range(300))},
    "three levels": {"value": [[[[1]]]]},
    "str(user.id)": {"distinct_id": 5},
    "any age": {"time": 1_700_000_000},
    "clock": {"time": 1_900_000_000},
    "not as a counter": {"time": 1},
    "as a number": {"time": "today"},
    "MIXPANEL_TOKEN": {"token": ""},
    "less than 1 MB": {"value": "x" * 1_100_000},
}


@pytest.mark.parametrize("fix", CASES)
def test_a_refused_event_says_how_to_send_it(client, event, fix):
    """In words that name what to change."""
    client.post("/track", event(**CASES[fix]))
    (found,) = client.get("/_local/rejected").json()["rejected"]
    assert fix in found["fix"]


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        (b'[{"event": "a", "properties": {"amount": NaN}}]', "allow_nan=False"),
        (b'{"event": "a", "properties": {"amount": -Infinity}}', "allow_nan=False"),
    ],
)
def test_nan_is_found_in_what_is_no_json(client, body, fix):
    """Python writes it, and nobody else reads it."""
    client.request("POST", "/track", body, {"Content-Type": "application/json"})
    (found,) = client.get("/_local/rejected").json()["rejected"]
    assert fix in found["fix"]


def test_missing_fields_are_named(client, event):
    """As Mixpanel does."""
    client.import_([event(time=None)])
    (found,) = client.get("/_local/rejected").json()["rejected"]
    assert found["fix"].startswith("Add the field `time` to each such record")


def test_credentials_are_explained(client):
    """They go into the header."""
    client.request("POST", "/import", b"[]")
    (found,) = client.get("/_local/rejected").json()["rejected"]
    assert "HTTP Basic" in found["fix"]


def test_what_says_all_itself_has_no_fix():
    """Better none than a guess."""
    assert fix_of(Rejection(endpoint="track", status=400, message="refused on purpose (chaos)")) == ""
