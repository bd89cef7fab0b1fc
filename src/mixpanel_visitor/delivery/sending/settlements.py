"""Settlements: outcomes of claims that wait for the spool to take them, in order."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mixpanel_visitor.delivery.spool import Claim, DeadReason, Spool


class Settlements:
    """A queue of acknowledgements, dead letters and releases; each stays until the spool has taken it.

    Records that Mixpanel has acknowledged must not be sent again because a disk was full for a minute. So an
    outcome that the spool did not take is tried again, before later ones.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._pending: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def ack(self, claim: Claim, indexes: Sequence[int]) -> None:
        """Queue that these records have been delivered."""
        self._pending.append(partial(self._spool.ack, claim, indexes))

    def dead_letter(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Queue that these records are to be set aside, each with its reason."""
        self._pending.append(partial(self._spool.bury, claim, reasons))

    def release(self, claim: Claim, indexes: Sequence[int]) -> None:
        """Queue that these records are to be claimed again."""
        self._pending.append(partial(self._spool.release, claim, indexes))

    def flush(self) -> None:
        """Pass all to the spool, in order. Raise what the spool raises; what it did not take stays."""
        while self._pending:
            self._pending[0]()
            self._pending.popleft()
