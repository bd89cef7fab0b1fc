"""Settlements: what the spool did not take is offered again, in order."""

from __future__ import annotations

import pytest
from support.journals import ALL, event
from support.spools import RecordingSpool

from mixpanel_visitor.delivery.sending.settlements import Settlements
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.errors import SpoolUnavailableError

REASON = DeadReason(message="bad")
BODIES = [event(name).body for name in ("delivered", "refused", "late")]


@pytest.fixture
def spool() -> RecordingSpool:
    """A spool with three records."""
    spool = RecordingSpool(waits=True)
    spool.put([event("delivered"), event("refused"), event("late")])
    return spool


@pytest.fixture
def settlements(spool) -> Settlements:
    """One outcome of each kind, not yet flushed."""
    claim = spool.claim("import", 3, ALL)
    settlements = Settlements(spool)
    settlements.ack(claim, [0])
    settlements.dead_letter(claim, {1: REASON})
    settlements.release(claim, [2])
    return settlements


def test_nothing_reaches_the_spool_before_the_flush(spool, settlements):
    """An outcome is noted without any call that might fail."""
    assert (spool.acked, spool.dead, spool.unclaimed) == ([], {}, 0)
    assert len(settlements) == 3


def test_a_flush_settles_everything(spool, settlements):
    """Each outcome as what it is."""
    settlements.flush()
    assert (spool.acked, spool.dead, spool.unclaimed) == ([BODIES[0]], {BODIES[1]: REASON}, 1)
    assert len(settlements) == 0


@pytest.mark.parametrize(("failing", "left"), [("ack", 3), ("bury", 2), ("release", 1)])
def test_what_the_spool_did_not_take_stays_with_all_behind_it(spool, settlements, failing, left):
    """The error is raised, and nothing is forgotten because the spool is in trouble."""
    spool.failing = {failing}
    with pytest.raises(SpoolUnavailableError):
        settlements.flush()
    assert len(settlements) == left


@pytest.mark.parametrize("failing", ["ack", "bury", "release"])
def test_the_next_flush_goes_on_where_the_last_one_failed(spool, settlements, failing):
    """Nothing is settled twice."""
    spool.failing = {failing}
    with pytest.raises(SpoolUnavailableError):
        settlements.flush()
    spool.failing = set()
    settlements.flush()
    assert (spool.acked, spool.dead, spool.unclaimed) == ([BODIES[0]], {BODIES[1]: REASON}, 1)


def test_a_flush_of_nothing_is_nothing(spool):
    """Every step flushes."""
    spool.failing = {"ack", "bury", "release"}
    Settlements(spool).flush()
    assert spool.counts().pending == 3
