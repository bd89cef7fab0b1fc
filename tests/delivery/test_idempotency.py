"""What Mixpanel must not get twice: set aside where nobody knows whether it has it."""

from __future__ import annotations

import pytest
from support.sending import (
    LOST,
    UNREACHABLE,
    answer,
)

SETS = [b'{"$distinct_id":"a","$set":{"n":%d}}' % number for number in range(3)]
ADDS = [b'{"$distinct_id":"a","$add":{"n":%d}}' % number for number in range(3)]
MANY_ADDS = [b'{"$distinct_id":"a","$add":{"n":%d}}' % number for number in range(120)]
ONCE = {
    "$add": b'{"$distinct_id":"a","$add":{"n":1}}',
    "$append": b'{"$distinct_id":"a","$append":{"n":1}}',
    "$remove": b'{"$distinct_id":"a","$remove":{"n":1}}',
}


@pytest.mark.parametrize("operation", ONCE)
@pytest.mark.parametrize(
    "unknown", [LOST, answer(500), answer(502), answer(504), answer(200, "<html>")], ids=str
)
def test_an_update_in_doubt_is_buried(rig, operation, unknown):
    """Where the answer was lost after the request had left, it is set aside and not sent again."""
    rig.put(ONCE[operation], endpoint="engage")
    rig.mixpanel.scripts["engage"] = [unknown]
    rig.run(for_s=600)
    assert rig.mixpanel.batches("engage") == [[ONCE[operation]]]
    assert [reason.message.partition(":")[0] for reason in rig.spool.dead.values()] == ["ambiguous"]
    assert not rig.spool.acked
    stats = rig.sender.stats()
    assert (stats["ambiguous"], stats["duplicates_possible"], stats["dead"]) == (1, 0, 1)


@pytest.mark.parametrize("known", [UNREACHABLE, answer(429), answer(503), answer(401), answer(413)], ids=str)
def test_an_update_that_was_not_taken_is_sent_again(rig, known):
    """There is no doubt where nothing was sent, or Mixpanel says that it did not work on it."""
    rig.put(*ADDS, endpoint="engage")
    rig.mixpanel.scripts["engage"] = [known]
    rig.run(for_s=600)
    assert rig.spool.acked == ADDS
    assert not rig.spool.dead


def test_an_update_in_doubt_is_sent_again_if_the_setting_says_so(rig):
    """Who would rather have it twice than not at all can have that."""
    rig.sender = rig.make(retry_ambiguous=True)
    rig.put(*ADDS, endpoint="engage")
    rig.mixpanel.scripts["engage"] = [LOST]
    rig.run(for_s=60)
    assert rig.spool.acked == ADDS
    assert rig.sender.stats()["duplicates_possible"] == len(ADDS)


def test_what_may_be_repeated_goes_in_requests_of_its_own(rig):
    """The order stays as it was; a request holds either kind and never both."""
    updates = [SETS[0], ADDS[0], ADDS[1], SETS[1], SETS[2], ADDS[2]]
    rig.put(*updates, endpoint="engage")
    rig.run()
    assert rig.mixpanel.batches("engage") == [[SETS[0]], ADDS[:2], SETS[1:], [ADDS[2]]]


def test_few_updates_are_in_doubt_at_once(rig):
    """A request holds 50 at most of those that must not be sent twice."""
    rig.put(*MANY_ADDS, endpoint="engage")
    rig.run()
    assert list(map(len, rig.mixpanel.batches("engage"))) == [50, 50, 20]


def test_during_trouble_only_one_update_at_a_time_is_risked(rig):
    """After a failure the next try sends one: an outage of hours does not doubt thousands."""
    rig.put(*MANY_ADDS, endpoint="engage")
    rig.mixpanel.scripts["engage"] = [answer(503), answer(502), answer(503)]
    rig.run(for_s=60)
    assert list(map(len, rig.mixpanel.batches("engage"))) == [50, 1, 1, 1, 48, 50, 20]
    assert len(rig.spool.dead) == 1
    assert len(rig.spool.acked) == 119


def test_an_event_in_doubt_is_sent_again(rig):
    """Events carry an insert id, whatever words are in them."""
    rig.put(b'{"event":"say","properties":{"$add":1}}')
    rig.mixpanel.scripts["import"] = [LOST]
    rig.run(for_s=60)
    assert len(rig.spool.acked) == 1


def test_a_word_is_no_operation(rig):
    """An update that only mentions `$add` is like any other."""
    update = b'{"$distinct_id":"a","$set":{"note":"\\"$add\\"","x":["$add"]}}'
    rig.put(update, endpoint="engage")
    rig.mixpanel.scripts["engage"] = [LOST]
    rig.run(for_s=60)
    assert rig.spool.acked == [update]


def test_at_exit_nothing_is_begun_that_time_would_leave_in_doubt(rig):
    """With less than half a second left, an `$add` stays for the next process."""
    rig.put(*ADDS, endpoint="engage")
    assert not rig.sender.drain(0.4)
    assert rig.mixpanel.batches("engage") == []
    assert not rig.spool.dead
