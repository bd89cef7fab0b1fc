"""EndpointWorker: from claims to acknowledgements, through trouble with Mixpanel and with the spool."""

from __future__ import annotations

import random

import pytest
from support.sending import (
    LOST,
    POLL_S,
    UNREACHABLE,
    Rig,
    answer,
    event,
    events,
    failed,
    received,
)

from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.sending.send_queue import MAX_RECORDS
from mixpanel_visitor.records import ENDPOINTS


def test_what_mixpanel_takes_is_acknowledged(rig):
    """Delivered records leave the spool."""
    rig.put(*events(3))
    rig.run()
    assert rig.spool.acked == events(3)
    assert rig.spool.counts().pending == 0


def test_a_mistake_of_our_own_loses_nothing(rig, caplog):
    """It is logged with its place, counted as what it is, and the same records are sent again."""
    rig.mixpanel.scripts["import"] = [
        Response(status=0, failure="internal: TypeError at delivery/x.py:7: no")
    ]
    rig.put(*events(3))
    rig.run(for_s=60.0)
    assert rig.spool.acked == events(3)
    assert rig.sender.stats()["retried"] == {"internal": 1}
    assert any("TypeError at delivery/x.py:7" in line and "report" in line for line in caplog.messages)


def test_an_empty_spool_asks_to_be_called_after_the_poll(rig):
    """With nothing to do, the next look is due after `poll_s`."""
    assert rig.sender.step() == POLL_S
    assert rig.mixpanel.sent == []


def test_more_to_do_asks_to_be_called_at_once(rig):
    """A backlog is sent without pauses."""
    rig.put(*events(MAX_RECORDS + 1))
    assert rig.sender.step() == 0.0


def test_a_request_holds_at_most_2000_records(rig):
    """Mixpanel's limit."""
    rig.put(*events(MAX_RECORDS + 1))
    rig.run()
    assert [len(batch) for batch in rig.mixpanel.batches()] == [MAX_RECORDS, 1]


def test_each_endpoint_is_served(rig):
    """Events, people and groups have lanes of their own."""
    for endpoint in ENDPOINTS:
        rig.put(b'{"to":"%s"}' % endpoint.encode(), endpoint=endpoint)
    rig.run()
    assert sorted(endpoint for endpoint, _ in rig.mixpanel.sent) == sorted(ENDPOINTS)


def test_only_the_failed_records_are_buried(rig):
    """The others were ingested and are not sent again."""
    rig.put(*events(3))
    rig.mixpanel.scripts["import"] = [failed({"index": 1, "insert_id": "event-1", "message": "bad"})]
    rig.run()
    assert (rig.spool.acked, list(rig.spool.dead)) == (
        [event("event-0"), event("event-2")],
        [event("event-1")],
    )
    assert len(rig.mixpanel.sent) == 1


def test_a_shortfall_is_counted(rig):
    """Mixpanel's own count is compared with ours."""
    rig.put(*events(3))
    rig.mixpanel.scripts["import"] = [answer(200, {"code": 200, "num_records_imported": 1})]
    rig.run()
    assert rig.sender.stats()["shortfall"] == 2


def test_an_outage_loses_nothing(rig):
    """After six hours of 503 everything is delivered, once."""
    rig.put(*events(10))
    rig.mixpanel.otherwise = lambda bodies: answer(503)
    rig.run(for_s=6 * 3_600)
    assert not rig.spool.acked
    rig.mixpanel.otherwise = received
    rig.run(for_s=70)
    assert rig.spool.acked == events(10)
    assert not rig.spool.dead


def test_the_waits_of_an_outage_follow_mixpanels_advice(rig):
    """2 s doubling to 60 s, plus jitter."""
    rig.put(*events(1))
    rig.mixpanel.otherwise = lambda bodies: answer(503)
    assert rig.pauses_s(7) == [3, 5, 9, 17, 33, 61, 61]


def test_the_jitter_is_asked_for_between_one_and_five(rig):
    """Hosts that failed together do not come back together."""
    asked = []
    rig.sender = rig.make(uniform=lambda low, high: asked.append((low, high)) or high)
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [UNREACHABLE]
    rig.sender.step()
    assert asked == [(1.0, 5.0)]
    assert rig.lane()["paused_until_s"] == rig.time.clock() + 7.0


def test_twenty_hosts_do_not_come_back_together():
    """After an outage that began for all at once, no second sees more than a few tries."""
    tries = []
    for seed in range(20):
        rig = Rig()
        rig.sender = rig.make(uniform=random.Random(seed).uniform)
        rig.put(*events(1))
        rig.mixpanel.otherwise = lambda bodies: answer(503)
        for _ in range(6):
            rig.sender.step()
            wait_s = rig.lane()["paused_until_s"] - rig.time.clock()
            rig.time.wait(wait_s)
        tries.append(round(rig.time.now_s))
    assert max(map(tries.count, tries)) <= 5
    assert max(tries) - min(tries) >= 5


def test_retry_after_is_honoured(rig):
    """No request is sent before the time that Mixpanel named."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(429, retry_after="120")]
    rig.run(for_s=119)
    assert len(rig.mixpanel.sent) == 1
    rig.run(for_s=2)
    assert rig.spool.acked == events(1)


def test_a_lane_in_trouble_does_not_stop_the_others(rig):
    """Profiles go on while events wait."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(429, retry_after="600")]
    rig.sender.step()
    rig.put(b"{}", endpoint="engage")
    rig.sender.step()
    assert rig.spool.acked == [b"{}"]


def test_after_trouble_the_wait_begins_small_again(rig):
    """A success forgets the failures before it."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503), answer(503), received, answer(503)]
    rig.run(for_s=20)
    rig.put(event("late"))
    rig.sender.step()
    assert rig.lane()["paused_until_s"] == rig.time.clock() + 3.0


def test_a_wrong_token_keeps_everything(rig):
    """Nothing is dead for a 401, and with the right token all is delivered."""
    rig.put(*events(3))
    rig.mixpanel.otherwise = lambda bodies: answer(401, {"error": "Invalid credentials"})
    rig.run(for_s=3_600)
    assert not rig.spool.acked
    rig.mixpanel.otherwise = received
    rig.run(for_s=600)
    assert rig.spool.acked == events(3)
    assert not rig.spool.dead


def test_a_wrong_token_is_tried_ever_more_rarely(rig):
    """The pause is a minute, doubling to ten."""
    rig.put(*events(1))
    rig.mixpanel.otherwise = lambda bodies: answer(401)
    assert rig.pauses_s(6) == [60, 120, 240, 480, 600, 600]


def test_profiles_keep_their_order_through_trouble(rig):
    """An update that failed is sent before the ones that came after it."""
    updates = [b'{"$set":{"n":%d}}' % number for number in range(4)]
    rig.put(*updates[:2], endpoint="engage")
    rig.mixpanel.scripts["engage"] = [answer(503)]
    rig.sender.step()
    rig.put(*updates[2:], endpoint="engage")
    rig.run(for_s=10)
    assert rig.spool.acked == updates


def test_an_unknown_outcome_is_counted_as_possible_duplicates(rig):
    """What was sent without an answer is sent again, and Mixpanel may have it twice."""
    rig.put(*events(3))
    rig.mixpanel.scripts["import"] = [LOST, UNREACHABLE]
    rig.run(for_s=20)
    assert rig.sender.stats()["duplicates_possible"] == 3


def test_a_failing_claim_waits_and_recovers(rig):
    """A disk in trouble is asked again, ever more rarely."""
    rig.put(*events(1))
    rig.spool.failing = {"claim import"}
    assert rig.pauses_s(8) == [1, 2, 4, 8, 16, 32, 60, 60]
    rig.spool.failing = set()
    rig.run()
    assert rig.spool.acked == events(1)


def test_a_failing_claim_does_not_stop_the_other_lanes(rig):
    """Each lane has its own guard."""
    rig.spool.failing = {"claim import"}
    rig.put(b"{}", endpoint="groups")
    rig.sender.step()
    assert rig.spool.acked == [b"{}"]


@pytest.mark.parametrize("method", ["ack", "bury"])
def test_a_settlement_that_failed_is_repeated_without_sending_again(rig, method):
    """What Mixpanel has taken is not sent twice because a disk was full."""
    rig.put(*events(3))
    rig.mixpanel.scripts["import"] = [failed({"index": 1, "message": "bad"})]
    rig.spool.failing = {method}
    rig.run(for_s=100)
    rig.spool.failing = set()
    rig.run(for_s=100)
    assert len(rig.mixpanel.sent) == 1
    assert (len(rig.spool.acked), len(rig.spool.dead)) == (2, 1)


def test_an_exception_from_post_keeps_the_batch(rig):
    """Even what should never happen loses nothing."""

    def broken(bodies):
        raise ZeroDivisionError

    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [broken]
    rig.run(for_s=5)
    assert rig.spool.acked == events(1)
    assert rig.sender.stats()["errors"] == 1
