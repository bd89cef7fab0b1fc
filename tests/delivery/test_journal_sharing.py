"""Journal: many processes on one directory, one of which leads."""

import gc
import json

import pytest
from support.journals import (
    ALL,
    deliver,
    event,
    leave_behind,
    open_journal,
    segments,
    waiting,
)

from mixpanel_visitor.delivery.spool import DeadReason

REFUSED = DeadReason(message="too old", field="properties.time", status=400)


def test_only_one_of_them_leads(open_spool):
    """The others put; what they have put is delivered all the same."""
    leader, follower = open_spool(), open_spool()
    leader.put([event(1)])
    follower.put([event(2)])
    assert sorted(waiting(leader)) == ["1", "2"]
    assert follower.claim("import", 10, ALL) is None
    assert leader.counts().leader
    assert not follower.counts().leader


def test_others_records_are_seen_within_a_quarter_of_a_second(open_spool, clock):
    """The directory is not listed for every claim; a put of the same process is seen at once."""
    leader, follower = open_spool(), open_spool()
    leader.put([event(1)])
    assert deliver(leader) == ["1"]
    follower.put([event(2)])
    assert leader.claim("import", 10, ALL) is None
    clock.tick(0.26)
    assert deliver(leader) == ["2"]
    leader.put([event(3)])
    assert deliver(leader) == ["3"]


@pytest.mark.parametrize("end", ["close", "drop"])
def test_the_lead_moves_on(open_spool, directory, clock, end):
    """Another one takes over within a second, and delivers what is left."""
    leader, follower = open_journal(directory, clock), open_spool()
    leader.put([event(1), event(2)])
    leader.ack(leader.claim("import", 1, ALL), [0])
    claim = leader.claim("import", 1, ALL)
    assert follower.claim("import", 10, ALL) is None
    if end == "close":
        leader.close()
        leader.ack(claim, [0])
    del leader
    gc.collect()
    assert follower.claim("import", 10, ALL) is None
    clock.tick(1)
    assert deliver(follower) == ["2"]
    assert follower.counts().leader


def test_a_follower_knows_what_became_of_its_own(open_spool, directory, clock):
    """From acks.json while the segments are there, and from what is left of it afterwards."""
    leader, follower = open_spool(), open_spool(segment_bytes=1)
    leader.put([event("leader's")])
    assert deliver(leader) == ["leader's"]
    for number in range(4):
        follower.put([event(number)])
    clock.tick(2)
    claim = leader.claim("import", 2, ALL)
    leader.ack(claim, [0])
    leader.bury(claim, {1: REFUSED})
    counts = follower.counts()
    assert (counts.written, counts.delivered, counts.dead_lettered, counts.pending) == (4, 1, 1, 2)
    assert (counts.store_pending, counts.store_dead, counts.leader) == (2, 1, False)
    deliver(leader)
    clock.tick(2)
    assert leader.claim("import", 2, ALL) is None
    assert len(segments(directory)) == 2  # those that are still written to
    counts = follower.counts()
    assert (counts.written, counts.delivered, counts.dead_lettered, counts.pending) == (4, 3, 1, 0)
    assert (counts.lost, counts.store_pending, counts.oldest_age_s) == (0, 0, 0.0)
    assert leader.counts().delivered == 1


def test_segments_that_are_long_gone_were_delivered(open_spool, directory, clock):
    """The leader keeps the figures of a deleted segment for an hour only."""
    leader, follower = open_spool(), open_spool(segment_bytes=1)
    leader.put([event(0)])
    follower.put([event(1)])
    follower.put([event(2)])
    clock.tick(1)
    assert sorted(deliver(leader)) == ["0", "1", "2"]
    clock.tick(1)
    assert leader.claim("import", 10, ALL) is None
    gone = follower._producer.names()[0]
    assert gone in (directory / "acks.json").read_text()
    for _ in range(2):
        clock.tick(3700)
        assert leader.claim("import", 10, ALL) is None
    assert gone not in (directory / "acks.json").read_text()
    counts = follower.counts()
    assert (counts.written, counts.delivered, counts.pending, counts.lost) == (2, 2, 0, 0)


def test_acks_do_not_grow_for_ever(open_spool, directory):
    """Many small segments within an hour: the longest gone are forgotten first."""
    journal = open_spool(segment_bytes=1)
    for number in range(600):
        journal.put([event(number)])
    assert len(deliver(journal)) == 600
    journal.close()
    entries = json.loads((directory / "acks.json").read_bytes())["segments"]
    assert len(entries) == 512
    assert journal.counts().delivered == 600


def test_a_writer_that_nobody_asks_forgets_its_old_segments(open_spool, directory, clock):
    """A process that only puts, for months, must not remember every segment it has written."""
    leader, follower = open_spool(), open_spool(segment_bytes=1)
    leader.put([event("first")])
    for number in range(300):
        follower.put([event(number)])
        if number % 50 == 0:
            clock.tick(2)
            deliver(leader)
    assert len(follower._producer.names()) < 100
    clock.tick(2)
    deliver(leader)
    counts = follower.counts()
    assert (counts.written, counts.delivered, counts.pending) == (300, 300, 0)


def test_delivery_under_two_leaders_counts_once(open_spool, directory, clock):
    """What the first has acknowledged out of order the second delivers again."""
    first, second = open_spool(), open_spool()
    first.put([event(number) for number in range(4)])
    first.claim("import", 2, ALL)
    first.ack(first.claim("import", 2, ALL), [0, 1])
    assert first.counts().delivered == 2
    first.close()
    clock.tick(1)
    assert len(deliver(second)) == 4
    second.close()
    counts = first.counts()
    assert (counts.delivered, counts.pending, counts.lost) == (4, 0, 0)


def test_a_duplicate_that_is_refused_was_delivered(open_spool, directory, clock):
    """Delivered, delivered again because acks.json was lost, and then refused: the figures still add up."""
    first, second = open_spool(), open_spool()
    first.put([event(1)])
    claim = first.claim("import", 10, ALL)
    first.ack(claim, [0])
    assert first.counts().delivered == 1
    (directory / "acks.json").unlink()
    second.put([event(2)])
    first._consumer.close()  # the lead goes, the segment stays
    clock.tick(1)
    claim = second.claim("import", 10, ALL)
    second.bury(claim, {0: REFUSED, 1: REFUSED})
    counts = first.counts()
    assert (counts.written, counts.delivered, counts.dead_lettered, counts.lost) == (1, 1, 0, 0)


def test_counts_of_a_large_store_are_estimated_first(open_spool, directory, clock):
    """A follower counts sixteen megabytes in a call, and ends up exact."""
    record = event("x" * 100_000)
    for number in range(5):
        leave_behind(directory, [record] * 50, name=f"{number:016d}-x-1-0-1.seg")
    leader, follower = open_spool(), open_spool()
    leader.put([event("small")])
    leader.claim("groups", 1, 1)
    assert follower.counts().store_pending == pytest.approx(251, rel=0.05)
    assert follower.counts().store_pending == 251
    assert leader.counts().store_pending == pytest.approx(251, rel=0.05)
    for _ in range(8):
        last = leader.counts().store_pending
    assert last == 251
