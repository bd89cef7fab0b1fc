"""OptOutHistory: who has opted out in the last days, for jobs that resume a visitor.

The tombstones in `withdrawn` are deleted with the last record that they apply to. A job may run later, from
another program's queue. So the same entries are kept for longer in `opted-out`, which only jobs read.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.spool import OPT_OUTS_KEPT_S

from .tombstones import OptOutTombstones

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


class OptOutHistory:
    """The opt-outs of the last days in a directory; any process may add to it and ask it."""

    def __init__(self, directory: Path) -> None:
        self._lock = threading.Lock()
        self._tombstones = OptOutTombstones(directory)

    def add(self, people: Collection[str], *, now_ms: int) -> None:
        """Note that these people, given as digests, opt out now; raise OSError."""
        self._tombstones.add(people, until_ms=now_ms)

    def includes(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people has opted out since `since_ms`; raise OSError."""
        with self._lock:
            self._tombstones.refresh()
            return self._tombstones.latest_ms(people) >= since_ms

    def prune(self, now_ms: int) -> None:
        """Forget entries that are older than any job may be."""
        with self._lock:
            self._tombstones.refresh()
            self._tombstones.prune(now_ms - OPT_OUTS_KEPT_S * 1000)
