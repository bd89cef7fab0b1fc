"""Sender: from claims to acknowledgements, by hand, in the thread, and at exit."""

from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import math
import os
import random
import subprocess
import sys
import threading
import time
import warnings

import pytest
from support.waiting import PATIENCE_S

from mixpanel_visitor.delivery.sending.http_client import Answer
from mixpanel_visitor.delivery.sending.retry_policy import MAX_CONSECUTIVE_REJECTIONS
from mixpanel_visitor.delivery.sending.send_queue import MAX_RECORDS
from mixpanel_visitor.delivery.sending.sender import THREAD_NAME, Sender
from mixpanel_visitor.delivery.spool import Claim, SpoolCounts
from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.records import ENDPOINTS, Record

NOW_S = 1_760_000_000.0
POLL_S = 0.5


class ListSpool:
    """A spool in lists, with a switch for each method that makes it fail."""

    def __init__(self) -> None:
        self.lanes: dict[str, dict[int, bytes]] = {endpoint: {} for endpoint in ENDPOINTS}
        self.claimed: set[int] = set()
        self.acked: list[bytes] = []
        self.dead: dict[bytes, object] = {}
        self.failing: set[str] = set()
        self._next = 0

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise SpoolUnavailableError("the disk is full")

    def put(self, records) -> None:
        for record in records:
            self.lanes[record.endpoint][self._next] = record.body
            self._next += 1

    def claim(self, endpoint, max_records, max_bytes) -> Claim | None:
        self._check(f"claim {endpoint}")
        taken: list[int] = []
        size = 0
        for position in sorted(self.lanes[endpoint].keys() - self.claimed):
            size += len(self.lanes[endpoint][position])
            if taken and (size > max_bytes or len(taken) == max_records):
                break
            taken.append(position)
        if not taken:
            return None
        self.claimed.update(taken)
        bodies = tuple(self.lanes[endpoint][position] for position in taken)
        return Claim(endpoint=endpoint, bodies=bodies, positions=tuple(taken))

    def _settle(self, claim, indexes) -> list[bytes]:
        return [self.lanes[claim.endpoint].pop(claim.positions[index]) for index in indexes]

    def ack(self, claim, indexes) -> None:
        self._check("ack")
        self.acked += self._settle(claim, indexes)

    def release(self, claim, indexes) -> None:
        self._check("release")
        self.claimed -= {claim.positions[index] for index in indexes}

    def bury(self, claim, reasons) -> None:
        self._check("bury")
        for index, reason in reasons.items():
            self.dead[self._settle(claim, [index])[0]] = reason

    def counts(self) -> SpoolCounts:
        return SpoolCounts(pending=sum(map(len, self.lanes.values())))

    def close(self) -> None:
        """Nothing is open."""

    @property
    def unclaimed(self) -> int:
        return sum(len(lane.keys() - self.claimed) for lane in self.lanes.values())


class FakeTime:
    """A wall clock and a monotonic one that move only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits_s: list[float] = []

    def clock(self) -> float:
        return NOW_S + self.now_s

    def monotonic(self) -> float:
        return 1_000.0 + self.now_s

    def wait(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.now_s += seconds


class Mixpanel:
    """Answers each request: by the script for its endpoint while that lasts, then by `otherwise`."""

    def __init__(self, fake_time: FakeTime) -> None:
        self.time = fake_time
        self.scripts: dict[str, list] = {endpoint: [] for endpoint in ENDPOINTS}
        self.otherwise = received
        self.sent: list[tuple[str, list[bytes]]] = []
        self.timeouts_s: list[float | None] = []

    def __call__(self, endpoint, bodies, timeout_s=None) -> Answer:
        self.sent.append((endpoint, list(bodies)))
        self.timeouts_s.append(timeout_s)
        script = self.scripts[endpoint]
        scripted = script.pop(0) if script else self.otherwise
        return scripted if isinstance(scripted, Answer) else scripted(bodies)

    def batches(self, endpoint="import") -> list[list[bytes]]:
        return [bodies for sent_to, bodies in self.sent if sent_to == endpoint]


class Rig:
    """A sender with everything around it in the test's hands."""

    def __init__(self) -> None:
        self.spool = ListSpool()
        self.time = FakeTime()
        self.mixpanel = Mixpanel(self.time)
        self.sender = self.make()

    def make(self, **options) -> Sender:
        settings = {
            "clock": self.time.clock,
            "monotonic": self.time.monotonic,
            "uniform": lambda low, high: low,
            "wait": self.time.wait,
            "poll_s": POLL_S,
        }
        return Sender(self.spool, self.mixpanel, **(settings | options))

    def put(self, *bodies: bytes, endpoint="import") -> None:
        self.spool.put([Record(endpoint, body) for body in bodies])

    def run(self, for_s: float = 0.0) -> None:
        """Step until nothing is due for `for_s` seconds, moving the clock over the waits."""
        ends_s = self.time.now_s + for_s
        while True:
            wait_s = self.sender.step()
            if self.time.now_s + wait_s > ends_s:
                return
            self.time.wait(wait_s)

    def pauses_s(self, count: int) -> list[int]:
        """How long the events' lane pauses after each of so many tries."""
        pauses_s = []
        for _ in range(count):
            self.sender.step()
            pauses_s.append(round(self.lane()["paused_until_s"] - self.time.clock()))
            self.time.wait(pauses_s[-1])
        return pauses_s

    def lane(self, endpoint="import") -> dict:
        return self.sender.stats()["lanes"][endpoint]


@pytest.fixture
def rig() -> Rig:
    """A fresh sender."""
    return Rig()


def event(name: str) -> bytes:
    """An event as it is stored."""
    properties = {"$insert_id": name, "time": NOW_S, "distinct_id": "someone"}
    return json.dumps({"event": name, "properties": properties}).encode()


def events(count: int) -> list[bytes]:
    """Many different events."""
    return [event(f"event-{number}") for number in range(count)]


def answer(status: int, body: object = None, **headers: str) -> Answer:
    """What Mixpanel says."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=names, body=json.dumps(body).encode(), sent=True)


def received(bodies) -> Answer:
    """Mixpanel takes everything."""
    return answer(200, {"code": 200, "num_records_imported": len(bodies)})


def refusing(*poisons: bytes):
    """A server that refuses any request with a poison in it, and names nobody."""

    def judge(bodies) -> Answer:
        return answer(400, {"code": 400}) if set(poisons) & set(bodies) else received(bodies)

    return judge


def limited(limit_bytes: int, text: str):
    """A server that takes no larger requests."""

    def judge(bodies) -> Answer:
        size = len(b"[" + b",".join(bodies) + b"]")
        return answer(413, {"error": text}) if size > limit_bytes else received(bodies)

    return judge


def failed(*entries) -> Answer:
    """Mixpanel takes all but these."""
    return answer(400, {"code": 400, "failed_records": list(entries)})


UNREACHABLE = Answer(status=0, failure="refused: nobody there")
LOST = Answer(status=0, failure="timeout: no answer", sent=True)


# --- delivering --------------------------------------------------------------------------------


def test_what_mixpanel_takes_is_acknowledged(rig):
    """Delivered records leave the spool."""
    rig.put(*events(3))
    rig.run()
    assert rig.spool.acked == events(3)
    assert rig.spool.counts().pending == 0


def test_a_mistake_of_our_own_loses_nothing(rig, caplog):
    """It is logged with its place, counted as what it is, and the same records are sent again."""
    rig.mixpanel.scripts["import"] = [Answer(status=0, failure="internal: TypeError at delivery/x.py:7: no")]
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


# --- trouble -----------------------------------------------------------------------------------


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


# --- what must not be sent twice ---------------------------------------------------------------

SETS = [b'{"$distinct_id":"a","$set":{"n":%d}}' % number for number in range(3)]
ADDS = [b'{"$distinct_id":"a","$add":{"n":%d}}' % number for number in range(3)]
MANY_ADDS = [b'{"$distinct_id":"a","$add":{"n":%d}}' % number for number in range(120)]
ONCE = {
    "$add": b'{"$distinct_id":"a","$add":{"n":1}}',
    "$append": b'{"$distinct_id":"a","$append":{"n":1}}',
    "$remove": b'{"$distinct_id":"a","$remove":{"n":1}}',
}


@pytest.mark.parametrize("operation", ONCE)
@pytest.mark.parametrize(
    "unknown", [LOST, answer(500), answer(502), answer(504), answer(200, "<html>")], ids=str
)
def test_an_update_in_doubt_is_buried(rig, operation, unknown):
    """Where the answer was lost after the request had left, it is set aside and not sent again."""
    rig.put(ONCE[operation], endpoint="engage")
    rig.mixpanel.scripts["engage"] = [unknown]
    rig.run(for_s=600)
    assert rig.mixpanel.batches("engage") == [[ONCE[operation]]]
    assert [reason.message.partition(":")[0] for reason in rig.spool.dead.values()] == ["ambiguous"]
    assert not rig.spool.acked
    stats = rig.sender.stats()
    assert (stats["ambiguous"], stats["duplicates_possible"], stats["dead"]) == (1, 0, 1)


@pytest.mark.parametrize("known", [UNREACHABLE, answer(429), answer(503), answer(401), answer(413)], ids=str)
def test_an_update_that_was_not_taken_is_sent_again(rig, known):
    """There is no doubt where nothing was sent, or Mixpanel says that it did not work on it."""
    rig.put(*ADDS, endpoint="engage")
    rig.mixpanel.scripts["engage"] = [known]
    rig.run(for_s=600)
    assert rig.spool.acked == ADDS
    assert not rig.spool.dead


def test_an_update_in_doubt_is_sent_again_if_the_setting_says_so(rig):
    """Who would rather have it twice than not at all can have that."""
    rig.sender = rig.make(retry_ambiguous=True)
    rig.put(*ADDS, endpoint="engage")
    rig.mixpanel.scripts["engage"] = [LOST]
    rig.run(for_s=60)
    assert rig.spool.acked == ADDS
    assert rig.sender.stats()["duplicates_possible"] == len(ADDS)


def test_what_may_be_repeated_goes_in_requests_of_its_own(rig):
    """The order stays as it was; a request holds either kind and never both."""
    updates = [SETS[0], ADDS[0], ADDS[1], SETS[1], SETS[2], ADDS[2]]
    rig.put(*updates, endpoint="engage")
    rig.run()
    assert rig.mixpanel.batches("engage") == [[SETS[0]], ADDS[:2], SETS[1:], [ADDS[2]]]


def test_few_updates_are_in_doubt_at_once(rig):
    """A request holds 50 at most of those that must not be sent twice."""
    rig.put(*MANY_ADDS, endpoint="engage")
    rig.run()
    assert list(map(len, rig.mixpanel.batches("engage"))) == [50, 50, 20]


def test_during_trouble_only_one_update_at_a_time_is_risked(rig):
    """After a failure the next try sends one: an outage of hours does not doubt thousands."""
    rig.put(*MANY_ADDS, endpoint="engage")
    rig.mixpanel.scripts["engage"] = [answer(503), answer(502), answer(503)]
    rig.run(for_s=60)
    assert list(map(len, rig.mixpanel.batches("engage"))) == [50, 1, 1, 1, 48, 50, 20]
    assert len(rig.spool.dead) == 1
    assert len(rig.spool.acked) == 119


def test_an_event_in_doubt_is_sent_again(rig):
    """Events carry an insert id, whatever words are in them."""
    rig.put(b'{"event":"say","properties":{"$add":1}}')
    rig.mixpanel.scripts["import"] = [LOST]
    rig.run(for_s=60)
    assert len(rig.spool.acked) == 1


def test_a_word_is_no_operation(rig):
    """An update that only mentions `$add` is like any other."""
    update = b'{"$distinct_id":"a","$set":{"note":"\\"$add\\"","x":["$add"]}}'
    rig.put(update, endpoint="engage")
    rig.mixpanel.scripts["engage"] = [LOST]
    rig.run(for_s=60)
    assert rig.spool.acked == [update]


def test_at_exit_nothing_is_begun_that_time_would_leave_in_doubt(rig):
    """With less than half a second left, an `$add` stays for the next process."""
    rig.put(*ADDS, endpoint="engage")
    assert not rig.sender.drain(0.4)
    assert rig.mixpanel.batches("engage") == []
    assert not rig.spool.dead


# --- refusals ----------------------------------------------------------------------------------


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


FUTURE = {"index": 0, "insert_id": "event-0", "field": "properties.time", "message": "is in the future"}


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


# --- faults of the spool and of ours -----------------------------------------------------------


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


# --- drain and stop ----------------------------------------------------------------------------


def test_drain_delivers_in_the_calling_thread(rig):
    """At exit no thread is needed."""
    rig.put(*events(MAX_RECORDS + 1))
    rig.put(b"{}", endpoint="groups")
    assert rig.sender.drain(5.0)
    assert rig.spool.counts().pending == 0


def test_drain_of_an_empty_spool_is_done_at_once(rig):
    """Nothing to do is success."""
    assert rig.sender.drain(5.0)
    assert rig.time.waits_s == []


def test_drain_waits_for_a_retry_that_is_still_in_time(rig):
    """A short hiccup does not end it."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503)]
    assert rig.sender.drain(5.0)
    assert rig.time.waits_s == [3.0]


def test_drain_does_not_wait_for_what_comes_too_late(rig):
    """During an outage the process may exit at once; the records are in the spool."""
    rig.put(*events(1))
    rig.mixpanel.otherwise = lambda bodies: answer(401)
    assert not rig.sender.drain(5.0)
    assert rig.time.waits_s == []


def test_drain_goes_on_with_the_lanes_that_work(rig):
    """One paused lane does not keep the others from being emptied."""
    rig.put(*events(1))
    rig.put(b"{}", endpoint="engage")
    rig.mixpanel.scripts["import"] = [answer(401)]
    assert not rig.sender.drain(5.0)
    assert rig.spool.acked == [b"{}"]


def test_drain_bounds_each_request_by_the_time_left(rig):
    """A server that hangs does not hold up the exit."""

    def slow(bodies):
        rig.time.now_s += 1.5
        return received(bodies)

    rig.mixpanel.otherwise = slow
    rig.sender = rig.make(post_within=rig.mixpanel)
    rig.put(*events(MAX_RECORDS * 3))
    assert not rig.sender.drain(2.0)
    assert rig.mixpanel.timeouts_s == [2.0, 0.5]


def test_a_sender_that_was_stopped_asks_anew(rig):
    """After a silence in which the lead may have gone to another process, nothing is sent from memory."""
    rig.put(*events(2))
    rig.mixpanel.scripts["import"] = [answer(503)]
    rig.sender.step()
    assert rig.spool.unclaimed == 0
    rig.spool.failing = {"claim import"}
    rig.time.wait(121)
    rig.sender.step()
    assert rig.spool.unclaimed == 2
    assert len(rig.mixpanel.batches()) == 1


def test_drain_without_time_sends_nothing(rig):
    """No time, no attempt."""
    rig.put(*events(1))
    assert not rig.sender.drain(0.0)
    assert rig.mixpanel.sent == []


def test_a_drain_whose_time_the_spool_takes_is_no_outage(rig):
    """With no time left for a request there is none, and so nothing that fails and makes it pause."""
    claim = rig.spool.claim

    def slow(*arguments):
        rig.time.now_s += 2.0
        return claim(*arguments)

    rig.spool.claim = slow
    rig.sender = rig.make(post_within=rig.mixpanel)
    rig.put(*events(1))
    assert not rig.sender.drain(1.0)
    assert rig.mixpanel.timeouts_s == []
    rig.spool.claim = claim
    assert rig.sender.drain(1.0)


def test_stop_gives_back_what_is_held(rig):
    """Another sender on the same spool can go on at once."""
    rig.put(*events(3))
    rig.mixpanel.scripts["import"] = [failed({**FUTURE, "index": 2, "insert_id": ""}), answer(503)]
    rig.run()
    rig.put(event("late"))
    rig.run()
    assert rig.spool.unclaimed == 0
    assert rig.sender.stop(1.0)
    assert rig.spool.unclaimed == 2


def test_stop_survives_a_spool_that_takes_nothing_back(rig):
    """The next process claims it anyway."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503)]
    rig.run()
    rig.spool.failing = {"release"}
    assert rig.sender.stop(1.0)


# --- the thread --------------------------------------------------------------------------------


class Gate:
    """Holds a request until the test lets it through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, bodies) -> Answer:
        self.reached.set()
        assert self.open.wait(10)
        return received(bodies)


@pytest.fixture
def started(rig):
    """Make a rig whose thread runs on real time, and end it with the test."""
    senders: list[Sender] = []

    def start(**options) -> Rig:
        real = {"monotonic": time.monotonic, "wait": None, "linger_s": 0.0, "poll_s": 0.01}
        rig.sender = rig.make(**(real | options))
        senders.append(rig.sender)
        return rig

    yield start
    for sender in senders:
        assert sender.stop(5.0)


@pytest.fixture
def sender_threads():
    """Give the threads that senders have started since this test began; others may have left theirs."""
    before = set(threading.enumerate())
    return lambda: [thread for thread in set(threading.enumerate()) - before if thread.name == THREAD_NAME]


def test_the_thread_delivers(started):
    """What is put and notified is delivered in the background."""
    rig = started()
    gate = Gate()
    gate.open.set()
    rig.mixpanel.otherwise = gate
    assert rig.sender.start()
    rig.put(*events(1))
    rig.sender.notify()
    assert gate.reached.wait(5)
    assert rig.sender.stop(5.0)
    assert rig.spool.acked == events(1)


def test_starting_twice_makes_one_thread(sender_threads, started):
    """Start may be called with every record."""
    rig = started()
    assert all(rig.sender.start() for _ in range(3))
    assert len(sender_threads()) == 1


def test_the_thread_is_a_daemon(sender_threads, started):
    """It never keeps a process from exiting."""
    rig = started()
    rig.sender.start()
    assert sender_threads()[0].daemon


def test_nothing_runs_before_start(sender_threads, started):
    """Making a sender costs no thread."""
    started()
    assert sender_threads() == []


def test_a_stopped_sender_can_start_again(sender_threads, started):
    """The thread's life may be repeated."""
    rig = started()
    rig.sender.start()
    assert rig.sender.stop(5.0)
    assert sender_threads() == []
    rig.sender.start()
    assert len(sender_threads()) == 1


def test_a_thread_that_cannot_be_started_is_no_error(rig, monkeypatch):
    """At interpreter exit, or out of memory, the caller is told to deliver by itself."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not rig.sender.start()


def test_stop_does_not_wait_longer_than_asked(started):
    """A request under way may outlive the patience of an exit."""
    rig = started()
    gate = Gate()
    rig.mixpanel.otherwise = gate
    rig.put(*events(1))
    rig.sender.start()
    assert gate.reached.wait(5)
    assert not rig.sender.stop(0.01)
    gate.open.set()


def test_drain_waits_for_the_threads_request_at_most_until_its_deadline(started):
    """Two threads never send at once, and the exit is not held up."""
    rig = started()
    gate = Gate()
    rig.mixpanel.otherwise = gate
    rig.put(*events(1))
    rig.sender.start()
    assert gate.reached.wait(5)
    assert not rig.sender.drain(0.01)
    gate.open.set()
    assert rig.sender.drain(5.0)
    assert len(rig.mixpanel.sent) == 1


class Loop:
    """Lets the thread run on fake time through so many waits, and tells what had been sent by each."""

    def __init__(self, rig: Rig, waits: int) -> None:
        self.rig = rig
        self.left = waits
        self.seen: list[tuple[float, int]] = []
        self.done = threading.Event()
        self.end = threading.Event()

    def wait(self, seconds: float) -> None:
        self.seen.append((seconds, len(self.rig.mixpanel.sent)))
        self.rig.time.now_s += seconds
        self.left -= 1
        if self.left == 0:
            self.done.set()
            self.end.wait(10)


@pytest.fixture
def looped(rig):
    """Run the loop of the thread for some waits on fake time."""
    with contextlib.ExitStack() as stack:

        def run(waits: int, before, **options) -> list[tuple[float, int]]:
            loop = Loop(rig, waits)
            rig.sender = rig.make(wait=loop.wait, linger_s=1.0, **options)
            before(rig.sender)
            stack.callback(rig.sender.stop, 5.0)
            stack.callback(loop.end.set)
            rig.sender.start()
            assert loop.done.wait(5)
            return loop.seen

        yield run


def test_the_thread_lingers_after_the_first_notify(rig, looped):
    """Records that are put together are sent together."""
    rig.put(*events(1))
    assert looped(2, lambda sender: sender.notify()) == [(1.0, 0), (POLL_S, 1)]


def test_a_flush_skips_the_linger(rig, looped):
    """Who asks for a flush does not wait for company."""
    rig.put(*events(1))

    def flush(sender):
        sender.notify()
        sender.request_flush()

    assert looped(1, flush) == [(POLL_S, 1)]


def test_a_full_batch_skips_the_linger(rig, looped):
    """There is nothing to wait for once a request is full."""
    rig.put(*events(1))

    def fill(sender):
        sender.notify()
        sender.notify(MAX_RECORDS - 1)

    assert looped(1, fill) == [(POLL_S, 1)]


def test_without_notify_the_thread_polls(rig, looped):
    """Other processes put records without telling."""
    assert looped(2, lambda sender: None) == [(POLL_S, 0), (POLL_S, 0)]


def test_the_thread_outlives_an_error_of_its_own(rig, looped):
    """Even a clock that fails ends nothing; the thread waits a second and goes on."""
    broken: list[bool] = []

    def monotonic() -> float:
        if broken:
            broken.clear()
            raise OSError
        return rig.time.monotonic()

    rig.put(*events(1))
    seen = looped(2, lambda sender: broken.append(True), monotonic=monotonic)
    assert seen == [(1.0, 0), (POLL_S, 1)]


def test_a_forked_child_starts_anew(started):
    """The child has no thread, no claims and no held lock of its parent's."""
    rig = started()
    gate = Gate()
    rig.mixpanel.otherwise = gate
    rig.put(*events(1))
    rig.sender.start()
    assert gate.reached.wait(5)  # the parent's thread is in a request now, and holds the lock
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what is tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
            rig.mixpanel.otherwise = received
            before = rig.sender.stats()
            anew = not before["running"] and before["batches"] == 0 and before["lanes"]["import"]["held"] == 0
            rig.spool.put([Record("groups", b"{}")])
            delivered = rig.sender.drain(5.0) and rig.spool.acked == [b"{}"]
            status = 0 if anew and delivered and rig.sender.start() and rig.sender.stop(5.0) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    gate.open.set()


EXITING = """
import json, threading
from mixpanel_visitor.delivery.sending.http_client import Answer
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.delivery.spool import Claim

class Endless:
    def claim(self, endpoint, max_records, max_bytes):
        return Claim(endpoint=endpoint, bodies=(b"{}",), positions=(0,))
    def ack(self, claim, indexes):
        pass

begun = threading.Event()
def post(endpoint, bodies):
    begun.set()
    return Answer(status=200, body=json.dumps({"code": 200}).encode())

sender = Sender(Endless(), post)
sender.start()
begun.wait(10)
"""


def test_a_busy_thread_dies_quietly_with_the_interpreter():
    """An exit in the middle of delivery writes nothing to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", EXITING], check=False, capture_output=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, b"")


# --- what is told ------------------------------------------------------------------------------


def test_refused_credentials_are_logged_with_what_to_do(rig, caplog):
    """The line says what happened, what becomes of the events, and what to check."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(401, {"error": "Invalid credentials"})]
    rig.run()
    line = (
        "Sending to /import failed: Mixpanel refused the credentials (401: Invalid credentials). "
        "Events are kept in the spool and sending pauses for 60 s. Check MIXPANEL_TOKEN and MIXPANEL_REGION."
    )
    assert caplog.messages == [line]


def test_the_same_trouble_is_logged_once_a_minute(rig, caplog):
    """An outage does not fill the log; what was kept back is counted."""
    rig.put(*events(1))
    rig.mixpanel.otherwise = lambda bodies: answer(503)
    rig.run(for_s=59)
    assert len(caplog.messages) == 1
    rig.run(for_s=60)
    assert len(caplog.messages) == 2
    assert "more like this since the last" in caplog.messages[1]


def test_no_event_is_ever_logged(rig, caplog):
    """Neither names nor properties get into the log, whatever happens."""
    caplog.set_level(logging.DEBUG)
    rig.put(event("secret-name"), event("secret-name-too"))
    echo = {"index": 0, "field": "event", "message": "'secret-name' is no name"}
    rig.mixpanel.scripts["import"] = [LOST, answer(400), failed(echo), received]
    rig.run(for_s=60)
    assert caplog.messages
    assert "secret-name" not in caplog.text


def test_a_log_handler_that_raises_stops_nothing(rig):
    """The host's logging is not ours to rely on."""

    def explode(*line):
        raise ZeroDivisionError

    rig.sender = rig.make(log=explode)
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503)]
    rig.run(for_s=5)
    assert rig.spool.acked == events(1)


def test_the_recovery_is_logged(rig, caplog):
    """Who saw the trouble wants to see its end."""
    caplog.set_level(logging.INFO)
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503)]
    rig.run(for_s=5)
    assert caplog.messages[-1] == "Sending to /import works again."


def test_a_clock_that_is_wrong_is_told_once(rig, caplog):
    """The Date header tells how far our clock is off."""
    date = email.utils.formatdate(NOW_S - 60, usegmt=True)
    rig.mixpanel.otherwise = lambda bodies: answer(200, {"code": 200}, date=date)
    rig.put(*events(1))
    rig.run()
    rig.time.wait(120)
    rig.put(event("late"))
    rig.run()
    assert [message for message in caplog.messages if "clock" in message] == caplog.messages
    assert len(caplog.messages) == 1
    assert rig.sender.stats()["clock_offset_s"] == -180.0


def test_the_figures_tell_what_happened(rig):
    """Requests, statuses and records are counted."""
    rig.put(*events(3))
    rig.mixpanel.scripts["import"] = [answer(503), failed({"index": 0, "message": "bad"})]
    rig.run(for_s=5)
    stats = rig.sender.stats()
    figures = {name: stats[name] for name in ("batches", "delivered", "dead", "http", "retried")}
    assert figures == {
        "batches": 2,
        "delivered": 2,
        "dead": 1,
        "http": {503: 1, 400: 1},
        "retried": {"server": 1},
    }


def test_a_paused_lane_says_why_and_until_when(rig):
    """A status command can explain why nothing moves."""
    rig.put(*events(2))
    rig.mixpanel.scripts["import"] = [UNREACHABLE]
    rig.run()
    assert rig.lane() == {
        "paused_until_s": rig.time.clock() + 3.0,
        "why": "Mixpanel was not reached (refused: nobody there)",
        "failures": 1,
        "limit_bytes": 9_500_000,
        "held": 2,
        "parked": 0,
    }


def test_the_thread_syncs_after_each_round(started):
    """What was put while Mixpanel is away survives a power failure as well."""
    synced = threading.Event()
    rig = started(sync=synced.set)
    rig.sender.start()
    assert synced.wait(10.0)


def test_the_pauses_leave_the_seed_of_the_host_alone(rig):
    """A host that seeds `random` gets the same numbers with us as without."""
    rig.put(*events(1))
    rig.mixpanel.otherwise = lambda bodies: answer(503)
    random.seed(7)
    expected = random.random()
    random.seed(7)
    Sender(rig.spool, rig.mixpanel, clock=rig.time.clock, monotonic=rig.time.monotonic).step()
    assert rig.mixpanel.batches() == [events(1)]
    assert random.random() == expected
