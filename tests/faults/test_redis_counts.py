"""What is known of records that have gone to Redis: pending, delivered, dead-lettered or lost."""

import contextlib

import pytest
from support.components import needs
from support.journals import ALL
from support.redis_machines import delivered
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.spool import DeadReason

pytestmark = needs("redis-server")


def counted(host):
    """Return the figures of the records that a host has put."""
    host.clock.tick(2)  # a look at Redis is due
    counts = host.spool.counts()
    assert counts.written == counts.delivered + counts.dead_lettered + counts.pending + counts.lost
    return counts


def test_what_was_forwarded_is_pending_until_it_is_settled(server, machine):
    """That the journal has handed it to Redis says nothing of Mixpanel."""
    host, worker = machine(), machine("worker")
    server.kill()
    host.put(10)
    server.start()
    assert host.forwarded()
    assert (counted(host).pending, counted(host).delivered) == (10, 0)
    delivered(worker.spool)
    assert (counted(host).pending, counted(host).delivered) == (0, 10)


def test_what_another_process_has_forwarded_is_pending_as_well(server, machine):
    """One process of a host forwards for all; who has put it learns no entry of it."""
    host, worker = machine(), machine("worker")
    neighbour = machine()
    server.kill()
    neighbour.put(5)  # begins to forward first
    host.put(10)
    server.start()
    assert neighbour.forwarded()
    assert (counted(host).pending, counted(host).delivered) == (10, 0)
    delivered(worker.spool)
    assert (counted(host).pending, counted(host).delivered) == (0, 10)


def test_what_comes_later_keeps_nobody_waiting(server, machine):
    """Others go on putting; what was forwarded is known to be settled all the same."""
    host, worker = machine(), machine("worker")
    server.kill()
    host.put(10)
    server.start()
    assert host.forwarded()
    assert counted(host).pending == 10
    worker.put(1)
    claim = worker.spool.claim("import", 10, ALL)
    worker.spool.ack(claim, range(10))
    assert (counted(host).pending, counted(host).delivered) == (0, 10)


def test_what_was_forwarded_and_then_flushed_is_lost(server, machine):
    """It counts neither as delivered nor as pending."""
    host = machine()
    server.kill()
    host.put(10)
    server.start()
    assert host.forwarded()
    assert counted(host).pending == 10
    with server.client() as client:
        client.flushall()
    assert (counted(host).lost, counted(host).delivered) == (10, 0)


def test_a_dead_letter_of_another_worker_is_not_delivered(machine):
    """Who has put it is told."""
    host, worker = machine(), machine("worker")
    host.put_through(10)
    claim = worker.spool.claim("import", 10, ALL)
    worker.spool.bury(claim, {3: DeadReason(message="bad"), 4: DeadReason(message="bad")})
    worker.spool.ack(claim, [each for each in range(10) if each not in (3, 4)])
    counts = counted(host)
    assert (counts.delivered, counts.dead_lettered, counts.pending) == (8, 2, 0)


@pytest.mark.parametrize("paused", [False, True])
def test_flush_waits_for_mixpanel_not_for_redis(server, tmp_path, paused):
    """By whichever way the event came into Redis: without a worker it is not delivered, and flush says so."""
    from mixpanel_visitor.tracking.tracker import Tracker

    spool = f"{server.url}?journal={tmp_path}/journal"
    tracker = Tracker(token="t", secret_key="a-key-of-some-length", spool=spool, deliver=False)
    with contextlib.closing(tracker), server.client() as client:
        if paused:
            client.execute_command("CLIENT", "PAUSE", "800", "WRITE")
        tracker.track("u-1", "Paid")
        assert wait_until(
            lambda: client.xlen(client.keys("*:import")[0]) if client.keys("*:import") else 0, PATIENCE_S
        )
        assert not tracker.flush(timeout_s=1.2)
        stats = tracker.stats()
        assert (stats["delivered"], stats["pending"], stats["spooled"]) == (0, 1, 1)
