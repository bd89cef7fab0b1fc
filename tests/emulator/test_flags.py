"""The local Mixpanel's feature flags: for servers, for browsers, and for whoever sits before its page."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from support.flags import OfficialFlags, a_b_test, on_off
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.emulator.flags import FlagFileError

CONTEXT = {"distinct_id": "user-42", "device_id": "device-1"}


@pytest.fixture
def flags_file(tmp_path):
    """Return a file with two flags."""
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": [on_off("checkout"), a_b_test("layout")]}))
    return path


@pytest.fixture
def ask(flags_file):
    """Return a way to ask a local Mixpanel with these flags."""
    with LocalMixpanel(flags=flags_file) as local:
        yield asking(local)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


def asking(local):
    """Return a way to ask this one: method, path, body and headers."""

    def ask(method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", local.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())

    return ask


def variants(ask, **context):
    """Return what a browser is answered."""
    answer = ask("GET", f"/flags/?token=t&context={quote(json.dumps({**CONTEXT, **context}))}")
    return {key: each["variant_key"] for key, each in answer.json()["flags"].items()}


def test_servers_get_the_definitions_of_the_file(ask, flags_file):
    """As they stand there; and none if they have them."""
    answer = ask("GET", "/flags/definitions?token=t")
    assert answer.json()["flags"] == json.loads(flags_file.read_text())["flags"]
    etag = answer.headers["etag"]
    again = ask("GET", "/flags/definitions?token=t", headers={"If-None-Match": etag})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)


def test_browsers_get_the_variants(ask):
    """With all that the SDK reads."""
    answer = ask("GET", f"/flags/?context={quote(json.dumps(CONTEXT))}").json()
    assert answer["flags"]["checkout"] == {
        "variant_key": "on",
        "variant_value": True,
        "experiment_id": None,
        "is_experiment_active": None,
        "is_qa_tester": None,
    }
    assert answer["flags"]["layout"]["experiment_id"] == "experiment-of-layout"
    posted = ask("POST", "/flags", json.dumps({"context": CONTEXT}), {"Content-Type": "application/json"})
    assert posted.json() == answer
    form = ask("POST", "/flags", f"context={quote(json.dumps(CONTEXT))}&flag_key=layout").json()
    assert list(form["flags"]) == ["layout"]


def test_who_has_no_device_id_is_known_by_the_distinct_id(ask):
    """As at Mixpanel."""
    assert variants(ask, device_id=None) == variants(ask, device_id=CONTEXT["distinct_id"])


@pytest.mark.parametrize("context", ["", "[]", "{", "7"])
def test_a_context_that_is_none_is_refused(ask, context):
    """With the reason."""
    answer = ask("GET", f"/flags?context={quote(context)}&token=t")
    assert answer.status == 400
    assert answer.json()["error"]


def test_a_changed_file_is_read_again(ask, flags_file):
    """What cannot be read changes nothing, and is shown."""
    flags_file.write_text(json.dumps([on_off("new-one")]))
    assert list(variants(ask)) == ["new-one"]
    flags_file.write_text("{")
    assert list(variants(ask)) == ["new-one"]
    assert "is not JSON" in ask("GET", "/_local/flags").json()["problem"]


@pytest.mark.parametrize("content", ["", "7", '{"flags": {}}'])
def test_a_file_without_flags_is_refused(tmp_path, content):
    """At the start."""
    path = tmp_path / "flags.json"
    path.write_text(content)
    with pytest.raises(FlagFileError):
        LocalMixpanel(flags=path)


def test_a_switch_is_stronger_than_the_rules(ask):
    """For browsers and servers alike, until it says `rules` again."""
    before = variants(ask)
    for choice in ("a", "b"):
        ask("POST", "/_local/flags", json.dumps({"key": "layout", "switch": choice}))
        assert {variants(ask, device_id=str(number))["layout"] for number in range(20)} == {choice}
        served = ask("GET", "/flags/definitions").json()["flags"]
        assert OfficialFlags(served).variants(CONTEXT)["layout"][0] == choice
    ask("POST", "/_local/flags", json.dumps({"key": "layout", "switch": "off"}))
    assert "layout" not in variants(ask)
    ask("POST", "/_local/flags", json.dumps({"key": "layout", "switch": "rules"}))
    assert variants(ask) == before


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("{", 400),
        ("[]", 400),
        ('{"key": "layout"}', 400),
        ('{"key": "layout", "switch": "c"}', 404),
        ('{"key": "gone", "switch": "off"}', 404),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(ask, change, status):
    """And changes nothing."""
    before = variants(ask)
    assert ask("POST", "/_local/flags", change).status == status
    assert variants(ask) == before


def test_a_flag_can_be_added(ask):
    """As the page does it."""
    ask("POST", "/_local/flags", json.dumps({"definition": on_off("from-the-page")}))
    assert variants(ask)["from-the-page"] == "on"
    (*_, last) = ask("GET", "/_local/flags").json()["flags"]
    assert last == {
        "key": "from-the-page",
        "assigned_by": "device_id",
        "variants": [{"key": "on", "value": True}],
        "switch": "rules",
    }


def test_a_malformed_definition_is_served_and_named(ask):
    """So that an application can be tried with it."""
    ask("POST", "/_local/flags", json.dumps({"definition": {"key": "broken"}}))
    assert ask("GET", "/flags/definitions").json()["flags"][-1] == {"key": "broken"}
    assert ask("GET", "/_local/flags").json()["malformed"] == ["flag 'broken': ruleset is missing"]


def test_another_project_has_none(flags_file):
    """Where the local Mixpanel is of one project."""
    with LocalMixpanel(flags=flags_file, token="mine") as local:
        ask = asking(local)
        for path in ("/flags/definitions?token=", "/flags?context={}&token="):
            assert ask("GET", f"{path}mine").status == 200
            assert ask("GET", f"{path}another").status == 401
            assert ask("GET", path.partition("?")[0]).status == 401
