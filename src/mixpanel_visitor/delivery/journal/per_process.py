"""PerProcess: the producer and the consumer of a journal, one pair for each process that uses it.

All that is open or locked hangs on one pair. A forked child makes its own, and closes its copies of the
parent's descriptors; it never unlocks, for the locks are the parent's too.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from mixpanel_visitor.process import fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from .consumer import JournalConsumer
    from .producer import JournalProducer

FORK_TIMEOUT_S = 0.5
"""A fork waits for at most so long for each of the two locks."""


class PerProcess:
    """Returns to each process its own producer and consumer, made by `make` when first asked for.

    Forks that Python's hooks have not seen, of a C extension, are noticed when somebody asks.
    """

    def __init__(self, make: Callable[[], tuple[JournalProducer, JournalConsumer]]) -> None:
        self._make = make
        self._pairs: dict[int, _Pair] = {}  # by process ID: this one's, until then its parent's
        fork.watch(self)

    @property
    def producer(self) -> JournalProducer:
        """This process's writing side."""
        return self._own().producer

    @property
    def consumer(self) -> JournalConsumer:
        """This process's reading side."""
        return self._own().consumer

    def _own(self) -> _Pair:
        return self._pairs.get(os.getpid()) or self._made()

    def _made(self) -> _Pair:
        inherited = [pid for pid in self._pairs if pid != os.getpid()]
        # Threads may come here together: all of them get the pair of the first.
        pair = self._pairs.setdefault(os.getpid(), _Pair(*self._make()))
        for pid in inherited:
            if parents := self._pairs.pop(pid, None):
                parents.close_inherited()
        return pair

    def before_fork(self) -> None:
        """Wait for writes and reads in progress, so that the child gets no descriptor it does not know of."""
        for pair in list(self._pairs.values()):
            pair.acquire_all(FORK_TIMEOUT_S)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        for pair in list(self._pairs.values()):
            pair.release_all()

    def after_fork_in_child(self) -> None:
        """Begin anew: events and claims of before are the parent's."""
        for pair in self._pairs.values():
            pair.close_inherited()
        self._pairs.clear()


class _Pair:
    """The writing and the reading side of a journal in one process."""

    def __init__(self, producer: JournalProducer, consumer: JournalConsumer) -> None:
        self.producer = producer
        self.consumer = consumer
        self._held_by = 0
        self._holds_consumer = self._holds_producer = False

    def acquire_all(self, timeout_s: float) -> None:
        """Take both locks, or as many as can be had; forking goes on in any case."""
        holds_consumer = self.consumer.lock.acquire(timeout=timeout_s)
        holds_producer = self.producer.acquire(timeout_s)
        if holds_consumer or holds_producer:
            self._held_by = threading.get_ident()
            self._holds_consumer, self._holds_producer = holds_consumer, holds_producer

    def release_all(self) -> None:
        """Release what `acquire_all` has taken in this thread."""
        if self._held_by != threading.get_ident():
            return
        self._held_by = 0
        if self._holds_producer:
            self._holds_producer = False
            self.producer.release()
        if self._holds_consumer:
            self._holds_consumer = False
            self.consumer.lock.release()

    def close_inherited(self) -> None:
        """Close copies of the parent's descriptors."""
        self.producer.close_inherited()
        self.consumer.close_inherited()
