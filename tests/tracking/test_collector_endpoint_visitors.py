"""The collector over both protocols: whose events they are, and who is not tracked."""

import pytest
from support.collecting import OTHER_DEVICE, event, update
from support.collector_sites import ADDED, assert_taken
from support.trackers import TOKEN

OUT_OPT = f"__mp_opt_in_out_{TOKEN}"


@pytest.mark.parametrize(
    ("signed", "sent", "mark", "note"),
    [
        (True, event(), None, None),
        ({"user_id": "anna"}, event(user="anna"), None, None),
        ({"earlier_id": OTHER_DEVICE}, event(device=OTHER_DEVICE), None, "collector_earlier_id"),
        (True, event(device=OTHER_DEVICE), "device", "collector_differs"),
        ({"user_id": "anna"}, event(user="eve"), "user", "collector_differs"),
        (True, event(user="eve"), None, "collector_unknown_user"),
        (False, event(), None, "collector_unsigned"),
    ],
)
def test_what_differs_is_marked_and_counted(make, signed, sent, mark, note):
    """And never changed."""
    site = make(signed=signed)
    assert_taken(site.send([sent]))
    (properties,) = site.properties
    ids = ("distinct_id", "$device_id", "$user_id")
    assert [properties.get(name) for name in ids] == [sent["properties"].get(name) for name in ids]
    assert properties.get("visitor_mismatch") == mark
    assert [name for name in site.notes if name.startswith("collector")] == ([note] if note else [])


@pytest.mark.parametrize(
    ("signed", "sent", "reason"),
    [
        (True, event(), None),
        ({"user_id": "anna"}, event(user="anna"), None),
        (True, event(device=OTHER_DEVICE), "collector_differs"),
        ({"user_id": "anna"}, event(user="eve"), "collector_differs"),
        (True, event(user="eve"), "collector_unknown_user"),
        (False, event(user="eve"), "collector_unknown_user"),
        (False, event(), None),
    ],
)
def test_strangers_can_be_refused(make, signed, sent, reason):
    """With `collector_trust="refuse"`."""
    site = make(signed=signed, collector_trust="refuse")
    assert site.send([sent]).status == 200
    assert site.refused == ({reason: 1} if reason else {})
    assert len(site.spool.events) == (0 if reason else 1)


def test_a_mark_of_the_browsers_own_is_not_believed(make):
    """Nor what it says of its address."""
    site = make()
    site.send([event(visitor_mismatch="user", ip="8.8.8.8")])
    assert site.properties == [{**event()["properties"], **ADDED}]


@pytest.mark.parametrize(
    ("signed", "operation", "is_taken"),
    [
        (True, ("$delete", ""), True),
        (True, ("$unset", ["plan"]), True),
        ({"device_id": OTHER_DEVICE}, ("$delete", ""), False),
        (False, ("$unset", ["plan"]), False),
        (False, ("$set", {"plan": "pro"}), True),
    ],
)
def test_only_ones_own_profile_can_be_deleted(make, signed, operation, is_taken):
    """By a signed visitor."""
    site = make(signed=signed)
    site.send([update(*operation)], "engage")
    assert len(site.spool.messages("engage")) == is_taken
    assert site.refused == ({} if is_taken else {"collector_profile": 1})


# --- a no is a no ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "headers", "reason"),
    [
        ({}, {"dnt": "1"}, "consent_denied"),
        ({}, {"sec-gpc": "1"}, "consent_denied"),
        ({"consent": lambda _facts: "denied"}, {}, "consent_denied"),
        ({"consent": lambda _facts: "unknown"}, {}, "consent_unknown"),
        ({}, {"user-agent": "Googlebot/2.1"}, "bot"),
        ({"enabled": False}, {}, "disabled"),
    ],
)
def test_who_is_not_tracked(make, settings, headers, reason):
    """The SDK is told that it is done, and nothing is stored."""
    site = make(**settings)
    for route, sent in (("track", event()), ("engage", update())):
        assert_taken(site.send([sent], route, headers))
    assert site.spool.records == []
    assert site.refused == {reason: 2}


def test_the_opt_out_cookie(make):
    """The SDK's own, which it may have set a moment ago."""
    site = make()
    site.client.jar[OUT_OPT] = "0"
    assert_taken(site.send([event()]))
    assert site.spool.records == []


def test_bots_can_be_tagged(make):
    """As in the server's own events."""
    site = make(bots="tag")
    site.send([event()], headers={"user-agent": "Googlebot/2.1"})
    assert site.properties[0]["is_bot"] is True


def test_request_filter_leaves_alone(make):
    """The application answers, as if there were no collector."""
    site = make(request_filter=lambda facts: facts.path.startswith("/m/"))
    assert site.send([event()]).status == 200
    assert site.spool.records == []
