"""What each spool declares that it can do, and what a spool of somebody else's must declare: nothing."""

from __future__ import annotations

import pytest

from mixpanel_visitor.delivery.forwarding import ForwardingSpool
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.redis_streams import RedisSpool
from mixpanel_visitor.delivery.spool import (
    BoundedSpool,
    CrashTrackingSpool,
    DirectorySpool,
    FlagSharingSpool,
    OptOutHistorySpool,
    OptOutSpool,
    SpoolCounts,
    SyncableSpool,
    VolatileSpool,
)

CAPABILITIES = {
    SyncableSpool,
    OptOutSpool,
    OptOutHistorySpool,
    CrashTrackingSpool,
    FlagSharingSpool,
    BoundedSpool,
    DirectorySpool,
    VolatileSpool,
}
OVER_REDIS = {OptOutSpool, OptOutHistorySpool, FlagSharingSpool, BoundedSpool}


class SevenMethods:
    """A spool of somebody else's: what the contract asks for, and no more."""

    def put(self, records) -> None:
        """Store."""

    def claim(self, endpoint, max_records, max_bytes) -> None:
        """Nothing waits."""

    def ack(self, claim, indexes) -> None:
        """Forget."""

    def release(self, claim, indexes) -> None:
        """Take back."""

    def bury(self, claim, reasons) -> None:
        """Set aside."""

    def counts(self) -> SpoolCounts:
        """Nothing was stored."""
        return SpoolCounts()

    def close(self) -> None:
        """Nothing is open."""


class WithSync(SevenMethods):
    """The same on a disk; it does not know our Protocols."""

    def sync(self) -> None:
        """Sync."""


def capabilities(spool) -> set[type]:
    """What a spool can do beyond the seven methods."""
    return {capability for capability in CAPABILITIES if isinstance(spool, capability)}


def redis() -> RedisSpool:
    """A spool that has not connected yet."""
    return RedisSpool("redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    ("make", "declared"),
    [
        (Journal, CAPABILITIES - {VolatileSpool}),
        (lambda path: MemorySpool(), {OptOutSpool, OptOutHistorySpool, BoundedSpool, VolatileSpool}),
        (lambda path: redis(), OVER_REDIS),
        (lambda path: ForwardingSpool(redis(), Journal(path)), OVER_REDIS | {SyncableSpool}),
        (lambda path: SevenMethods(), set()),
        (lambda path: WithSync(), {SyncableSpool}),
    ],
    ids=["journal", "memory", "redis", "forwarding", "seven methods", "seven and sync"],
)
def test_a_spool_is_asked_only_for_what_it_declares(make, declared, tmp_path):
    """By inheriting from a Protocol, or by having its methods."""
    assert capabilities(make(tmp_path)) == declared
