"""Records and batches that Mixpanel refuses: found, cut, set aside or sent later."""

from __future__ import annotations

import math

import pytest
from support.sending import (
    FUTURE,
    UNREACHABLE,
    answer,
    event,
    events,
    failed,
    limited,
    received,
    refusing,
)

from mixpanel_visitor.delivery.sending.retry_policy import MAX_CONSECUTIVE_REJECTIONS
from mixpanel_visitor.delivery.sending.send_queue import MAX_RECORDS


@pytest.mark.parametrize("at", [0, 1, 999, 1_000, 1_998, 1_999])
def test_one_poison_among_a_full_batch(rig, at):
    """It is found in at most 2*log2(n)+1 requests, and all others are delivered once."""
    batch = events(MAX_RECORDS)
    rig.put(*batch)
    rig.mixpanel.otherwise = refusing(batch[at])
    rig.run()
    assert len(rig.mixpanel.sent) <= 2 * math.log2(MAX_RECORDS) + 1
    assert rig.spool.acked == batch[:at] + batch[at + 1 :]
    assert list(rig.spool.dead) == [batch[at]]


def test_an_outage_in_the_middle_of_a_search_does_not_restart_it(rig):
    """What was already found out is not asked again."""
    batch = events(64)
    rig.put(*batch)
    script = [UNREACHABLE if number % 2 else refusing(batch[63]) for number in range(40)]
    rig.mixpanel.scripts["import"] = script
    rig.run(for_s=3_600)
    assert list(rig.spool.dead) == [batch[63]]
    assert rig.sender.stats()["http"][400] <= 2 * math.log2(64) + 1


def test_refusing_everything_slows_down(rig):
    """After many refusals in a row the fault is not the records': they are not all thrown after."""
    rig.put(*events(100))
    rig.mixpanel.otherwise = lambda bodies: answer(400, {"error": "plain HTTP sent to HTTPS port"})
    rig.run()
    assert len(rig.spool.dead) == MAX_CONSECUTIVE_REJECTIONS + 1
    rig.mixpanel.otherwise = received
    rig.run(for_s=60)
    assert len(rig.spool.acked) == 100 - MAX_CONSECUTIVE_REJECTIONS - 1


def test_a_named_limit_is_learned_and_kept(rig):
    """The batch is cut to what Mixpanel takes, and later batches are claimed to fit."""
    batch = [event("x" * 1_000 + str(number)) for number in range(MAX_RECORDS * 2)]
    rig.put(*batch)
    limit_bytes = 1_000_000
    rig.mixpanel.otherwise = limited(limit_bytes, f"request exceeds max limit of {limit_bytes} bytes")
    rig.run()
    assert rig.spool.acked == batch
    assert rig.sender.stats()["http"][413] == 1
    assert rig.lane()["limit_bytes"] == limit_bytes


def test_an_unnamed_limit_is_found_by_halving(rig):
    """A proxy that names no figure costs a few more requests and no record."""
    batch = [event("x" * 1_000 + str(number)) for number in range(MAX_RECORDS)]
    rig.put(*batch)
    rig.mixpanel.otherwise = limited(300_000, "too large")
    rig.run()
    assert rig.spool.acked == batch
    assert rig.sender.stats()["http"][413] == 4


def test_a_record_that_is_too_large_alone_is_buried(rig):
    """Splitting ends, and the others are delivered."""
    batch = [event("a"), event("x" * 5_000), event("b")]
    rig.put(*batch)
    rig.mixpanel.otherwise = limited(3_000, "too large")
    rig.run()
    assert rig.spool.acked == [batch[0], batch[2]]
    assert list(rig.spool.dead) == [batch[1]]


def test_an_event_from_the_future_is_sent_again_later(rig):
    """It waits for its time and is delivered then."""
    rig.put(*events(2))
    rig.mixpanel.scripts["import"] = [failed(FUTURE)]
    rig.run(for_s=59)
    assert rig.spool.acked == [event("event-1")]
    rig.run(for_s=2)
    assert rig.spool.acked == [event("event-1"), event("event-0")]


def test_an_event_from_the_future_does_not_hold_up_the_lane(rig):
    """Others go on while it waits."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [failed(FUTURE)]
    rig.run()
    rig.put(event("other"))
    rig.run()
    assert rig.spool.acked == [event("other")]
    assert rig.lane()["parked"] == 1


def test_many_events_from_the_future_pause_the_lane(rig):
    """A clock that is fast cannot fill the memory with waiting events."""
    rig.put(*events(MAX_RECORDS * 2))

    def all_in_the_future(bodies):
        return failed(*({**FUTURE, "index": at, "insert_id": ""} for at in range(len(bodies))))

    rig.mixpanel.otherwise = all_in_the_future
    rig.run()
    assert rig.lane()["parked"] == MAX_RECORDS
    assert rig.lane()["paused_until_s"] > 0
    assert rig.spool.unclaimed == MAX_RECORDS
    rig.mixpanel.otherwise = received
    rig.run(for_s=120)
    assert sorted(rig.spool.acked) == sorted(events(MAX_RECORDS * 2))
