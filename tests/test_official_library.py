"""The official library as the yardstick: what it would send and what we send agree, field by field."""

import datetime as dt
import json
import uuid
from decimal import Decimal

import jsonschema
import mixpanel
import pytest
import yaml
from support.facts import DATA, facts
from support.trackers import NOW_S, TOKEN, known, recording_tracker

from mixpanel_visitor import sdk
from mixpanel_visitor.tracking.tracker import engine_of

USER = "user-42"
STAMPS = {"time", "$time", "$insert_id", "$lib_version", "mp_lib"}
OURS = {"$device_id", "$user_id", "ip"}
NO_GEOLOCATION = {"$ip": "0"}  # it leaves that out, and Mixpanel takes the place of our server

EVENTS = [
    ("track", ("Signed up",)),
    ("track", ("Signed up", {"plan": "pro", "seats": 3, "at": dt.datetime(2026, 1, 2, 3, 4, 5)})),  # noqa: DTZ001
]
PEOPLE = [
    ("people_set", ({"$email": "a@example.com", "age": 7},)),
    ("people_set", ({"age": 7}, {"$ignore_time": True, "$ip": 0})),
    ("people_set_once", ({"first": "x"},)),
    ("people_increment", ({"visits": 2, "credit": -1.5},)),
    ("people_append", ({"items": "arm"},)),
    ("people_union", ({"items": ["arm", "storm"]},)),
    ("people_unset", (["a", "b"],)),
    ("people_remove", ({"items": "arm"},)),
    ("people_delete", ()),
    ("people_delete", ({"$ignore_alias": True},)),
    ("people_track_charge", (9.5,)),
    ("people_track_charge", (9.5, {"order": "o1"})),
    ("people_clear_charges", ()),
]
GROUPS = [
    ("group_set", ("company", "Acme", {"seats": 5})),
    ("group_set_once", ("company", "Acme", {"seats": 5}, {"$ignore_time": True})),
    ("group_union", ("company", "Acme", {"items": ["a"]})),
    ("group_unset", ("company", "Acme", ["a"])),
    ("group_remove", ("company", "Acme", {"items": "a"})),
    ("group_delete", ("company", "Acme")),
]
UPDATES = [
    ("people_update", ({"$distinct_id": USER, "$set": {"a": 1}},)),
    ("group_update", ({"$group_key": "company", "$group_id": "Acme", "$set": {"a": 1}},)),
]
ENDPOINTS = {"events": "import", "imports": "import", "people": "engage", "groups": "groups"}


class Recorder:
    """What the official library hands to its consumer."""

    def __init__(self):
        self.sent = []

    def send(self, endpoint, message, api_key=None, api_secret=None):
        self.sent.append((ENDPOINTS[endpoint], json.loads(message)))


def official(method, *arguments):
    """What the official library would send."""
    recorder = Recorder()
    getattr(mixpanel.Mixpanel(TOKEN, consumer=recorder), method)(*arguments)
    (sent,) = recorder.sent
    return sent


def stored(spool):
    """What our spool got."""
    (record,) = spool.records
    return record.endpoint, json.loads(record.body)


def bare(message):
    """A message without stamps and without what we add."""
    endpoint, content = message
    content = {
        key: value
        for key, value in content.items()
        if key not in STAMPS and (key, value) not in NO_GEOLOCATION.items()
    }
    if "properties" in content:
        content["properties"] = {
            key: value for key, value in content["properties"].items() if key not in STAMPS | OURS
        }
    return endpoint, content


@pytest.mark.parametrize(("method", "arguments"), [*EVENTS, *PEOPLE])
def test_visitor_methods_about_a_person(method, arguments):
    """`visitor.x(...)` says what `Mixpanel.x(distinct_id, ...)` would say."""
    tracker, spool = recording_tracker()
    getattr(tracker.visitor(USER), method)(*arguments)
    assert bare(stored(spool)) == bare(official(method, USER, *arguments))


@pytest.mark.parametrize(("method", "arguments"), [*GROUPS, *UPDATES])
def test_visitor_methods_about_a_group(method, arguments):
    """Group methods have the very same arguments."""
    tracker, spool = recording_tracker()
    getattr(tracker.visitor(USER), method)(*arguments)
    assert bare(stored(spool)) == bare(official(method, *arguments))


EVERYTHING = [
    *((method, (USER, *arguments)) for method, arguments in [*EVENTS, *PEOPLE]),
    *GROUPS,
    *UPDATES,
    ("import_data", (None, USER, "Old", 1_500_000_000, {"a": 1})),
    ("merge", (None, "one", "two")),
]


@pytest.mark.parametrize(("method", "arguments"), EVERYTHING)
def test_the_official_library_over_our_consumer(method, arguments):
    """Existing code with `consumer=tracker.consumer()` says what it said before."""
    tracker, spool = recording_tracker()
    getattr(mixpanel.Mixpanel(TOKEN, consumer=tracker.consumer()), method)(*arguments)
    assert bare(stored(spool)) == bare(official(method, *arguments))


@pytest.mark.parametrize(("method", "arguments"), EVERYTHING)
def test_the_visitors_official_client(method, arguments):
    """`visitor.mixpanel` is the official class over our spool."""
    tracker, spool = recording_tracker()
    client = tracker.visitor(USER).mixpanel
    assert isinstance(client, mixpanel.Mixpanel)
    getattr(client, method)(*arguments)
    assert bare(stored(spool)) == bare(official(method, *arguments))


@pytest.mark.parametrize("client", ["visitor", "sdk"])
def test_alias_goes_through_the_spool(client):
    """The official `alias` would do its own blocking HTTP; ours is stored like everything else."""
    tracker, spool = recording_tracker()
    if client == "visitor":
        mp = tracker.visitor(USER).mixpanel
    else:
        mp = sdk.Mixpanel(TOKEN, consumer=tracker.consumer())
    mp.alias("user-42", "$device:abc")
    endpoint, event = stored(spool)
    assert endpoint == "import"
    assert event["event"] == "$create_alias"
    assert bare((endpoint, event))[1]["properties"] == {
        "distinct_id": "$device:abc",
        "alias": "user-42",
        "token": TOKEN,
    }


def test_the_time_is_integer_milliseconds():
    """The official library writes float seconds, which Mixpanel's import does not promise to take."""
    tracker, spool = recording_tracker()
    client = mixpanel.Mixpanel(TOKEN, consumer=tracker.consumer())
    client.import_data(None, USER, "Old", 1_500_000_000)
    client.track(USER, "New")
    old, new = (event["properties"]["time"] for event in spool.events)
    assert old == 1_500_000_000_000
    assert isinstance(new, int)
    assert new > 1_700_000_000_000


def test_the_visitors_official_client_carries_the_identity():
    """Its events are completed with the device, so that they merge; a bare device ID is mended."""
    tracker, spool = recording_tracker()
    device = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
    visitor = tracker.visitor(device_id=device, user_id=USER)
    visitor.mixpanel.track(visitor.distinct_id, "As the user")
    visitor.mixpanel.track(visitor.id, "As the bare device")
    visitor.mixpanel.track("somebody-else", "As another")
    ours, bare_device, other = (event["properties"] for event in spool.events)
    assert (ours["$device_id"], ours["$user_id"], ours["distinct_id"]) == (device, USER, USER)
    assert (bare_device["$device_id"], bare_device["distinct_id"]) == (device, USER)
    assert other["distinct_id"] == "somebody-else"
    assert "$device_id" not in other


def test_bad_messages_are_refused_and_counted():
    """A consumer that raised would break requests of existing code."""
    tracker, spool = recording_tracker()
    consumer = tracker.consumer()
    consumer.send("nowhere", "{}")
    consumer.send(["events"], "{}")
    consumer.send("events", None)
    consumer.send("events", "[" * 100_000)
    consumer.send("events", "not json")
    consumer.send("events", "[1]")
    consumer.send("events", '{"event": "x", "properties": {"distinct_id": "null"}}')
    consumer.send("people", '{"$distinct_id": "u"}')
    consumer.flush()
    assert spool.records == []
    assert tracker.stats()["refused"] == {
        "bad_endpoint": 2,
        "not_serialisable": 3,
        "bad_properties": 1,
        "banned_id": 1,
        "bad_update": 1,
    }


def test_nan_from_the_official_library_becomes_null():
    """It writes NaN, which is no JSON and would cost a whole batch."""
    tracker, spool = recording_tracker()
    mixpanel.Mixpanel(TOKEN, consumer=tracker.consumer()).track(USER, "x", {"n": float("nan")})
    assert spool.events[0]["properties"]["n"] is None


# --- Mixpanel's own description of its API --------------------------------------------------------

API = yaml.safe_load((DATA / "mixpanel-ingestion.openapi.yaml").read_text())


def schema(path):
    body = API["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return json.loads(json.dumps(body).replace('"nullable": true,', ""))


# Without group_union: the description's own schema asks for a `$unset` there, which is a slip.
OPERATIONS = {
    "people_set": "/engage#profile-set",
    "people_set_once": "/engage#profile-set-once",
    "people_increment": "/engage#profile-numerical-add",
    "people_append": "/engage#profile-list-append",
    "people_union": "/engage#profile-union",
    "people_remove": "/engage#profile-list-remove",
    "people_unset": "/engage#profile-unset",
    "group_set": "/groups#group-set",
    "group_set_once": "/groups#group-set-once",
    "group_unset": "/groups#group-unset",
    "group_remove": "/groups#group-remove-from-list",
}


def test_events_fit_the_openapi_description():
    """Each event, in an array, is a body that `/import` describes."""
    tracker, spool = recording_tracker()
    tracker.visitor(USER).track("Signed up", {"plan": "pro"})
    jsonschema.validate(spool.events, schema("/import"))


@pytest.mark.parametrize(
    ("method", "arguments"), [case for case in [*PEOPLE, *GROUPS] if case[0] in OPERATIONS]
)
def test_updates_fit_the_openapi_description(method, arguments):
    """Each update, in an array, is a body that its endpoint describes."""
    tracker, spool = recording_tracker()
    getattr(tracker.visitor(USER), method)(*arguments)
    path = OPERATIONS[method]
    endpoint, update = stored(spool)
    jsonschema.validate([update], schema(path))
    assert path.startswith(f"/{endpoint}")


def test_times_are_those_of_the_call():
    """`time` on events in ms, `$time` on updates in seconds: both of the moment of the call."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor(USER)
    visitor.track("x")
    visitor.people_set({"a": 1})
    assert spool.events[0]["properties"]["time"] == round(NOW_S * 1000)
    assert spool.messages("engage")[0]["$time"] == NOW_S


def test_an_event_without_properties_is_refused_by_name():
    """What an old producer sends wrongly is counted as what it is."""
    tracker, spool = recording_tracker()
    tracker.consumer().send("events", '{"event": "x", "properties": "none"}')
    assert spool.records == []
    assert tracker.stats()["refused"] == {"bad_properties": 1}


def test_its_token_is_no_secret(caplog):
    """It is the project's, which every browser knows: no warning, no count, and it stays."""
    tracker, spool = recording_tracker()
    mixpanel.Mixpanel(TOKEN, consumer=tracker.consumer()).track(USER, "Signed up", {"password": "hush"})
    (event,) = spool.events
    assert (event["properties"]["token"], event["properties"]["password"]) == (TOKEN, "REDACTED")
    assert tracker.stats()["notes"] == {"scrubbed": 1}
    assert "token" not in caplog.text


@pytest.mark.parametrize("client", ["visitor", "consumer"])
@pytest.mark.parametrize("before_send", [None, lambda event: event])
def test_extra_properties_are_added_to_every_event(client, before_send):
    """However the event was built; what the call says wins, and an identity event stays as it is."""
    tracker, spool = recording_tracker(
        extra_properties={"release": "r1", "plan": "none", "distinct_id": "x"}, before_send=before_send
    )
    mp = (
        tracker.visitor(USER).mixpanel
        if client == "visitor"
        else mixpanel.Mixpanel(TOKEN, consumer=tracker.consumer())
    )
    mp.track(USER, "Signed up", {"plan": "pro"})
    mp.import_data(None, USER, "Old", 1_500_000_000)
    mp.merge(None, "one", "two")
    new, old, merge = (event["properties"] for event in spool.events)
    assert (new["release"], new["plan"], new["distinct_id"]) == ("r1", "pro", USER)
    assert (old["release"], old["time"]) == ("r1", 1_500_000_000_000)
    assert "release" not in merge


def test_the_visitors_client_says_what_the_visitors_events_say():
    """Super properties and what the request says go with the visitor's events, and with nobody else's."""
    tracker, spool = recording_tracker(extra_properties={"release": "r1"})
    exchange, visitor = engine_of(tracker).begin(facts(known()), in_background=False)
    visitor.register(theme="dark")
    visitor.mixpanel.track(visitor.distinct_id, "Own")
    visitor.mixpanel.track("somebody-else", "Other")
    visitor.track("Ours")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    own, other, ours = (event["properties"] for event in spool.events)
    stamps = {"time", "$insert_id", "$lib_version", "mp_lib"}
    assert {key: own[key] for key in own.keys() - stamps} == {key: ours[key] for key in ours.keys() - stamps}
    assert (other["release"], other["ip"]) == ("r1", "0")
    assert "theme" not in other


@pytest.mark.parametrize("client", ["visitor", "consumer"])
def test_numbers_are_ids_here_as_well(client):
    """Existing code gives `user.id`."""
    tracker, spool = recording_tracker()
    mp = (
        tracker.visitor(USER).mixpanel
        if client == "visitor"
        else mixpanel.Mixpanel(TOKEN, consumer=tracker.consumer())
    )
    mp.track(42, "Signed up")
    mp.people_set(42, {"a": 1})
    mp.merge(None, 1, 2)
    assert spool.events[0]["properties"]["distinct_id"] == "42"
    assert spool.messages("engage")[0]["$distinct_id"] == "42"
    assert spool.events[1]["properties"]["$distinct_ids"] == ["1", "2"]
    for bad in (None, True, 1.5):
        mp.track(bad, "x")
    assert tracker.stats()["refused"] == {"banned_id": 3}


def test_the_visitors_client_knows_the_visitors_id_as_a_number():
    """Its event is completed with the device, as that of the text is."""
    tracker, spool = recording_tracker()
    tracker.visitor(device_id="d", user_id=42).mixpanel.track(42, "x")
    properties = spool.events[0]["properties"]
    assert (properties["distinct_id"], properties["$user_id"], properties["$device_id"]) == ("42", "42", "d")


@pytest.mark.parametrize("value", [uuid.UUID(int=7), Decimal("1.5"), {1, 2}, {(1, 2): 3}, b"x", range(3)])
def test_the_visitors_client_writes_what_track_writes(value):
    """The official library would raise TypeError into the handler."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor(USER)
    visitor.mixpanel.track(USER, "x", {"a": value})
    visitor.mixpanel.people_set(USER, {"a": value})
    visitor.track("x", {"a": value})
    there, here = (event["properties"]["a"] for event in spool.events)
    assert there == here == spool.messages("engage")[0]["$set"]["a"]


def test_what_is_too_large_for_the_visitors_client_is_refused_and_counted():
    """As by `track`; nothing raises."""
    tracker, spool = recording_tracker()
    tracker.visitor(USER).mixpanel.track(USER, "x", {"a": "y" * 2_000_000})
    tracker.visitor(USER).mixpanel.track(USER, "x", {"a": list(range(300))})
    assert spool.records == []
    assert tracker.stats()["refused"] == {"too_large": 2}


def test_microseconds_are_refused_at_the_call(caplog):
    """They would be the year 58,000, and a dead letter later; the log names the application's line."""
    tracker, spool = recording_tracker()
    client = mixpanel.Mixpanel(TOKEN, consumer=tracker.consumer())
    client.import_data(None, USER, "Old", 1_500_000_000_000_000)
    assert spool.records == []
    assert tracker.stats()["refused"] == {"bad_time": 1}
    assert __file__ in caplog.text
