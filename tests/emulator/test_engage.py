"""`/engage` and `/groups`: profile updates, their answers and what becomes of the profiles."""

from __future__ import annotations

import gzip
import json
import urllib.parse

import pytest

from mixpanel_visitor.emulator import LocalMixpanel


def person(**update):
    """Make an update of a person."""
    return {"$token": "t", "$distinct_id": "u-1", **update}


def group(**update):
    """Make an update of a group."""
    return {"$token": "t", "$group_key": "company", "$group_id": "Acme", **update}


def test_updates_are_applied_in_order(client):
    """The listing shows what the profile has become."""
    updates = [
        person(**{"$set": {"name": "Ada", "visits": 1}}),
        person(**{"$add": {"visits": 2}}),
        person(**{"$append": {"seen": "a"}}),
        person(**{"$union": {"seen": ["a", "b"]}}),
        person(**{"$set_once": {"name": "Eve"}}),
        person(**{"$unset": ["missing"]}),
    ]
    assert client.post("/engage", updates).body == b"1"
    (profile,) = client.get("/_local/profiles").json()["profiles"]
    assert profile["$distinct_id"] == "u-1"
    assert profile["properties"] == {"name": "Ada", "visits": 3, "seen": ["a", "b"]}
    assert profile["updates"] == 6


def test_groups_have_profiles_of_their_own(client):
    """Under key and ID, apart from people."""
    client.post("/groups", [group(**{"$set": {"size": 5}}), group(**{"$union": {"tags": ["x"]}})])
    (found,) = client.get("/_local/groups").json()["groups"]
    assert (found["$group_key"], found["$group_id"]) == ("company", "Acme")
    assert found["properties"] == {"size": 5, "tags": ["x"]}
    assert client.get("/_local/profiles").json() == {"profiles": []}


def test_a_deleted_profile_is_gone(client):
    """And begins anew with the next update."""
    client.post("/engage", [person(**{"$set": {"a": 1}}), person(**{"$delete": ""})])
    assert client.get("/_local/profiles").json() == {"profiles": []}
    client.post("/engage", person(**{"$set": {"b": 1}}))
    assert client.get("/_local/profiles").json()["profiles"][0]["properties"] == {"b": 1}


def test_each_project_has_its_own_profiles(client):
    """The token is part of who it is."""
    client.post("/engage", [person(**{"$set": {}}), {**person(**{"$set": {}}), "$token": "other"}])
    assert len(client.get("/_local/profiles").json()["profiles"]) == 2


@pytest.mark.parametrize("path", ["/engage", "/groups"])
def test_a_failure_answers_200_and_0(client, path):
    """The body has to be read."""
    answer = client.post(path, {"$token": "t"})
    assert (answer.status, answer.body) == (200, b"0")


def test_verbose_tells_what_is_wrong(client):
    """Status 0 and the reason."""
    answer = client.post("/engage?verbose=1", {"$token": "t", "$set": {}})
    assert answer.json() == {"error": "$distinct_id, missing or empty", "status": 0}


def test_one_good_update_is_enough_for_a_1(client, local):
    """As the OpenAPI file says: one or more objects are valid."""
    assert client.post("/engage", [person(**{"$set": {}}), person()]).body == b"1"
    assert local.store.stats()["profile_updates"] == 1
    assert local.store.stats()["rejected"] == 1


def test_strict_names_each_failed_record(client):
    """In JSON and with status 200; the good ones were applied."""
    answer = client.post(
        "/engage?strict=1&verbose=1", [person(**{"$set": {}}), person(**{"$add": {"a": "b"}})]
    )
    assert answer.status == 200
    found = answer.json()
    assert (found["code"], found["num_records_imported"]) == (400, 1)
    assert [(each["index"], each["field"]) for each in found["failed_records"]] == [(1, "$add.a")]


def test_strict_answers_like_import_when_all_is_good(client):
    """So that one reader understands both."""
    answer = client.post("/engage?strict=1", [person(**{"$set": {}})])
    assert answer.json() == {"code": 200, "num_records_imported": 1, "status": "OK"}


@pytest.mark.parametrize("path", ["/engage", "/groups"])
def test_malformed_json_keeps_to_the_form_that_was_asked_for(client, path):
    """0, verbose JSON or strict JSON, always with 200."""
    headers = {"Content-Type": "application/json"}
    assert client.request("POST", path, b"[{", headers).body == b"0"
    assert client.request("POST", f"{path}?verbose=1", b"[{", headers).json()["status"] == 0
    strict = client.request("POST", f"{path}?strict=1", b"[{", headers)
    assert strict.status == 200
    assert set(strict.json()) == {"code", "error", "status"}


def test_a_form_is_taken(client, local):
    """As the official library sends it."""
    body = urllib.parse.urlencode({"data": json.dumps(person(**{"$set": {"a": 1}})), "verbose": 1, "ip": 0})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.request("POST", "/engage", body.encode(), headers).json() == {"error": None, "status": 1}
    assert local.store.profiles()[0].properties == {"a": 1}


def test_a_gzip_body_is_taken(client):
    """As the mobile SDKs send it."""
    body = gzip.compress(json.dumps([person(**{"$set": {}})]).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert client.request("POST", "/engage?strict=1", body, headers).json()["code"] == 200


def test_gzip_can_be_refused_for_profiles(connect):
    """The reference says that /engage and /groups do not support it; then such bytes are no JSON."""
    body = gzip.compress(json.dumps([person(**{"$set": {}})]).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with LocalMixpanel(gzip_profiles=False) as local:
        assert connect(local).request("POST", "/engage", body, headers).body == b"0"
        assert local.store.profiles() == []


def test_2000_updates_are_the_most(client):
    """One more is too large as a whole."""
    update = person(**{"$set": {}})
    assert client.post("/engage", [update] * 2000).body == b"1"
    assert client.post("/engage", [update] * 2001).status == 413


def test_another_token_is_refused_if_one_was_given(connect):
    """As wrong credentials."""
    with LocalMixpanel(token="good") as local:
        answer = connect(local).post("/engage", [person(**{"$set": {}})])
        assert answer.status == 401
        assert local.store.profiles() == []


def test_applied_updates_are_counted(client, local):
    """People and groups apart."""
    client.post("/engage", [person(**{"$set": {}}), person(**{"$set": {}})])
    client.post("/groups", group(**{"$set": {}}))
    stats = local.store.stats()
    assert (stats["profile_updates"], stats["groups"]) == (2, 1)
