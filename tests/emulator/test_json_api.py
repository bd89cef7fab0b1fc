"""The JSON listing under /_local/, and who may read it."""

from __future__ import annotations

import json

import pytest

from mixpanel_visitor.emulator import LocalMixpanel

NOW_MS = 1_800_000_000_000
TOKEN = "0123456789abcdef0123456789abcdef"


def names(answer) -> list[str]:
    """Return the names of the listed events."""
    return [each["event"] for each in answer.json()["events"]]


def test_an_event_is_listed_with_what_became_of_it(client, event):
    """Everything a test wants to know of it."""
    item = event("Bought", price=5)
    client.import_([item])
    client.import_([item])
    answer = client.get("/_local/events")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["events"] == [
        {
            "number": 1,
            "endpoint": "import",
            "event": "Bought",
            "distinct_id": "u-1",
            "insert_id": item["properties"]["$insert_id"],
            "time_ms": NOW_MS - 1_000,
            "received_at_ms": NOW_MS,
            "deliveries": 2,
            "altered": False,
            "lane": "server",
            "own_id": "u-1",
            "person": "u-1",
            "token": TOKEN,
            "identity_failure": None,
            "properties": item["properties"],
        }
    ]


def test_events_are_listed_newest_last(client, event):
    """All of them unless a limit is given."""
    client.import_([event(name) for name in "abc"])
    assert names(client.get("/_local/events")) == ["a", "b", "c"]
    assert names(client.get("/_local/events?limit=2")) == ["b", "c"]
    assert names(client.get("/_local/events?limit=0")) == []


def test_events_are_found_by_name_visitor_and_arrival(connect, event):
    """The filters go together."""
    now = [NOW_MS]
    with LocalMixpanel(now_ms=lambda: now[0]) as local:
        client = connect(local)
        client.import_([event("a"), event("b", distinct_id="u-2")])
        now[0] += 10
        client.import_([event("a", distinct_id="u-2")])
        assert names(client.get("/_local/events?event=a")) == ["a", "a"]
        assert names(client.get("/_local/events?distinct_id=u-2")) == ["b", "a"]
        assert names(client.get("/_local/events?distinct_id=u-2&event=b")) == ["b"]
        assert names(client.get(f"/_local/events?since={NOW_MS + 1}")) == ["a"]
        assert names(client.get(f"/_local/events?since={NOW_MS}")) == ["a", "b", "a"]


def test_people_are_listed_with_their_ids_and_events(client, event):
    """The one seen last is last."""
    device = {"$device_id": "D", "distinct_id": "$device:D"}
    client.post("/track", [event(**device), event(distinct_id="u-2")])
    client.import_([event(**device, **{"$user_id": "u-1"}), event(distinct_id="")])
    answer = client.get("/_local/people").json()
    u_1 = {"person": "u-1", "token": TOKEN, "ids": ["$device:D", "u-1"], "events": 2}
    u_2 = {"person": "u-2", "token": TOKEN, "ids": ["u-2"], "events": 1}
    assert answer == {"id_merge": "simplified", "people": [u_2, u_1]}
    assert client.get("/_local/people?limit=1").json()["people"] == [u_1]
    persons = [each["person"] for each in client.get("/_local/events").json()["events"]]
    assert persons == ["u-1", "u-2", "u-1", None]


def test_the_id_merge_is_the_project_s(connect, event):
    """What was refused is listed with Mixpanel's reason."""
    with LocalMixpanel(now_ms=lambda: NOW_MS, id_merge="original") as local:
        client = connect(local)
        bad = event("$identify", distinct_id="u", **{"$identified_id": "u", "$anon_id": "$device:D"})
        client.post("/track", [bad, event(distinct_id="$device:D", **{"$device_id": "D", "$user_id": "u"})])
        listed = client.get("/_local/events").json()["events"]
        assert [(each["person"], each["identity_failure"]) for each in listed] == [
            ("u", "errAnonDistinctIdNonGUIDForm"),
            ("$device:D", None),
        ]
        assert client.get("/_local/people").json()["id_merge"] == "original"


def test_an_id_merge_that_does_not_exist_is_a_mistake():
    """It is not taken for the default."""
    with pytest.raises(ValueError, match="id_merge must be one of 'simplified', 'original', 'legacy'"):
        LocalMixpanel(id_merge="spid")


def test_a_refused_event_joins_nothing(client, event):
    """Only those beside it in the request do."""
    both = {"$device_id": "D", "$user_id": "u-1"}
    client.import_(
        [event(time=1, **both), event(**{"$device_id": "D"}), event(**{"$device_id": "E", "$user_id": "v"})]
    )
    listed = client.get("/_local/events").json()["events"]
    assert [each["person"] for each in listed] == ["$device:D", "v"]


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "since=1.5", "limit=%C2%B2", "limit=" + "9" * 400])
def test_a_number_that_is_none_is_refused(client, query):
    """400, not a guess."""
    answer = client.get("/_local/events?" + query)
    assert answer.status == 400
    assert "whole number" in answer.json()["error"]


def test_stats_count_everything(client, event):
    """Including the requests by path and status, without our own looking."""
    client.import_([event(), event(time=1)])
    client.import_([event()])
    client.get("/nothing")
    client.get("/_local/events")
    assert client.get("/_local/stats").json() == {
        "received": 2,
        "unique": 2,
        "duplicates": 0,
        "altered": 0,
        "rejected": 1,
        "refusals": 1,
        "profile_updates": 0,
        "groups": 0,
        "retained": 2,
        "last_arrival_ms": NOW_MS,
        "requests": {"/import": {"400": 1, "200": 1}, "/nothing": {"404": 1}},
    }


def test_refused_records_are_listed_with_the_reason(client, event):
    """And with what was sent."""
    item = event(time=1)
    client.import_([event(), item])
    assert client.get("/_local/rejected").json()["rejected"] == [
        {
            "endpoint": "import",
            "status": 400,
            "index": 1,
            "field": "properties.time",
            "reason": "'properties.time' is invalid: must not be before 1971-01-01",
            "fix": "Send the time as seconds or milliseconds since 1970, not as a counter or a date.",
            "insert_id": item["properties"]["$insert_id"],
            "record": item,
            "received_at_ms": NOW_MS,
        }
    ]


@pytest.mark.parametrize("value", ["x" * 20_000, json.loads("[" * 500 + "]" * 500)])
def test_a_refused_record_that_is_huge_is_listed_without_itself(client, event, value):
    """Large or nested beyond what can be written."""
    client.import_([event(time=1, value=value)])
    (found,) = client.get("/_local/rejected").json()["rejected"]
    assert found["record"] is None


def test_refused_requests_are_listed_without_an_index(client):
    """They are no records, and not counted as such."""
    client.request("POST", "/import?strict=1", b"[]")
    (found,) = client.get("/_local/rejected").json()["rejected"]
    assert (found["index"], found["status"]) == (None, 401)
    assert "token" in found["reason"]
    assert client.get("/_local/stats").json()["rejected"] == 0


def test_reset_forgets_everything(client, event):
    """For the next test."""
    client.import_([event()])
    assert client.request("POST", "/_local/reset").status == 200
    assert client.get("/_local/events").json() == {"events": []}
    assert client.get("/_local/stats").json()["received"] == 0


def test_health_answers(client):
    """For whoever waits for the start."""
    assert client.get("/_local/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/_local/reset", "POST"), ("POST", "/_local/events", "GET, HEAD"), ("DELETE", "/", "GET, HEAD")],
)
def test_another_method_is_told_what_is_allowed(client, method, path, allow):
    """405 with Allow."""
    answer = client.request(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allow)


def test_an_unknown_path_is_404_in_json(client):
    """It says which one."""
    answer = client.get("/_local/nothing")
    assert answer.status == 404
    assert "/_local/nothing" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/_local/events", "/_local/people", "/_local/stats"])
def test_a_website_cannot_read_what_arrived(client, path):
    """No CORS header, and no name but localhost: that would be DNS rebinding."""
    answer = client.get(path, Origin="https://evil.example.com")
    assert "access-control-allow-origin" not in answer.headers
    assert client.get(path, Host="evil.example.com").status == 403


@pytest.mark.parametrize(
    "host", ["localhost:1", "shop.localhost", "127.0.0.1", "[::1]:8484", "192.168.1.5:80"]
)
def test_this_machine_has_many_names(client, host):
    """Addresses cannot be rebound."""
    assert client.get("/_local/stats", Host=host).status == 200


def test_a_website_cannot_reset(client):
    """Only the page of this server may."""
    assert (
        client.request("POST", "/_local/reset", headers={"Origin": "https://evil.example.com"}).status == 403
    )
    own = {"Origin": "http://localhost:9", "Host": "localhost:9"}
    assert client.request("POST", "/_local/reset", headers=own).status == 200
