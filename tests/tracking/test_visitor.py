"""Visitor: what a handler can say."""

import uuid

import pytest
from support.facts import facts
from support.trackers import DEVICE, NOW_S, TOKEN, begin, recording_tracker

from mixpanel_visitor.tracking.context import current_visitor
from mixpanel_visitor.tracking.tracker import engine_of


def test_an_event_is_frozen_at_the_call():
    """Time, insert id and identity are those of the moment of `track`; later changes do not reach it."""
    tracker, spool = recording_tracker()
    exchange, visitor = begin(tracker)
    properties = {"plan": "pro"}
    visitor.track("Signed up", properties)
    properties["plan"] = "free"
    visitor.identify("user-42")
    visitor.track("Welcomed")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    before, after = (event["properties"] for event in spool.events)
    assert before["plan"] == "pro"
    assert before["time"] == round(NOW_S * 1000)
    assert before["distinct_id"] == f"$device:{visitor.device_id}"
    assert "$user_id" not in before
    assert (after["distinct_id"], after["$user_id"]) == ("user-42", "user-42")
    assert after["$device_id"] == before["$device_id"] == visitor.id
    assert before["$insert_id"] != after["$insert_id"]
    assert before["token"] == TOKEN


def test_attributes_of_a_new_visitor():
    """Everything a handler may want to know."""
    tracker, _ = recording_tracker()
    _, visitor = engine_of(tracker).begin(facts(), in_background=False)
    assert visitor.id == visitor.device_id
    assert str(uuid.UUID(visitor.id)) == visitor.id
    assert visitor.distinct_id == f"$device:{visitor.id}"
    assert visitor.user_id is None
    assert (visitor.source, visitor.vouched, visitor.is_new) == ("generated", True, True)
    assert (visitor.consent, visitor.is_bot) == ("granted", False)
    assert visitor.id not in repr(visitor)  # an ID is personal data and does not belong into logs


def test_properties_may_be_keywords():
    """A dict, keywords, or both; the event's name may be a property's name too."""
    tracker, spool = recording_tracker()
    tracker.visitor("u").track("x", {"a": 1}, b=2, event="e", properties="p")
    properties = spool.events[0]["properties"]
    assert (properties["a"], properties["b"]) == (1, 2)
    assert (properties["event"], properties["properties"]) == ("e", "p")


def test_registered_properties_go_with_later_events():
    """Super properties last until the end of the request or the log-out."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    visitor.track("before")
    visitor.register({"theme": "dark"}, beta=True)
    visitor.track("after", theme="light")
    visitor.reset()
    visitor.track("fresh")
    before, after, fresh = (event["properties"] for event in spool.events)
    assert "theme" not in before
    assert (after["theme"], after["beta"]) == ("light", True)
    assert "theme" not in fresh


def test_set_group_marks_events_and_the_profile():
    """As mixpanel-browser's `set_group` does."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    visitor.set_group("company", "Acme")
    visitor.track("x")
    assert spool.events[0]["properties"]["company"] == ["Acme"]
    assert spool.messages("engage")[0]["$set"] == {"company": ["Acme"]}


def test_a_given_time_and_insert_id_are_kept():
    """Backdating and own IDs for deduplication are legitimate."""
    tracker, spool = recording_tracker()
    tracker.visitor("u").track("x", {"time": 1_700_000_000, "$insert_id": "mine-1"})
    properties = spool.events[0]["properties"]
    assert (properties["time"], properties["$insert_id"]) == (1_700_000_000_000, "mine-1")


@pytest.mark.parametrize(
    ("headers", "reason"), [({"dnt": "1"}, "consent_denied"), ({"user-agent": "Googlebot"}, "bot")]
)
def test_events_of_those_we_may_not_track_are_refused(headers, reason):
    """They are counted, so that the ledger adds up, and nothing is stored."""
    tracker, spool = recording_tracker()
    exchange, visitor = begin(tracker, headers)
    visitor.track("x")
    visitor.people_set({"a": 1})
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.records == []
    assert tracker.stats()["refused"] == {reason: 2}
    assert visitor.id


def test_an_offline_visitor_may_be_a_device():
    """A visitor ID from a request may be used in a job."""
    tracker, spool = recording_tracker()
    tracker.visitor(DEVICE).track("x")
    properties = spool.events[0]["properties"]
    assert (properties["distinct_id"], properties["$device_id"]) == (f"$device:{DEVICE}", DEVICE)


def test_an_offline_user_id_may_look_like_a_device():
    """Where users' IDs are UUIDs, a keyword says so."""
    tracker, spool = recording_tracker()
    tracker.visitor(user_id=DEVICE).track("x")
    properties = spool.events[0]["properties"]
    assert (properties["distinct_id"], properties["$user_id"]) == (DEVICE, DEVICE)
    with pytest.raises(TypeError):
        tracker.visitor("u", user_id="v")


def test_a_block_stores_its_events_together():
    """`with tracker.visitor(...)` is one write, also when the block fails."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")

    def job():
        with visitor:
            visitor.track("a")
            visitor.track("b")
            assert spool.records == []
            raise KeyError

    with pytest.raises(KeyError):
        job()
    assert spool.names == ["a", "b"]
    visitor.track("later")
    assert spool.names == ["a", "b", "later"]


def test_original_mode_sends_identify_in_the_request():
    """The identity event goes the same durable way as all others, before what follows it."""
    tracker, spool = recording_tracker(id_mode="original")
    exchange, visitor = begin(tracker)
    visitor.identify("user-42")
    visitor.track("x")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.names == ["$identify", "x"]
    assert spool.events[0]["properties"]["$anon_id"] == f"$device:{visitor.device_id}"


def test_registered_properties_are_those_of_the_call():
    """What the application does with its list later changes no event."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    tags, nested = ["a"], {"b": ["c"]}
    visitor.register({"tags": tags, "nested": nested})
    visitor.set_group("company", tags)
    tags.append("late")
    nested["b"].append("late")
    visitor.track("x")
    properties = spool.events[0]["properties"]
    assert (properties["tags"], properties["nested"]) == (["a"], {"b": ["c"]})
    assert properties["company"] == ["a"]


def test_an_offline_log_in_goes_with_later_events():
    """In a job as in a request: from `identify` on, events carry the user and the device."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor(DEVICE)
    visitor.identify("user-42")
    visitor.track("x")
    properties = spool.events[0]["properties"]
    assert (properties["$user_id"], properties["$device_id"]) == ("user-42", DEVICE)


def test_an_offline_log_out_makes_somebody_new():
    """A job that resets goes on under a fresh device ID, for which no host vouches."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("user-42")
    visitor.reset()
    visitor.track("x")
    assert visitor.user_id is None
    assert not visitor.vouched
    assert spool.events[0]["properties"]["distinct_id"] == f"$device:{visitor.device_id}"


def test_an_offline_visitor_is_a_person():
    """Jobs know whom they speak of."""
    tracker, _ = recording_tracker()
    visitor = tracker.visitor("u")
    assert (visitor.is_bot, visitor.consent) == (False, "granted")


def test_blocks_may_be_nested():
    """The events are stored at the end of the outer one, and nobody is left current."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    with visitor:
        with visitor:
            visitor.track("x")
        assert spool.names == []
        assert current_visitor.id == "u"
    assert spool.names == ["x"]
    assert not current_visitor


def test_two_users_of_one_device_outside_of_a_request_are_two():
    """As in a request, the second one gets a device of its own."""
    tracker, spool = recording_tracker(id_mode="original")
    visitor = tracker.visitor(device_id=DEVICE)
    visitor.identify("anna")
    visitor.identify("bert")
    anna, bert = (event["properties"] for event in spool.events)
    assert anna["$anon_id"] == f"$device:{DEVICE}"
    assert bert["$anon_id"] != anna["$anon_id"]
