"""Settlements: what the spool did not take is offered again, in order."""

from __future__ import annotations

import pytest

from mixpanel_visitor.delivery.sending.settlements import Settlements
from mixpanel_visitor.delivery.spool import Claim, DeadReason
from mixpanel_visitor.errors import SpoolUnavailableError

CLAIM = Claim(endpoint="import", bodies=(b"a", b"b", b"c"), positions=(0, 1, 2))
REASON = DeadReason(message="bad")


class Disk:
    """The settling side of a spool; while it is `full`, it takes nothing."""

    def __init__(self) -> None:
        self.full = False
        self.taken: list[tuple] = []

    def _take(self, method: str, *arguments) -> None:
        if self.full:
            raise SpoolUnavailableError("the disk is full")
        self.taken.append((method, *arguments))

    def ack(self, claim, indexes) -> None:
        self._take("ack", claim, indexes)

    def release(self, claim, indexes) -> None:
        self._take("release", claim, indexes)

    def bury(self, claim, reasons) -> None:
        self._take("bury", claim, reasons)


@pytest.fixture
def disk() -> Disk:
    """A disk that takes everything."""
    return Disk()


@pytest.fixture
def settlements(disk) -> Settlements:
    """One of each kind, not yet flushed."""
    settlements = Settlements(disk)
    settlements.ack(CLAIM, [0])
    settlements.dead_letter(CLAIM, {1: REASON})
    settlements.release(CLAIM, [2])
    return settlements


ALL = [("ack", CLAIM, [0]), ("bury", CLAIM, {1: REASON}), ("release", CLAIM, [2])]


def test_nothing_reaches_the_spool_before_the_flush(disk, settlements):
    """An outcome is noted without any call that might fail."""
    assert disk.taken == []
    assert len(settlements) == 3


def test_a_flush_hands_everything_over_in_order(disk, settlements):
    """Each outcome goes to the method of its kind."""
    settlements.flush()
    assert disk.taken == ALL
    assert len(settlements) == 0


def test_a_flush_raises_what_the_spool_raises_and_keeps_everything(disk, settlements):
    """Nothing is forgotten because the spool is in trouble."""
    disk.full = True
    with pytest.raises(SpoolUnavailableError):
        settlements.flush()
    assert len(settlements) == 3


def test_what_was_not_taken_is_offered_again_once(disk, settlements):
    """The next flush begins where the last one failed, and nothing is settled twice."""
    ack = disk.ack

    def ack_then_fill_the_disk(claim, indexes) -> None:
        ack(claim, indexes)
        disk.full = True

    disk.ack = ack_then_fill_the_disk
    again = Settlements(disk)
    again.ack(CLAIM, [0])
    again.dead_letter(CLAIM, {1: REASON})
    with pytest.raises(SpoolUnavailableError):
        again.flush()
    disk.full = False
    again.flush()
    assert disk.taken == ALL[:2]


def test_a_flush_of_nothing_asks_the_spool_for_nothing(disk):
    """Every step flushes."""
    Settlements(disk).flush()
    assert disk.taken == []
