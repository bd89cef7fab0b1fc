"""The contract of every spool, whatever it keeps records in."""

import threading

import pytest
from support.journals import (
    ALL,
    balanced,
    claims,
    deliver,
    event,
    frame_size,
    names,
    open_journal,
    profile,
    waiting,
)

from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.redis_streams import RedisSpool
from mixpanel_visitor.delivery.spool import DeadReason, FlagSharingSpool, OptOutHistorySpool, OptOutSpool
from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.errors import SpoolFullError
from mixpanel_visitor.records import Record

FAR_MS = 2**45
REFUSED = DeadReason(message="too old", field="properties.time", status=400)


@pytest.fixture(params=["journal", "memory", "redis", "redis-cluster", "redis-sentinel"])
def make_spool(request, clock, tmp_path, redis_url):
    """Make a spool that holds about so many bytes."""
    made = []
    url = redis_url(request.param) if request.param.startswith("redis") else ""

    def make(max_bytes=None):
        if request.param == "journal":
            spool = open_journal(tmp_path / "spool", clock, max_bytes=max_bytes)
        elif url:
            spool = RedisSpool(url, max_bytes=max_bytes, clock=clock.time, monotonic=clock.monotonic)
        else:
            spool = MemorySpool(**({} if max_bytes is None else {"max_bytes": max_bytes}), clock=clock.time)
        made.append(spool)
        return spool

    yield make
    for spool in made:
        spool.close()


@pytest.fixture
def spool(make_spool):
    """Return a spool with the bounds of its kind."""
    return make_spool()


@pytest.fixture
def opt_out_spool(spool):
    """Return a spool that declares that it can take records back."""
    if not isinstance(spool, OptOutSpool):
        pytest.skip("this spool does not declare it")
    return spool


def test_an_empty_spool_has_nothing_to_claim(spool):
    """A claim of nothing is None, not an empty claim."""
    assert spool.claim("import", 10, ALL) is None
    assert spool.counts().written == 0


def test_records_are_claimed_in_the_order_in_which_they_were_put(spool):
    """Oldest first, over any number of puts."""
    spool.put([event(1), event(2)])
    spool.put([event(3)])
    claim = spool.claim("import", 10, ALL)
    assert claim.endpoint == "import"
    assert names(claim.bodies) == ["1", "2", "3"]


def test_bodies_come_back_byte_for_byte(spool):
    """A spool does not look into bodies."""
    bodies = [b"{}", b"", bytes(set(range(256)) - {10}), '{"ü":"\u2028"}'.encode(), b'{"a":"\r"}']
    spool.put([Record("import", body) for body in bodies])
    assert list(spool.claim("import", 10, ALL).bodies) == bodies


def test_lanes_do_not_mix(spool):
    """One put may fill all lanes; a claim empties one."""
    spool.put([event("e"), profile("p"), Record("groups", b'{"$set":"g"}')])
    assert deliver(spool, "groups") == ["g"]
    assert deliver(spool, "import") == ["e"]
    assert deliver(spool, "engage") == ["p"]


def test_a_claim_is_not_given_out_twice(spool):
    """What is claimed is out until it is settled."""
    spool.put([event(1)])
    assert spool.claim("import", 10, ALL) is not None
    assert spool.claim("import", 10, ALL) is None


def test_a_claim_is_limited_in_number(spool):
    """The next claim goes on where the last one ended."""
    spool.put([event(number) for number in range(5)])
    assert [names(claim.bodies) for claim in claims(spool, max_records=2)] == [["0", "1"], ["2", "3"], ["4"]]


def test_a_claim_is_limited_in_bytes(spool):
    """Bodies count, and nothing is skipped to fill up with smaller ones."""
    spool.put([Record("import", b"x" * size) for size in (40, 40, 50, 1)])
    sizes = []
    while (claim := spool.claim("import", 10, 100)) is not None:
        sizes.append([len(body) for body in claim.bodies])
    assert sizes == [[40, 40], [50, 1]]


def test_a_record_over_the_limit_is_claimed_alone(spool):
    """Else it would block the lane for ever."""
    spool.put([Record("import", b"x" * size) for size in (10, 500, 10)])
    sizes = []
    while (claim := spool.claim("import", 10, 100)) is not None:
        sizes.append([len(body) for body in claim.bodies])
    assert sizes == [[10], [500], [10]]


def test_putting_nothing_is_nothing(spool):
    """An exchange may end without records."""
    spool.put([])
    assert spool.counts().written == 0


def test_a_newline_in_a_body_is_the_callers_mistake(spool):
    """It is refused with the whole put, before anything is stored."""
    with pytest.raises(ValueError, match="newline"):
        spool.put([event(1), Record("import", b'{"a":\n1}')])
    assert spool.counts().written == 0
    assert spool.claim("import", 10, ALL) is None


def test_a_full_spool_refuses_and_keeps(make_spool, clock):
    """All of a put or nothing; what is stored stays, and delivery makes room again."""
    spool = make_spool(max_bytes=4 * frame_size(event(1)))
    stored = []
    refusal = None
    while refusal is None:
        number = len(stored)
        try:
            spool.put([event(number), event(number + 1)])
            stored += [str(number), str(number + 1)]
        except SpoolFullError as error:
            refusal = error
    assert refusal.reason == "spool_full"
    assert "Check that Mixpanel is reachable" in str(refusal)
    assert deliver(spool) == stored
    assert spool.counts().written == len(stored)
    spool.close()
    clock.tick(2)
    spool.put([event("after")])
    assert waiting(spool) == ["after"]
    assert balanced(spool)


def test_acknowledged_records_are_forgotten(spool):
    """And counted as delivered."""
    spool.put([event(1), event(2)])
    claim = spool.claim("import", 10, ALL)
    spool.ack(claim, [0])
    counts = spool.counts()
    assert (counts.delivered, counts.pending) == (1, 1)
    spool.ack(claim, [1])
    assert spool.counts().pending == 0
    assert spool.claim("import", 10, ALL) is None


def test_released_records_come_first_and_in_order(spool):
    """Whatever the order in which claims were given back."""
    spool.put([event(number) for number in range(6)])
    first, second = (spool.claim("import", 2, ALL) for _ in range(2))
    spool.release(second, [1, 0])
    spool.release(first, [1])
    spool.put([event("new")])
    assert names(spool.claim("import", 2, ALL).bodies) == ["1", "2"]
    assert waiting(spool) == ["3", "4", "5", "new"]


def test_claims_may_be_settled_in_any_order(spool):
    """A later claim may be answered before an earlier one."""
    spool.put([event(number) for number in range(6)])
    first, second, third = (spool.claim("import", 2, ALL) for _ in range(3))
    spool.ack(third, [0, 1])
    spool.ack(first, [1])
    assert spool.counts().delivered == 3
    spool.release(first, [0])
    spool.ack(second, [0])
    spool.release(second, [1])
    assert waiting(spool) == ["0", "3"]
    assert balanced(spool)


def test_settling_twice_counts_once(spool):
    """Only what is out with a claim can be settled."""
    spool.put([event(1), event(2)])
    claim = spool.claim("import", 10, ALL)
    spool.ack(claim, [0, 0])
    spool.ack(claim, [0])
    spool.bury(claim, {0: REFUSED})
    spool.release(claim, [0, 1])
    spool.ack(claim, [1])
    counts = spool.counts()
    assert (counts.delivered, counts.dead_lettered, counts.pending) == (1, 0, 1)
    assert waiting(spool) == ["2"]


def test_buried_records_are_not_sent_again(spool):
    """They are counted apart, and still held in the store."""
    spool.put([event(1), event(2), event(3)])
    claim = spool.claim("import", 10, ALL)
    spool.bury(claim, {1: REFUSED})
    spool.ack(claim, [0, 2])
    counts = spool.counts()
    assert (counts.delivered, counts.dead_lettered, counts.pending) == (2, 1, 0)
    assert counts.store_dead == 1
    assert spool.claim("import", 10, ALL) is None


def test_counts_of_the_store(spool, clock):
    """Pending, bytes and age are those of all that is not settled, claimed or not."""
    spool.put([event(1)])
    clock.tick(30)
    spool.put([profile(2)])
    claim = spool.claim("import", 10, ALL)
    counts = spool.counts()
    assert counts.leader
    assert counts.store_pending == 2
    assert counts.store_bytes > 0
    assert counts.oldest_age_s == pytest.approx(30, abs=0.01)
    spool.ack(claim, [0])
    assert spool.counts().oldest_age_s == pytest.approx(0, abs=0.01)
    deliver(spool, "engage")
    counts = spool.counts()
    assert (counts.store_pending, counts.oldest_age_s) == (0, 0.0)


def test_an_age_is_never_negative(spool, clock):
    """The host's clock may have been set back."""
    spool.put([event(1)])
    clock.wall_s -= 86_400
    assert spool.counts().oldest_age_s == 0.0


def test_close_forgets_claims(spool):
    """What was out is claimed again, and answers to the old claim are ignored."""
    spool.put([event(1), event(2)])
    old = spool.claim("import", 10, ALL)
    spool.ack(old, [0])
    spool.close()
    spool.close()
    spool.ack(old, [1])
    spool.bury(old, {1: REFUSED})
    spool.release(old, [0, 1])
    new = spool.claim("import", 10, ALL)
    assert names(new.bodies) == ["2"]
    spool.ack(old, [1])
    spool.bury(old, {1: REFUSED})
    counts = spool.counts()
    assert (counts.pending, counts.store_dead) == (1, 0)
    spool.ack(new, [0])
    counts = spool.counts()
    assert (counts.written, counts.delivered, counts.pending) == (2, 2, 0)


def test_a_closed_spool_opens_again(spool):
    """Close is a rest, not an end."""
    spool.put([event(1)])
    spool.close()
    spool.put([event(2)])
    assert deliver(spool) == ["1", "2"]
    assert balanced(spool)


def test_many_threads_may_put(spool):
    """Each one's records stay in their order, none is lost or torn."""
    start = threading.Barrier(4)

    def write(writer):
        start.wait()
        for number in range(200):
            spool.put([event(f"{writer}-{number}"), event(f"{writer}-{number}b")])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    got = []
    while any(thread.is_alive() for thread in threads):
        got += deliver(spool)
    got += deliver(spool)
    for writer in range(4):
        expected = [f"{writer}-{number}{suffix}" for number in range(200) for suffix in ("", "b")]
        assert [name for name in got if name.startswith(f"{writer}-")] == expected
    counts = spool.counts()
    assert (counts.written, counts.delivered, counts.pending) == (1600, 1600, 0)


# --- people who have opted out ------------------------------------------------------------------


def of(person, name, endpoint="import"):
    """A record of somebody."""
    if endpoint == "import":
        return Record("import", b'{"event":"%b","properties":{"distinct_id":"%b"}}' % (name.encode(), person))
    return Record(endpoint, b'{"$set":"%b","$distinct_id":"%b"}' % (name.encode(), person))


def everything(spool):
    """The names of all that can be claimed, of both lanes."""
    return deliver(spool) + deliver(spool, "engage")


def test_what_waits_of_somebody_who_opts_out_is_not_sent(opt_out_spool):
    """Events and profile updates, with and without `$device:`; of others all is sent."""
    opt_out_spool.put([of(b"ann", "1"), of(b"bob", "2"), of(b"$device:ann", "3"), of(b"ann", "4", "engage")])
    opt_out_spool.withdraw(digests(["ann"]))
    assert everything(opt_out_spool) == ["2"]
    assert balanced(opt_out_spool)
    counts = opt_out_spool.counts()
    assert (counts.delivered, counts.dead_lettered, counts.pending, counts.store_dead) == (1, 3, 0, 0)


def test_what_comes_after_an_opt_out_is_sent(opt_out_spool, clock):
    """Somebody may change his mind."""
    opt_out_spool.put([of(b"ann", "before")])
    opt_out_spool.withdraw(digests(["ann"]))
    clock.tick(1)
    opt_out_spool.put([of(b"ann", "after")])
    assert everything(opt_out_spool) == ["after"]
    assert balanced(opt_out_spool)


def test_a_claim_that_is_out_can_be_given_back_for_it(opt_out_spool):
    """The revision says that it should be; what Mixpanel has already is delivered."""
    opt_out_spool.put([of(b"ann", "1"), of(b"bob", "2"), of(b"ann", "3")])
    claim = opt_out_spool.claim("import", 10, ALL)
    before = opt_out_spool.revision()
    opt_out_spool.withdraw(digests(["ann"]))
    assert opt_out_spool.revision() != before
    assert opt_out_spool.revision() == opt_out_spool.revision()
    opt_out_spool.ack(claim, [0])
    opt_out_spool.release(claim, [1, 2])
    assert everything(opt_out_spool) == ["2"]
    assert balanced(opt_out_spool)


def test_who_has_opted_out_is_known_though_nothing_of_them_waits(opt_out_spool):
    """A job asks that comes from another queue; with and without `$device:`, of others nothing is said."""
    assert isinstance(opt_out_spool, OptOutHistorySpool)
    opt_out_spool.withdraw(digests(["ann", "phone-1"]))
    for who, answer in ((["ann"], True), (["bob", "$device:phone-1"], True), (["bob"], False), ([], False)):
        assert opt_out_spool.opted_out_since(digests(who), 0) is answer
    assert not opt_out_spool.opted_out_since(digests(["ann"]), FAR_MS)


def test_a_withdrawn_record_does_not_count_for_the_size_of_a_claim(opt_out_spool):
    """The claim is filled with others, or comes back empty, and nothing waits behind it for ever."""
    opt_out_spool.put([of(b"ann", str(number)) for number in range(10)] + [of(b"bob", "last")])
    opt_out_spool.withdraw(digests(["ann"]))
    assert names(opt_out_spool.claim("import", 2, ALL).bodies) == ["last"]
    assert opt_out_spool.claim("import", 2, ALL) is None


def test_dead_letters_of_somebody_who_opts_out_go_too(opt_out_spool):
    """They could be sent again."""
    opt_out_spool.put([of(b"ann", "1"), of(b"bob", "2")])
    claim = opt_out_spool.claim("import", 10, ALL)
    opt_out_spool.bury(claim, {0: REFUSED, 1: REFUSED})
    opt_out_spool.withdraw(digests(["ann"]))
    opt_out_spool.revision()
    assert opt_out_spool.claim("import", 10, ALL) is None
    assert opt_out_spool.counts().store_dead == 1
    assert balanced(opt_out_spool)


@pytest.fixture
def two_sharing_spools(make_spool):
    """Return two spools at one place that declare that they share feature flags."""
    one, other = make_spool(), make_spool()
    if not isinstance(one, FlagSharingSpool):
        pytest.skip("this spool does not declare it")
    return one, other


def test_what_one_process_shares_the_others_see_once(two_sharing_spools):
    """Until there is something else."""
    one, other = two_sharing_spools
    assert one.leads()
    assert other.shared_flags() is None
    for document in (b"first", b"second" * 100_000, b""):
        one.share_flags(document)
        assert other.shared_flags() == document
        assert other.shared_flags() is None


def test_one_process_at_a_time_fetches_flags(two_sharing_spools):
    """And it stays that one."""
    one, other = two_sharing_spools
    assert [one.leads(), other.leads(), one.leads(), other.leads()] == [True, False, True, False]
