"""Dead-letter stores: the directory of each project, or the stream in Redis."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mixpanel_visitor.cli.settings_source import setting_text
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.journal.inspection import is_locked
from mixpanel_visitor.records import Record

from .location import SETTING, locate_spool, only_as_owner
from .redis import is_redis, open_redis_spool, server_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mixpanel_visitor.delivery.dead_letter import DeadLetter
    from mixpanel_visitor.delivery.redis_streams import RedisSpool

    PutBack = Callable[[Sequence[DeadLetter]], None]


class DeadLetterQueue(Protocol):
    """Dead letters that can be listed and taken out."""

    def entries(self) -> Iterator[DeadLetter]:
        """All dead letters, oldest first."""
        ...

    def take(
        self, ids: Container[str], on_batch: PutBack | None = None, *, unreadable: bool = False
    ) -> Iterator[int]:
        """Remove dead letters by ID, after `on_batch` has returned for them; yield how many at a time."""
        ...


class DeadLetterStore(Protocol):
    """The dead letters of one project, and the spool that they can be put back into."""

    @property
    def name(self) -> str:
        """The name of the store in lists."""
        ...

    @property
    def dead_letters(self) -> DeadLetterQueue:
        """The dead letters of the store."""
        ...

    @property
    def is_led(self) -> bool:
        """Whether a process delivers records that are put back."""
        ...

    def spool(self) -> AbstractContextManager[PutBack]:
        """Open the spool; yield a function that stores dead letters in it, safe from a power failure."""
        ...


def dead_letter_stores(location: str | None, *, to_change: bool = False) -> list[DeadLetterStore]:
    """Return the stores of a spool, by default the one in the settings; raise UsageError without any."""
    location_or_setting = location or setting_text(SETTING)
    if is_redis(location_or_setting):
        return [RedisStore(server_of(open_redis_spool(location_or_setting)))]
    spool = locate_spool(location)
    if to_change:
        only_as_owner(spool)
    return [DirectoryStore(project) for project in spool.projects]


@dataclass(frozen=True, slots=True)
class DirectoryStore:
    """The dead letters of a journal."""

    project: Path

    @property
    def name(self) -> str:
        """The name of the project."""
        return self.project.name

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters in the project's files."""
        return DeadLetters(self.project / "dead")

    @property
    def is_led(self) -> bool:
        """Whether a process leads the journal."""
        return is_locked(self.project / "leader.lock")

    @contextlib.contextmanager
    def spool(self) -> Iterator[PutBack]:
        """Open the journal."""
        journal = Journal(self.project)

        def put_back(dead_letters: Sequence[DeadLetter]) -> None:
            journal.put([Record(dead_letter.endpoint, dead_letter.body) for dead_letter in dead_letters])
            journal.sync()  # the dead letters must stay until the records survive a power failure

        try:
            yield put_back
        finally:
            journal.close()


@dataclass(frozen=True, slots=True)
class RedisStore:
    """The dead letters of a spool in Redis."""

    redis_spool: RedisSpool
    is_led: bool = True  # workers change; `spool status` shows how long the oldest record waits

    @property
    def name(self) -> str:
        """The key of the stream."""
        return self.redis_spool.dead_letters.key

    @property
    def dead_letters(self) -> DeadLetterQueue:
        """The dead letters in the stream."""
        return self.redis_spool.dead_letters

    @contextlib.contextmanager
    def spool(self) -> Iterator[PutBack]:
        """Yield a function that stores in Redis itself, never in a journal on this machine."""
        try:
            yield lambda dead_letters: self.redis_spool.put(
                [Record(dead_letter.endpoint, dead_letter.body) for dead_letter in dead_letters]
            )
        finally:
            self.redis_spool.close()
