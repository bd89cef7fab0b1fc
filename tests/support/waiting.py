"""Waiting for another process, the only place where tests may poll."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from .mutants import IN_A_MUTANT

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 60.0 if IN_A_MUTANT not in os.environ else 10.0
"""How long a test waits for what should happen at once: a loaded machine can stand still for half a minute.

Where a defect was planted the wait is often in vain, so it is shorter there.
"""

_EVERY_S = 0.02


def wait_until(predicate: Callable[[], bool], timeout_s: float) -> bool:
    """Ask `predicate` until it is true; False: it was not within `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_EVERY_S)
    return True
