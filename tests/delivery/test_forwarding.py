"""Forwarding: the journal of this machine takes events first, and Redis has them soon."""

import contextlib
import os
import threading

import pytest
from support.components import needs
from support.journals import ALL, Clock, deliver, event, names, open_journal, profile, run_python, waiting
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.forwarding import ForwardingSpool
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.redis_streams import RedisSpool
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.records import Record

pytestmark = needs("redis-server")

NOWHERE = "redis://127.0.0.1:1/0"

FINALIZER = """
import sys
from support.journals import event
from mixpanel_visitor.delivery.forwarding import ForwardingSpool
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.redis_streams import RedisSpool

class Last:
    def __del__(self):
        assert sys.meta_path is None  # so that nothing can be imported
        spool.put([event("last")])

spool = ForwardingSpool(RedisSpool("redis://127.0.0.1:1/0"), Journal(sys.argv[1]))
sys.modules["last"] = Last()
"""


@pytest.fixture
def hosts(redis_url, tmp_path):
    """Make spools of processes; those with one name share a machine, and so a journal."""
    url = redis_url("redis")
    with contextlib.ExitStack() as closing:

        def host(name="host", *, url=url, waits=False, clock=None, max_bytes=None):
            clock = clock or Clock()
            spool = ForwardingSpool(
                RedisSpool(url, monotonic=clock.monotonic),
                open_journal(tmp_path / name, clock, max_bytes=max_bytes, refresh_every_s=0),
                waits=waits,
                monotonic=clock.monotonic,
            )
            closing.callback(spool.close)
            return spool

        yield host


def entries(client):
    """Return what the stream of events holds."""
    streams = client.keys("*:import")
    return client.xrange(streams[0]) if streams else []


def test_many_requests_are_one_entry(hosts, client):
    """It is the entry that costs, not the event."""
    spool = hosts()
    for number in range(100):
        spool.put([event(number)])
    assert entries(client) == []
    assert names(spool.claim("import", 200, ALL).bodies) == [str(number) for number in range(100)]
    assert len(entries(client)) == 1


def test_nobody_waits_for_a_redis_that_is_away(hosts):
    """The request has stored its events once they are in the journal."""
    spool = hosts(url=NOWHERE)
    spool.put([event(1)])
    assert spool.counts().pending == spool.journal.counts().pending == 1


def test_a_claim_forwards_before_it_looks(hosts):
    """So that a process that ends delivers what it has just put: it has no time to linger."""
    spool = hosts()
    spool.put([event(1), profile(2)])
    assert names(spool.claim("import", 10, ALL).bodies) == ["1"]
    assert names(spool.claim("engage", 10, ALL).bodies) == ["2"]


def test_closing_forwards(hosts):
    """What was put last is in Redis, for others to deliver."""
    spool, worker = hosts(), hosts("worker")
    spool.put([event(1)])
    spool.close()
    assert deliver(worker) == ["1"]


def test_what_an_earlier_process_has_left_is_forwarded_though_nothing_is_put(hosts, tmp_path):
    """A process that only starts finds it: the sender's thread syncs in every round."""
    left = open_journal(tmp_path / "host", Clock())
    left.put([event(1)])
    left.close()
    clock = Clock()
    spool, worker = hosts(clock=clock), hosts("worker")
    spool.sync()

    def is_forwarded():
        clock.tick(1)
        return spool.journal.counts().store_pending == 0

    assert wait_until(is_forwarded, PATIENCE_S)
    assert deliver(worker) == ["1"]


def test_what_a_finalizer_puts_while_the_interpreter_ends_stays_in_the_journal(tmp_path):
    """There is no thread and no import any more: another process forwards it, and nobody is alarmed."""
    assert run_python(FINALIZER, tmp_path) == ""
    assert waiting(open_journal(tmp_path, Clock())) == ["last"]


def test_one_process_of_a_machine_forwards_for_all(hosts):
    """And each knows what became of its own records, once that is settled."""
    clock = Clock()
    first, second = hosts(clock=clock), hosts(clock=clock)
    first.put([event(1)])
    assert names(first.claim("import", 1, ALL).bodies) == ["1"]
    second.put([event(2), event(3)])

    def is_forwarded():
        clock.tick(2)
        return second.journal.counts().pending == 0

    assert wait_until(is_forwarded, PATIENCE_S)
    assert second.counts().pending == 2
    first.close()
    assert deliver(hosts("worker")) == ["1", "2", "3"]
    clock.tick(2)
    for spool, put in ((first, 1), (second, 2)):
        counts = spool.counts()
        assert (counts.written, counts.delivered, counts.pending, counts.lost) == (put, put, 0, 0)


def test_dead_letters_are_counted_where_they_were_put(hosts):
    """Though another process has forwarded them and a third one has sent them."""
    clock = Clock()
    leader, follower, worker = hosts(clock=clock), hosts(clock=clock), hosts("worker")
    leader.put([event(1)])
    assert names(leader.claim("import", 1, ALL).bodies) == ["1"]
    follower.put([event(2), event(3)])

    def is_forwarded():
        clock.tick(2)
        return follower.journal.counts().pending == 0

    assert wait_until(is_forwarded, PATIENCE_S)
    assert follower.counts().pending == 2
    claim = worker.claim("import", 10, ALL)
    worker.bury(claim, {0: DeadReason(message="bad")})
    worker.ack(claim, [1])
    leader.close()
    assert deliver(worker) == ["1"]
    clock.tick(2)
    for spool, delivered, dead in ((leader, 1, 0), (follower, 1, 1)):
        counts = spool.counts()
        assert (counts.delivered, counts.dead_lettered, counts.pending) == (delivered, dead, 0)


def test_a_record_that_no_entry_can_hold_is_set_aside(hosts):
    """The journal takes it; what comes with it and after it is delivered."""
    spool = hosts()
    too_large = Record("import", b'{"event":"large","text":"%s"}' % (b"x" * 17_000_000))
    spool.put([event(1), too_large, event(2)])
    assert deliver(spool) == ["1", "2"]
    counts = spool.counts()
    assert (counts.written, counts.delivered, counts.dead_lettered, counts.pending) == (3, 2, 1, 0)


def test_an_opt_out_finds_what_waits_on_this_machine(hosts):
    """Before it is forwarded and after, nothing of that person is sent."""
    record = b'{"event":"%b","properties":{"distinct_id":"%b"}}'
    spool, worker = hosts(), hosts("worker")
    spool.put([Record("import", record % (b"1", b"ann"))])
    deliver(spool, "engage")  # which forwards the first one
    spool.put([Record("import", record % (b"2", b"ann")), Record("import", record % (b"3", b"bob"))])
    spool.withdraw(digests(["ann"]))
    spool.close()
    assert deliver(worker) == ["3"]


def test_who_has_opted_out_is_known_on_every_machine(hosts):
    """A job may run on another one, and ask before anything was put there."""
    spool, other = hosts(), hosts("other")
    spool.put([event(1)])
    spool.withdraw(digests(["ann"]))
    assert spool.opted_out_since(digests(["ann"]), 0)
    assert other.opted_out_since(digests(["ann"]), 0)
    assert not other.opted_out_since(digests(["bob"]), 0)


def test_who_opts_out_while_redis_is_away_is_known_on_this_machine(hosts):
    """Redis hears of it later; a job of this machine need not wait for that."""
    spool = hosts(url=NOWHERE)
    spool.put([event(1)])
    spool.withdraw(digests(["ann"]))
    assert spool.opted_out_since(digests(["ann"]), 0)
    with pytest.raises(SpoolUnavailableError):
        spool.opted_out_since(digests(["bob"]), 0)


def test_one_process_of_all_machines_fetches_flags_and_all_have_them(hosts):
    """The lease and the definitions are in Redis, whatever is in the journals."""
    spool, other = hosts(), hosts("other")
    assert spool.leads()
    assert not other.leads()
    spool.share_flags(b"definitions")
    assert other.shared_flags() == b"definitions"
    assert other.shared_flags() is None


def test_the_journal_says_how_much_room_is_left(hosts):
    """It takes all records first; that Redis has room as well helps no request."""
    spool = hosts(max_bytes=1_000)
    assert spool.fill() == 0
    spool.put([Record("import", b'{"event":"%s"}' % (b"x" * 700))])
    assert spool.fill() > 0.7


def test_redis_says_how_much_room_is_left_where_requests_wait_for_it(redis_url, tmp_path):
    """As long as nothing waits in the journal, which has no room at all here."""
    server = RedisSpool(redis_url("redis"), max_bytes=1_000)
    with contextlib.closing(ForwardingSpool(server, Journal(tmp_path, max_bytes=1), waits=True)) as spool:
        spool.put([Record("import", b'{"event":"%s"}' % os.urandom(450).hex().encode())])
        spool.put([event(1)])
        assert 0.4 < spool.fill() < 0.9


def test_without_room_in_the_journal_requests_wait_for_redis(hosts, caplog):
    """A disk that is full, or that cannot be written, refuses nothing as long as Redis is there."""
    spool = hosts(max_bytes=10)
    spool.put([event(1)])
    assert waiting(spool) == ["1"]
    assert "Requests wait for Redis" in caplog.text


def test_without_both_the_records_are_refused(hosts):
    """With the journal's own words, for its disk is what can be mended here."""
    spool = hosts(url=NOWHERE, max_bytes=10)
    with pytest.raises(Exception, match="is full") as raised:
        spool.put([event(1)])
    assert raised.value.reason == "spool_full"


def test_a_put_that_waits_returns_when_redis_has_it(hosts, client):
    """And no file is written: before-response, where the machine's disk may not last."""
    spool = hosts(waits=True)
    spool.put([event(1)])
    assert len(entries(client)) == 1
    assert not spool.journal.directory.exists()


def test_puts_that_wait_share_a_round_trip(hosts, client):
    """What comes while one is under way goes into one entry together."""
    spool = hosts(waits=True)
    spool.put([event("first")])
    client.client_pause(150)
    threads = [threading.Thread(target=spool.put, args=([event(number)],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(entries(client)) <= 4
    assert len(deliver(spool)) == 9


def test_a_worker_is_told_of_a_redis_that_is_away(hosts):
    """The sender pauses then; nothing is taken for empty."""
    spool = hosts(url=NOWHERE)
    with pytest.raises(SpoolUnavailableError):
        spool.claim("import", 1, ALL)
