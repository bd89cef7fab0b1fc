"""What is Redis' own about the spool in Redis: bundles, partitions, ownership."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.journals import ALL, event, names, start_python
from support.waiting import PATIENCE_S

from mixpanel_visitor.delivery.redis_streams import RedisSpool, codec
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.records import Record

IDLE_S = 300


@pytest.fixture
def make(redis_url, clock):
    """Make spools, each a process of its own as far as Redis is concerned."""
    url = redis_url("redis")
    with contextlib.ExitStack() as closing:

        def make(query=""):
            spool = RedisSpool(f"{url}{query}", clock=clock.time, monotonic=clock.monotonic)
            closing.callback(spool.close)
            return spool

        yield make


def stream_of(client, endpoint="import"):
    """Return the name of the only stream of an endpoint."""
    (stream,) = client.keys(f"*:{endpoint}")
    return stream


def let_idle(client, seconds, endpoint="import"):
    """Make all that is in hand look as if its owner had been silent for so long."""
    stream = stream_of(client, endpoint)
    for each in client.xpending_range(stream, "senders", "-", "+", 100):
        client.xclaim(
            *(stream, "senders", each["consumer"], 0, [each["message_id"]]), idle=seconds * 1000, justid=True
        )


# --- bundles --------------------------------------------------------------------------------------------


@given(st.lists(st.binary().filter(lambda body: b"\n" not in body), min_size=1), st.integers(0, 2**53))
def test_a_bundle_is_read_as_it_was_written(bodies, time_ms):
    """Byte for byte."""
    found = codec.decode(codec.encode(bodies, time_ms))
    assert (list(found.bodies), found.time_ms) == (bodies, time_ms)


@given(st.dictionaries(st.sampled_from([b"t", b"n", b"z", b"x"]), st.binary()))
def test_what_is_no_bundle_is_refused(fields):
    """In one way only, whatever the bytes are."""
    with contextlib.suppress(codec.UnreadableError):
        codec.decode(fields)


def test_one_put_is_one_entry(make, client):
    """Compressed, so that it takes a third of the memory."""
    bodies = [b'{"event":"Page viewed","properties":{"number":%d}}' % number for number in range(100)]
    records = [Record("import", body) for body in bodies]
    make().put(records)
    ((_, fields),) = client.xrange(stream_of(client))
    assert len(fields[b"z"]) < sum(len(record.body) for record in records) / 3


def test_an_entry_that_cannot_be_read_is_set_aside(make, client):
    """With its bytes; what is behind it is delivered."""
    spool = make()
    spool.put([event(1)])
    client.xadd(stream_of(client), {"who": "knows"})
    spool.put([event(2)])
    found = []
    while (claim := spool.claim("import", 10, ALL)) is not None:
        found += names(claim.bodies)
        spool.ack(claim, range(len(claim)))
    assert found == ["1", "2"]
    ((_, letter),) = client.xrange(spool.dead_letters.key)
    assert b"damaged" in letter[b"reason"]
    assert b"who".hex().encode() in letter[b"body"]
    assert client.xlen(stream_of(client)) == 0


def test_a_dead_letter_has_all_that_is_known(make, client, clock):
    """When, where to, why, and its bytes."""
    spool = make()
    spool.put([event(1)])
    claim = spool.claim("import", 10, ALL)
    spool.bury(claim, {0: DeadReason(message="too old", field="time", status=400)})
    ((_, letter),) = client.xrange(spool.dead_letters.key)
    assert letter == {
        b"time_ms": str(int(clock.time() * 1000)).encode(),
        b"endpoint": b"import",
        b"reason": b'{"message":"too old","field":"time","status":400}',
        b"body": event(1).body,
    }


# --- partitions -----------------------------------------------------------------------------------------


def profile(person, number):
    """An update of somebody's profile."""
    return Record("engage", b'{"$distinct_id":"%d","$set":{"n":%d}}' % (person, number))


def test_all_updates_of_a_profile_are_in_one_partition(make):
    """In their order, whoever puts them."""
    spools = [make("?partitions=8") for _ in range(3)]
    for number in range(30):
        spools[number % 3].put([profile(person, number) for person in range(5)])
    reader = make("?partitions=8")
    seen = {person: [] for person in range(5)}
    while (claim := reader.claim("engage", 1_000, ALL)) is not None:
        for body in claim.bodies:
            update = json.loads(body)
            seen[int(update["$distinct_id"])].append(update["$set"]["n"])
        reader.ack(claim, range(len(claim)))
    assert all(numbers == list(range(30)) for numbers in seen.values())


def test_a_profile_is_updated_by_one_worker_at_a_time(make):
    """Two could overtake each other; of events both get some."""
    first, second = make(), make()
    first.put([profile(1, 1)])
    assert first.claim("engage", 10, ALL) is not None
    first.put([profile(1, 2)])
    assert second.claim("engage", 10, ALL) is None
    first.close()
    assert len(second.claim("engage", 10, ALL)) == 2


# --- ownership ------------------------------------------------------------------------------------------


def test_who_is_alive_keeps_what_is_in_hand(make, client, clock):
    """However long Mixpanel makes it wait."""
    owner, other = make(), make()
    owner.put([event(1)])
    claim = owner.claim("import", 10, ALL)
    let_idle(client, IDLE_S + 1)
    owner.send_heartbeat()
    clock.tick(IDLE_S)
    assert other.claim("import", 10, ALL) is None
    owner.ack(claim, [0])
    assert owner.counts().delivered == 1


FORKING = r"""
import os, sys
from support.journals import event, forks, names
from mixpanel_visitor.delivery.redis_streams import RedisSpool

spool = RedisSpool(sys.argv[1])
spool.put([event(1), event(2)])
claim = spool.claim("import", 1, 10**9)
spool._heartbeat.stop()
spool._heartbeat._thread.join()
child = forks[sys.argv[2]]()
if child == 0:
    spool.put([event(3)])
    taken = spool.claim("import", 10, 10**9)
    spool.ack(taken, range(len(taken)))
    print("child", names(taken.bodies), spool.counts().written, flush=True)
    os._exit(0)
os.waitpid(child, 0)
spool.ack(claim, [0])
rest = spool.claim("import", 10, 10**9)
spool.ack(rest, range(len(rest)))
print("parent", names(claim.bodies), names(rest.bodies), spool.counts().written)
spool.close()
"""


@pytest.mark.parametrize("how", ["os", "libc"])
def test_a_forked_child_is_a_consumer_of_its_own(redis_url, how):
    """What is in hand is the parent's, whether Python knows of the fork or not."""
    forking = start_python(FORKING, redis_url("redis"), how)
    output, errors = forking.communicate(timeout=PATIENCE_S)
    assert errors == ""
    assert output.splitlines() == ["child ['3'] 1", "parent ['1'] ['2'] 2"]


def test_who_was_silent_lets_go(make, client, clock):
    """What another one has taken over is not in hand any more when it wakes up."""
    owner, other = make(), make()
    owner.put([event(1)])
    claim = owner.claim("import", 10, ALL)
    let_idle(client, IDLE_S + 1)
    taken = other.claim("import", 10, ALL)
    assert taken.crash_counts == {0: 1}
    owner.send_heartbeat()
    owner.release(claim, [0])
    assert owner.claim("import", 10, ALL) is None
    other.ack(taken, [0])
    assert client.xlen(stream_of(client)) == 0


def test_an_answer_that_was_lost_on_its_way_is_asked_for_again(make, client, clock):
    """The entry is this consumer's own, and it does not know."""
    owner = make()
    owner.put([event(1)])
    client.xreadgroup("senders", owner._streams.consumer, {stream_of(client): ">"})
    assert owner.claim("import", 10, ALL) is None
    let_idle(client, IDLE_S + 1)
    clock.tick(IDLE_S)
    claim = owner.claim("import", 10, ALL)
    assert names(claim.bodies) == ["1"]
    assert claim.crash_counts == {}


def test_what_others_have_delivered_is_known_in_the_end(make, clock):
    """A process that only stores counts what workers did."""
    producer, worker = make(), make()
    producer.put([event(1), event(2)])
    producer.put([event(3)])
    assert producer.counts().pending == 3
    claim = worker.claim("import", 10, ALL)
    worker.ack(claim, [0, 1])
    clock.tick(2)
    assert producer.counts().pending == 1
    worker.ack(claim, [2])
    clock.tick(2)
    counts = producer.counts()
    assert (counts.written, counts.delivered, counts.pending) == (3, 3, 0)
    assert worker.counts().written == 0


def test_an_opt_out_does_not_read_all_the_others(make, client):
    """Anybody can opt out, at any rate, and there may be a hundred thousand."""
    spool = make()
    spool.withdraw(digests(["first"]))
    client.config_resetstat()
    for number in range(20):
        spool.withdraw(digests([f"person-{number}"]))
    assert "cmdstat_hgetall" not in client.info("commandstats")
    assert spool.revision() == 21


def test_opt_outs_of_two_processes_are_known_to_both(make, clock):
    """Also where both add some in turn."""
    first, second = make(), make()
    people = [f"person-{number}" for number in range(4)]
    template = b'{"event":"E","properties":{"distinct_id":"%s"}}'
    first.put([Record("import", template % person.encode()) for person in people])
    for number, person in enumerate(people):
        (first if number % 2 else second).withdraw(digests([person]))
    clock.tick(2)
    assert first.revision() == second.revision() == 4
    assert first.claim("import", 10, ALL) is None
