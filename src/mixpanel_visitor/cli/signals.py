"""Signals: run a command until SIGINT or SIGTERM; the same on every system, Windows included."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """SIGINT and SIGTERM, as `hold_signals` yields them; `is_set` is true from the first one on."""

    def __init__(self, arrived: socket.socket) -> None:
        self.is_set = False
        self._taken = 0
        self._arrived = arrived

    def wait(self, timeout_s: float | None = None) -> None:
        """Return once a signal has arrived, or after `timeout_s` seconds."""
        # A socket, and no lock: Windows interrupts no wait for a lock, and a handler must not take one.
        while not self.is_set and select.select([self._arrived], [], [], timeout_s)[0]:
            self.is_set = self.is_set or not set(_ENDING).isdisjoint(self._arrived.recv(64))

    def handle(self, signal_number: int, _frame: object) -> None:
        """Remember the first signal; the second one ends the process at once."""
        self._taken += 1
        if self._taken > 1:
            signal.signal(signal_number, signal.SIG_DFL)
            signal.raise_signal(signal_number)
        self.is_set = True


@contextlib.contextmanager
def hold_signals() -> Iterator[Signals]:
    """Hold SIGINT and SIGTERM back until the end of the block; for the main thread only."""
    arrived, arriving = socket.socketpair()
    with arrived, arriving:
        arriving.setblocking(False)
        signals = Signals(arrived)
        before_fd = signal.set_wakeup_fd(arriving.fileno(), warn_on_full_buffer=False)
        before = {signal_number: signal.signal(signal_number, signals.handle) for signal_number in _ENDING}
        try:
            yield signals
        finally:
            for signal_number, handler in before.items():
                signal.signal(signal_number, signal.SIG_DFL if handler is None else handler)
            signal.set_wakeup_fd(before_fd)
