"""The collector over both protocols: what is refused, and what cannot be stored."""

import json

import pytest
from support.collecting import event, update
from support.collector_sites import assert_refused, assert_taken
from support.trackers import NOW_S, TOKEN

from mixpanel_visitor.errors import SpoolFullError, SpoolUnavailableError


def test_another_projects_token(make):
    """Its events are left out, and the log says what to do; the batch's others are taken."""
    site = make()
    answer = site.send([event(token="other"), event("Ours")])
    assert (answer.status, json.loads(answer.body)["error"]) == (200, "1 of 2 were refused")
    assert site.spool.names == ["Ours"]
    assert site.refused == {"collector_token": 1}
    site.send([update(token="other")], "engage")
    assert site.spool.messages("engage") == []


@pytest.mark.parametrize("site_name", ["cross-site", "same-site", "none"])
def test_other_sites(make, site_name):
    """403, whatever they know."""
    site = make()
    assert_refused(site.send([event()], headers={"sec-fetch-site": site_name}), 403)
    assert site.spool.records == []
    assert site.notes["collector_cross_site"] == 1


def test_other_methods(make):
    """405: by GET events would stand in the logs of every proxy."""
    site = make()
    answer = site.send(b"", method="GET")
    assert_refused(answer, 405)
    assert answer.values("allow") == ["POST"]


def test_recordings(make):
    """404: a Python process is a poor tunnel for them."""
    assert_refused(make().send(b"\x1f\x8b", "record"), 404)


@pytest.mark.parametrize("body", [b"", b"data=", b"data=W10x", b"{", bytes(range(256))])
def test_what_is_no_body(make, body):
    """400, so that the SDK does not send it for ever."""
    site = make()
    assert_refused(site.send(body), 400)
    assert site.notes["collector_malformed"] == 1


def test_too_large(make):
    """413: the SDK halves its batch."""
    site = make()
    assert_refused(site.send(b"x" * (2**20 + 1)), 413)
    assert_refused(site.send([0] * 2_001), 413)
    assert site.notes["collector_too_large"] == 2


@pytest.mark.parametrize(
    "item",
    [
        0, None, [], "x", {}, {"event": "x"}, {"event": 1, "properties": {}},
        {"event": "x", "properties": []},
        {"event": "", "properties": {"token": TOKEN, "distinct_id": "x"}}, event(time="yesterday"),
        event(time=NOW_S + 7_200), event(**{"distinct_id": "null", "$device_id": "null"}),
        event(**{"$insert_id": "x" * 40}), event(a={"b": {"c": {"d": {}}}}), event("$merge"),
        event(**{f"p{number}": 1 for number in range(255)}),
    ],
)  # fmt: skip
def test_one_bad_event_is_left_out(make, item):
    """It is counted; the others of its batch are stored, and the SDK forgets all of them."""
    site = make()
    assert site.send([item, event("Good")]).status == 200
    assert site.spool.names == ["Good"]
    assert sum(site.refused.values()) == 1
    assert "internal_error" not in site.refused


@pytest.mark.parametrize(
    "item", [0, {}, update("$explode"), update("$add", {"a": "b"}), update("$union", {"a": 1})]
)
def test_one_bad_update_is_left_out(make, item):
    """As Mixpanel would do."""
    site = make()
    assert site.send([item, update()], "engage").status == 200
    assert len(site.spool.messages("engage")) == 1
    assert sum(site.refused.values()) == 1


# --- when it cannot be stored ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [SpoolFullError("full"), SpoolUnavailableError("gone"), RuntimeError("bug")]
)
def test_what_the_spool_does_not_take(make, trouble):
    """503, with which the SDK keeps its batch; it counts as refused each time."""
    site = make()
    site.spool.trouble = trouble
    answer = site.send([event()])
    assert_refused(answer, 503)
    assert answer.values("retry-after")
    site.spool.trouble = None
    assert_taken(site.send([event()]))
    stats = site.tracker.stats()
    assert (stats["accepted"], stats["pending"], sum(stats["refused"].values())) == (2, 1, 1)


def test_half_of_the_spool_is_the_servers(make):
    """Browsers' events are refused while more is used, and the server's are stored."""
    site = make(handler=lambda visitor: visitor.track("Ours"))
    site.spool._max_bytes = 1_500
    assert_taken(site.send([event("One"), event("Two")]))
    assert site.spool.fill() < 0.5
    assert_taken(site.send([event("Three")]))
    assert site.spool.fill() > 0.5
    assert_refused(site.send([event("Four")]), 503)
    site.client.request("GET", "/")
    site.tracker._engine.pipeline.background_writer.drain(5)
    assert site.spool.names == ["One", "Two", "Three", "Ours"]


def test_a_closed_tracker(make):
    """503: another process may take it."""
    site = make()
    site.tracker.close()
    assert_refused(site.send([event()]), 503)


@pytest.mark.parametrize("durability", ["after-response", "before-response"])
def test_it_is_stored_before_the_answer(make, durability):
    """Whatever the durability of other requests is."""
    site = make(durability=durability)
    site.send([event()])
    assert site.spool.names == ["Clicked"]
