"""Waiting for another process, the only place where tests may poll."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY_S = 0.02


def wait_until(predicate: Callable[[], bool], timeout_s: float) -> bool:
    """Ask `predicate` until it is true; False: it was not within `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_EVERY_S)
    return True
