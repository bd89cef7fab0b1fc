"""Workers share one Redis: who has what in hand, who takes over from whom, and how much all may send.

Row 31 of the fault table, with a real redis-server.
"""

import contextlib
import os
import signal
import time

from support.components import needs
from support.journals import ALL, event, names, start_python
from support.redis_machines import LONG_S, delivered
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.records import Record

pytestmark = needs("redis-server")


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
