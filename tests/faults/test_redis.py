"""Redis misbehaves in every way there is a recipe for: what was accepted is delivered all the same.

Rows 29 and 30 of the fault table, each with a real redis-server.
"""

import contextlib
import os
import signal
import time

import pytest
from support.components import needs
from support.journals import ALL
from support.redis_machines import Machine, delivered
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.records import Record

pytestmark = needs("redis-server")

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
