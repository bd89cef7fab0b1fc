"""PerProcess: the producer and the consumer of a journal, one pair for each process that uses it.

A pair owns all that is open or locked. A forked child makes its own pair, and closes its copies of the
parent's descriptors; it never unlocks, because the locks are the parent's too.
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
"""The time that a fork waits for each of the two locks."""


class PerProcess:
    """Has a producer and a consumer for each process, made by `make_pair` at the first use.

    A fork that does not call Python's hooks, of a C extension, is noticed at the next use.
    """

    def __init__(self, make_pair: Callable[[], tuple[JournalProducer, JournalConsumer]]) -> None:
        self._make_pair = make_pair
        self._pairs: dict[int, _Pair] = {}  # by process ID; after a fork, the parent's
        fork.watch(self)

    @property
    def producer(self) -> JournalProducer:
        """This process's writing side."""
        return self._own_pair().producer

    @property
    def consumer(self) -> JournalConsumer:
        """This process's reading side."""
        return self._own_pair().consumer

    def _own_pair(self) -> _Pair:
        return self._pairs.get(os.getpid()) or self._create_pair()

    def _create_pair(self) -> _Pair:
        inherited_pids = [pid for pid in self._pairs if pid != os.getpid()]
        # Several threads may be here: all of them get the pair of the first.
        pair = self._pairs.setdefault(os.getpid(), _Pair(*self._make_pair()))
        for pid in inherited_pids:
            if inherited_pair := self._pairs.pop(pid, None):
                inherited_pair.close_inherited()
        return pair

    def before_fork(self) -> None:
        """Wait for writes and reads in progress, so that the child knows of every descriptor that it gets."""
        for pair in list(self._pairs.values()):
            pair.acquire_all(FORK_TIMEOUT_S)

    def after_fork_in_parent(self) -> None:
        """Release the locks."""
        for pair in list(self._pairs.values()):
            pair.release_all()

    def after_fork_in_child(self) -> None:
        """Start without a pair: events and claims from before the fork are the parent's."""
        for pair in self._pairs.values():
            pair.close_inherited()
        self._pairs.clear()


class _Pair:
    """The writing and the reading side of a journal in one process."""

    def __init__(self, producer: JournalProducer, consumer: JournalConsumer) -> None:
        self.producer = producer
        self.consumer = consumer
        self._owner_id = 0
        self._holds_consumer = self._holds_producer = False

    def acquire_all(self, timeout_s: float) -> None:
        """Take both locks, or those that are free in time; the fork follows in any case."""
        holds_consumer = self.consumer.lock.acquire(timeout=timeout_s)
        holds_producer = self.producer.acquire(timeout_s)
        if holds_consumer or holds_producer:
            self._owner_id = threading.get_ident()
            self._holds_consumer, self._holds_producer = holds_consumer, holds_producer

    def release_all(self) -> None:
        """Release what `acquire_all` has taken in this thread."""
        if self._owner_id != threading.get_ident():
            return
        self._owner_id = 0
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
