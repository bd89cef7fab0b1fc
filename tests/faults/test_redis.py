"""Redis misbehaves in every way there is a recipe for: what was accepted is delivered all the same.

Rows 29 to 31 of the fault table, each with a real redis-server.
"""

import contextlib
import os
import signal
import time

import pytest
from support.components import needs
from support.journals import ALL, Clock, event, names, open_journal, start_python
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.records import Record

pytestmark = needs("redis-server")

LONG_S = 300


@pytest.fixture
def server(tmp_path):
    """Return a Redis of one's own."""
    from support import redis_servers

    with redis_servers.running(tmp_path / "redis") as server:
        yield server


class Machine:
    """A host whose applications track into Redis; its pauses end when the test says so."""

    def __init__(self, server, directory, query="", *, url="", later_s=0, waits=False):
        from mixpanel_visitor.delivery.forwarding import ForwardingSpool
        from mixpanel_visitor.delivery.redis_streams import RedisSpool

        self.clock = Clock()
        self.clock.tick(later_s)
        self.server = RedisSpool(url or f"{server.url}{query}", monotonic=self.clock.monotonic)
        self.journal = open_journal(directory, self.clock)
        self.spool = ForwardingSpool(self.server, self.journal, waits=waits, monotonic=self.clock.monotonic)
        self.put_so_far = 0

    def put(self, count):
        """Track so many events; gives their names."""
        numbers = range(self.put_so_far, self.put_so_far + count)
        self.put_so_far += count
        self.spool.put([event(number) for number in numbers])
        return [str(number) for number in numbers]

    def put_through(self, count):
        """Track so many, and see them forwarded."""
        put = self.put(count)
        assert self.forwarded()
        return put

    def forwards(self):
        """Have it try once, whatever its pauses; gives whether nothing waits here."""
        self.clock.tick(LONG_S)
        with contextlib.suppress(SpoolUnavailableError):
            if (claim := self.spool.claim("import", 1, ALL)) is not None:
                self.spool.release(claim, [0])
        return self.diverted == 0

    @property
    def diverted(self):
        """How many records wait on this machine."""
        return self.journal.counts().store_pending

    def forwarded(self):
        """Let its pauses pass until nothing waits here."""

        def nothing_waits():
            self.clock.tick(LONG_S)
            return self.diverted == 0

        return wait_until(nothing_waits, PATIENCE_S)


@pytest.fixture
def machine(server, tmp_path):
    """Return machines that use the server."""
    with contextlib.ExitStack() as closing:

        def machine(name="host", query="", *, later_s=0, waits=False):
            made = Machine(server, tmp_path / name, query, later_s=later_s, waits=waits)
            closing.callback(made.spool.close)
            return made

        yield machine


def delivered(spool, endpoint="import"):
    """Claim and acknowledge everything that is in Redis; gives its names."""
    found = []
    while (claim := spool.claim(endpoint, 2_000, ALL)) is not None:
        found += names(claim.bodies)
        spool.ack(claim, range(len(claim)))
    return found


WAITS = pytest.mark.parametrize("waits", [False, True], ids=["journal-first", "before-response"])


@WAITS
def test_redis_is_killed_and_comes_back(server, machine, waits):
    """With its append-only file it has all that it took; what came meanwhile waited on the host."""
    host = machine(waits=waits)
    put = host.put_through(500)
    server.kill()
    put += host.put(500)
    assert not host.forwards()
    assert host.diverted == 500
    server.start()
    put += host.put(1)
    assert host.forwarded()
    assert delivered(host.spool) == put


def full(client):
    """There is no memory left."""
    client.config_set("maxmemory", 1)
    return lambda: client.config_set("maxmemory", 0)


def replica(client):
    """It was demoted, as after a failover."""
    client.replicaof("127.0.0.1", 1)
    return lambda: client.replicaof("NO", "ONE")


@WAITS
@pytest.mark.parametrize("trouble", [full, replica])
def test_redis_refuses(server, machine, trouble, waits):
    """The host keeps what comes, in order, and nothing is delivered twice."""
    host = machine(waits=waits)
    put = host.put_through(10)
    with server.client() as client:
        end = trouble(client)
        put += host.put(10)
        put += host.put(10)
        assert host.diverted == 20
        end()
    host.clock.tick(1)  # a look at the host is due, the next try to forward is not
    put += host.put(10)
    assert host.diverted == 30
    assert host.forwarded()
    assert delivered(host.spool) == put


@WAITS
def test_redis_is_nearly_full(server, machine, waits):
    """Others use it as well: from four fifths of its memory on the host keeps what comes."""
    host = machine(waits=waits)
    with server.client() as client:
        for number in range(200):  # of one large value, Redis holds a second copy for a while
            client.set(f"somebody's {number}", b"x" * 100_000)
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", int(used / 0.9))
        put = host.put(10)
        assert not host.forwards()
        assert host.diverted == 10
        client.config_set("maxmemory", 0)
    assert host.forwarded()
    assert delivered(host.spool) == put


@WAITS
def test_redis_has_no_connection_left(server, machine, waits):
    """The limit of clients is reached."""
    host = machine(waits=waits)
    with server.client() as client:
        client.ping()
        client.config_set("maxclients", 1)
        put = host.put(10)
        assert not host.forwards()
        assert host.diverted == 10
        client.config_set("maxclients", 100)
    assert host.forwarded()
    assert delivered(host.spool) == put


@WAITS
def test_redis_is_loading(server, machine, waits):
    """After a start it answers, but not yet with data."""
    host = machine(waits=waits)
    put = host.put_through(10)
    with server.client() as client:
        for number in range(20):
            client.set(f"key{number}", os.urandom(10_000))
        client.save()
    server.kill()
    server.options.update(
        {"appendonly": "no", "key-load-delay": "200000", "loading-process-events-interval-bytes": "1024"}
    )
    server.launch()
    assert wait_until(lambda: is_loading(server), PATIENCE_S)
    put += host.put(10)
    assert host.diverted == 10
    assert wait_until(server.is_up, PATIENCE_S)
    assert host.forwarded()
    assert delivered(host.spool) == put


def is_loading(server):
    """Whether it says so."""
    import redis

    with server.client() as client:
        try:
            client.get("key0")
        except redis.exceptions.BusyLoadingError:
            return True
        except redis.exceptions.ConnectionError:
            return False
    pytest.fail("it was too fast")


@WAITS
def test_redis_hangs(server, machine, waits):
    """A stopped server holds nobody up for long, and what it may have taken comes again."""
    host = machine(waits=waits)
    put = host.put_through(10)
    server.send_signal(signal.SIGSTOP)
    began_s = time.monotonic()
    put += host.put(10)
    put += host.put(10)
    assert time.monotonic() - began_s < PATIENCE_S / 4
    assert host.diverted == 20
    server.send_signal(signal.SIGCONT)
    assert host.forwarded()
    assert set(delivered(host.spool)) == set(put)


def test_redis_is_emptied(server, machine):
    """What was only there is gone, and counted as lost; what comes then is delivered."""
    host = machine()
    host.put_through(10)
    with server.client() as client:
        client.flushall()
    put = host.put_through(10)
    assert delivered(host.spool) == put
    counts = host.spool.counts()
    assert (counts.written, counts.delivered, counts.lost, counts.pending) == (20, 10, 10, 0)


def test_redis_is_emptied_under_a_worker(server, machine):
    """What it has in hand is delivered all the same."""
    host = machine()
    put = host.put(10)
    claim = host.spool.claim("import", 5, ALL)
    with server.client() as client:
        client.flushall()
    host.spool.ack(claim, range(5))
    put += host.put(10)
    assert delivered(host.spool) == put[5:]
    counts = host.spool.counts()
    assert (counts.written, counts.delivered, counts.lost, counts.pending) == (20, 20, 0, 0)


def test_somebody_opts_out_while_redis_is_away(server, machine):
    """What is there of him is not sent once it is back, whoever delivers."""
    host, worker = machine(), machine("worker")
    event_of = b'{"event":"%b","properties":{"distinct_id":"%b"}}'
    host.spool.put([Record("import", event_of % (b"1", b"ann")), Record("import", event_of % (b"2", b"bob"))])
    assert host.forwarded()
    server.kill()
    host.spool.withdraw(digests(["ann"]))
    server.start()
    host.spool.sync()  # as the sender's thread does after each round
    assert delivered(worker.spool) == ["2"]


def test_the_consumer_group_is_destroyed(server, machine):
    """It is made anew and reads from the beginning: what is delivered is not in the stream any more."""
    host = machine()
    put = host.put(10)
    claim = host.spool.claim("import", 1, ALL)
    host.spool.ack(claim, [0])
    host.spool.close()
    put += host.put(10)
    with server.client() as client:
        (stream,) = client.keys("*import")
        client.xgroup_destroy(stream, "senders")
    assert set(delivered(host.spool)) >= set(put[1:])


def test_what_an_earlier_process_has_left_on_the_host_goes_first(server, machine):
    """It is found at the first event."""
    host = machine()
    server.kill()
    put = host.put(10)
    host.spool.close()
    server.start()
    heir = machine(later_s=60)
    heir.put_so_far = host.put_so_far
    put += heir.put(10)
    assert heir.forwarded()
    assert delivered(heir.spool) == put


# --- workers ----------------------------------------------------------------------------------------


def test_two_workers_do_not_get_the_same(machine):
    """What one has in hand the other one does not see; at a stop it is given back at once, and in order."""
    first, second = machine("first"), machine("second")
    put = first.put_through(10) + first.put_through(10)
    assert len(first.spool.claim("import", 5, ALL)) == 5
    assert second.spool.claim("import", 100, ALL) is None
    first.spool.close()
    assert delivered(second.spool) == put


WORKER = r"""
import os, signal, sys
from mixpanel_visitor.delivery.redis_streams import RedisSpool

spool = RedisSpool(sys.argv[1])
claim = spool.claim("import", 1000, 10**9)
profiles = spool.claim("engage", 1000, 10**9)
spool.ack(claim, range(350))
print(len(claim), len(profiles), flush=True)
os.kill(os.getpid(), getattr(signal, sys.argv[2]))
spool.ack(claim, range(350, 1000))
spool.ack(profiles, [0, 1])
print("done", flush=True)
"""


def add(number):
    """A profile update that must not be applied twice."""
    return Record("engage", b'{"$distinct_id":"anna","$add":{"n":%d}}' % number)


def start_worker(server, how):
    """Start one that takes all, acknowledges 350, and is then killed or stopped."""
    worker = start_python(WORKER, f"{server.url}?idle_s=1", how)
    assert worker.stdout.readline() == "1000 2\n"
    return worker


def put_all(host):
    """Put 1,000 events in bundles of 100, and two updates."""
    put = [name for _ in range(10) for name in host.put(100)]
    host.spool.put([add(1), Record("engage", b'{"$distinct_id":"anna","$set":{"n":1}}')])
    assert host.diverted == 0
    return put


def test_a_worker_is_killed_in_the_middle(server, machine):
    """Its heir gets what was not acknowledged, no more, and is told of the death and what is in doubt."""
    host = machine(query="?idle_s=1", waits=True)
    put = put_all(host)
    worker = start_worker(server, "SIGKILL")
    assert worker.wait(PATIENCE_S) == -signal.SIGKILL
    worker.communicate()
    found = []

    def taken_over():
        host.clock.tick(LONG_S)
        while (claim := host.spool.claim("import", 2_000, ALL)) is not None:
            assert set(claim.crash_counts.values()) == {1}
            found.extend(names(claim.bodies))
            host.spool.ack(claim, range(len(claim)))
        return len(found) >= 650

    assert wait_until(taken_over, PATIENCE_S)
    assert found == put[350:]
    with server.client() as client:
        (lease,) = client.keys("*engage:lease")
        client.delete(lease)  # as after 30 seconds
        (stream,) = client.keys("*engage")
        (pending,) = client.xpending_range(stream, "senders", "-", "+", 10)
        client.xclaim(stream, "senders", pending["consumer"], 0, [pending["message_id"]], idle=31_000)
    claim = host.spool.claim("engage", 10, ALL)
    assert len(claim) == 2
    assert list(claim.ambiguous) == [0]


def test_a_worker_is_stopped_for_too_long(server, machine):
    """Another one takes over; what the first one says when it wakes up breaks nothing."""
    host = machine(query="?idle_s=1", waits=True)
    put = put_all(host)
    worker = start_worker(server, "SIGSTOP")
    found = []

    def taken_over():
        host.clock.tick(LONG_S)
        found.extend(delivered(host.spool))
        return len(found) >= 650

    try:
        assert wait_until(taken_over, PATIENCE_S)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
        output, errors = worker.communicate(timeout=PATIENCE_S)
    assert (output, errors) == ("done\n", "")
    assert found == put[350:]
    assert host.spool.counts().store_pending == 0


# --- failover ---------------------------------------------------------------------------------------


@WAITS
def test_a_replica_becomes_the_primary(tmp_path, waits):
    """What was on the replica is delivered; what comes until there is a primary again waits on the host."""
    from support import redis_servers

    with redis_servers.watched_pair(tmp_path / "redis") as (url, primary, replica):
        host = Machine(primary, tmp_path / "host", url=url, waits=waits)
        put = host.put_through(100)
        wanted = replication(primary)["master_repl_offset"]
        assert wait_until(lambda: replication(replica).get("slave_repl_offset", 0) >= wanted, PATIENCE_S)
        primary.kill()
        put += host.put(100)
        assert host.diverted == 100
        assert wait_until(lambda: replication(replica).get("role") == "master", PATIENCE_S)
        assert host.forwarded()
        assert delivered(host.spool) == put
        host.spool.close()


@WAITS
def test_a_replica_that_stands_still_stores_nothing(tmp_path, waits):
    """With wait=1 a record that is on one server only is kept on the host as well."""
    from support import redis_servers

    with redis_servers.watched_pair(tmp_path / "redis") as (_, primary, replica):
        assert wait_until(lambda: is_linked(replica), PATIENCE_S)
        host = Machine(primary, tmp_path / "host", "?wait=1", waits=waits)
        put = host.put_through(10)
        replica.send_signal(signal.SIGSTOP)
        put += host.put(10)
        assert not host.forwards()
        assert host.diverted == 10
        replica.send_signal(signal.SIGCONT)
        assert host.forwarded()
        assert set(delivered(host.spool)) == set(put)
        host.spool.close()


def is_linked(replica):
    """Whether it follows its primary."""
    return replication(replica).get("master_link_status") == "up"


def replication(server):
    """What it says of that; nothing while it changes its role."""
    import redis

    with server.client() as client, contextlib.suppress(redis.exceptions.RedisError):
        return client.info("replication")
    return {}


# --- rate -------------------------------------------------------------------------------------------


def test_all_workers_together_stay_below_the_rate(server):
    """Whoever claims first gets what the second has left; nothing is lost by it."""
    from mixpanel_visitor.delivery.redis_streams import RedisSpool

    first, second = (RedisSpool(server.url, rate_per_s=100) for _ in range(2))
    with contextlib.closing(first), contextlib.closing(second):
        first.put([event(number) for number in range(1_000)])
        claimed = []
        began_s = time.monotonic()
        for _ in range(20):
            for spool in (first, second):
                if (claim := spool.claim("import", 2_000, ALL)) is not None:
                    claimed.append(len(claim))
                    spool.ack(claim, range(len(claim)))
        # A second may have passed, and a bit of two others.
        assert 100 <= sum(claimed) <= 100 * (2 + int(time.monotonic() - began_s))


def test_so_many_may_send_and_no_more(server):
    """Mixpanel asks for few connections; who gives up leaves his place to others."""
    from mixpanel_visitor.delivery.redis_streams import RedisSpool
    from mixpanel_visitor.delivery.redis_streams.redis_spool import MAX_SENDERS

    with contextlib.ExitStack() as closing:
        spools = [
            closing.enter_context(contextlib.closing(RedisSpool(server.url))) for _ in range(MAX_SENDERS + 1)
        ]
        *all_but_one, last = spools
        for spool in all_but_one:
            assert spool.claim("import", 1, ALL) is None
        last.put([event(1)])
        assert last.claim("import", 1, ALL) is None
        all_but_one[0].close()
        assert names(last.claim("import", 1, ALL).bodies) == ["1"]


# --- what is known of it ----------------------------------------------------------------------------


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
