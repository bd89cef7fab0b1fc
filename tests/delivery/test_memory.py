"""MemorySpool: what it does beyond the contract."""

from support.journals import ALL, Clock, balanced, deliver, event, profile, run_python, waiting

from mixpanel_visitor.delivery import memory
from mixpanel_visitor.delivery.dead_letter import DeadLetter
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.records import Record


def test_delivery_makes_room():
    """The bound is on the bytes that are not settled, claimed ones included."""
    spool = MemorySpool(max_bytes=2 * len(event(1).body))
    for number in range(8):
        spool.put([event(number), event(number)])
        assert spool.counts().store_bytes == 2 * len(event(1).body)
        assert deliver(spool) == [str(number), str(number)]
    assert spool.counts().store_bytes == 0


def test_dead_letters_can_be_read_and_are_bounded():
    """The last ones are kept, with their reasons; all are counted."""
    clock = Clock()
    spool = MemorySpool(max_dead=2, clock=clock.time)
    spool.put([event(1), event(2), profile(3)])
    reasons = [DeadReason(message=f"reason {number}", status=400) for number in range(3)]
    claim = spool.claim("import", 10, ALL)
    spool.bury(claim, {0: reasons[0], 1: reasons[1]})
    spool.bury(spool.claim("engage", 10, ALL), {0: reasons[2]})
    time_ms = int(clock.wall_s * 1000)
    assert spool.dead_letters() == [
        DeadLetter(time_ms=time_ms, endpoint="import", reason=reasons[1], body=event(2).body),
        DeadLetter(time_ms=time_ms, endpoint="engage", reason=reasons[2], body=profile(3).body),
    ]
    counts = spool.counts()
    assert (counts.dead_lettered, counts.store_dead) == (3, 2)
    assert balanced(spool)


def test_records_given_back_from_interleaved_claims_keep_their_order():
    """The oldest of all goes first again, between others that were given back before."""
    spool = MemorySpool()
    spool.put([event(number) for number in range(6)])
    first, second, third = (spool.claim("import", 2, ALL) for _ in range(3))
    spool.release(first, [1])
    spool.release(third, [0])
    spool.release(second, [1])
    spool.release(first, [0])
    assert waiting(spool) == ["0", "1", "3", "4"]


def test_a_forked_child_starts_empty():
    """The parent's events stay the parent's, and the child's answers about them change nothing."""
    printed = run_python(
        """
import os
from support.journals import ALL, deliver, event, waiting
from mixpanel_visitor.delivery.memory import MemorySpool

spool = MemorySpool()
spool.put([event("parent"), event("claimed")])
claim = spool.claim("import", 1, ALL)
if os.fork() == 0:
    assert spool.counts().written == 0
    spool.ack(claim, [0])
    spool.release(claim, [0])
    spool.put([event("child")])
    assert deliver(spool) == ["child"], "child"
    assert spool.counts().written == 1
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
spool.release(claim, [0])
print(waiting(spool), spool.counts().written)
"""
    )
    assert printed == "['parent', 'claimed'] 2"


def of(person, name):
    """A record of this person."""
    return Record("import", f'{{"event":"{name}","properties":{{"distinct_id":"{person}"}}}}'.encode())


def test_dead_letters_are_not_parsed_for_each_opt_out(monkeypatch):
    """Anybody can opt out, at any rate; whose a letter is, is known since it was set aside."""
    spool = MemorySpool()
    spool.put([of("ann", "1"), of("bob", "2")])
    spool.bury(spool.claim("import", 10, ALL), dict.fromkeys([0, 1], DeadReason(message="no", status=400)))
    parsed = []
    monkeypatch.setattr(memory, "owners", lambda body: parsed.append(body) or set())
    spool.withdraw(digests(["nobody"]))
    spool.withdraw(digests(["ann"]))
    assert parsed == []
    assert [letter.body for letter in spool.dead_letters()] == [of("bob", "2").body]


def test_too_many_opt_outs_are_noted_at_the_records():
    """So no number of them grows the memory, nor switches it off for anybody; what comes after is sent."""
    spool = MemorySpool(max_withdrawn=3)
    spool.put([of("ann", "1"), of("bob", "2"), of("eve", "3"), of("eve", "4")])
    held = spool.claim("import", 1, ALL)
    spool.withdraw(digests(["ann"]))
    spool.withdraw(digests(f"made-up-{number}" for number in range(10)))
    assert len(spool._withdrawn) == 0
    spool.withdraw(digests(["eve"]))
    spool.put([of("ann", "5"), of("eve", "6")])
    spool.release(held, [0])
    assert deliver(spool) == ["2", "5", "6"]
    assert balanced(spool)


def test_an_opt_out_is_forgotten_when_nothing_so_old_is_left():
    """In the order in which records are settled."""
    spool = MemorySpool()
    for number in range(5):
        spool.put([of("bob", str(number))])
        spool.withdraw(digests([f"person-{number}"]))
    assert len(spool._withdrawn) == 5
    spool.ack(spool.claim("import", 3, ALL), [0, 1, 2])
    spool.withdraw(digests(["person-4"]))
    assert len(spool._withdrawn) == 2
