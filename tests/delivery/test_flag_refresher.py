"""FlagRefresher: who fetches definitions and when, and how the others get them."""

from __future__ import annotations

import pytest
from support.journals import Clock
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.flags.fetcher import Answer
from mixpanel_visitor.delivery.flags.refresher import FlagRefresher
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog


class Reader:
    """Takes whatever comes, but for `bad`."""

    def __init__(self):
        self.known = b""

    def read_answer(self, body):
        self.read_shared(body)
        return body

    def read_shared(self, entries):
        if b"bad" in entries:
            raise ValueError("it is bad")
        self.known = entries


class Process:
    """A process that uses flags, with what Mixpanel answers it."""

    def __init__(self, clock, spool, *answers, delivers=True):
        self.asked, self.reader, self.spool = [], Reader(), spool
        self._answers = list(answers)
        self._clock = clock
        self.refresher = FlagRefresher(
            spool,
            self.reader,
            fetch=self._fetch if delivers else None,
            every_s=60.0,
            clock=clock.time,
            monotonic=clock.monotonic,
            log=RateLimitedLog(clock.monotonic),
        )

    def _fetch(self, etag):
        self.asked.append(etag)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def round(self):
        """Do what the sender's thread does after a round, and wait for the request that it may have begun."""
        self.refresher.refresh()
        assert wait_until(lambda: not self.refresher._fetching_pid, PATIENCE_S)


@pytest.fixture
def clock():
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def start(clock, tmp_path):
    """Return a way to start a process; all have one spool."""
    spools = []

    def started(*answers, **more):
        spools.append(Journal(tmp_path / "spool", clock=clock.time, monotonic=clock.monotonic))
        return Process(clock, spools[-1], *answers, **more)

    yield started
    for spool in spools:
        spool.close()


def test_the_process_that_leads_fetches_once_a_minute(start, clock):
    """With the ETag of what it has; the others read what it shares."""
    leader = start(Answer(body=b"[1]", etag="one"), Answer())
    follower = start(Answer(body=b"[never]"))
    for _ in range(5):
        leader.round(), follower.round()
        clock.tick(1)
    assert (leader.reader.known, follower.reader.known) == (b"[1]", b"[1]")
    clock.tick(60)
    leader.round(), follower.round()
    assert (leader.asked, follower.asked) == (["", "one"], [])
    clock.tick(1)
    follower.round()
    assert follower.refresher.age_s == 1


def test_a_process_that_does_not_deliver_never_leads(start):
    """It would keep the lead from one that does."""
    follower = start(delivers=False)
    follower.round()
    assert start(Answer(body=b"[1]")).spool.leads()


def test_what_is_old_is_fetched_at_once(start, clock):
    """By a process that starts; until the answer is here, the old ones count."""
    first = start(Answer(body=b"[1]", etag="one"))
    first.round()
    first.spool.close()
    clock.tick(30)
    second = start(Answer(error="away"))
    second.round()
    assert (second.asked, second.reader.known) == ([], b"[1]")
    clock.tick(31)
    second.round()
    assert (second.asked, second.reader.known) == (["one"], b"[1]")


def test_after_a_failure_it_is_tried_again_sooner(start, clock):
    """After one second, two, four, and at last each minute."""
    leader = start(Answer(error="away"))
    at_s = []
    for second in range(200):
        before = len(leader.asked)
        leader.round()
        at_s += [second] * (len(leader.asked) - before)
        clock.tick(1)
    assert at_s == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert (leader.refresher.failed, leader.refresher.fetched) == (9, 0)


@pytest.mark.parametrize("answer", [Answer(body=b"bad"), Answer()])
def test_an_answer_that_cannot_be_taken_is_a_failure(clock, answer):
    """What was known counts on."""
    process = Process(clock, MemorySpool(clock=clock.time), answer)
    process.round()
    assert (process.refresher.failed, process.reader.known) == (1, b"")


def test_a_spool_that_cannot_share_is_logged_and_hurts_nobody(start, clock, tmp_path, caplog):
    """This process goes on with what it has."""
    leader = start(Answer(body=b"[1]"))
    (tmp_path / "spool").write_text("a file in its place")
    for _ in range(3):
        leader.round()
        clock.tick(1)
    assert caplog.text.count("does not share the definitions of feature flags") == 1
