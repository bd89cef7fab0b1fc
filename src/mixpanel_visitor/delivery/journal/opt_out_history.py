"""OptOutHistory: who has opted out lately, for jobs that resume a visitor of before.

The tombstones in `withdrawn` go with the last record that they are for. A job may come later, from a queue
that is not ours. So the same entries are kept for longer in `opted-out`, which only jobs ask.
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
        """Return whether any of these people has opted out since then; raise OSError."""
        with self._lock:
            self._tombstones.refresh()
            return self._tombstones.latest_ms(people) >= since_ms

    def prune(self, now_ms: int) -> None:
        """Forget what is older than any job may be."""
        with self._lock:
            self._tombstones.refresh()
            self._tombstones.prune(now_ms - OPT_OUTS_KEPT_S * 1000)
