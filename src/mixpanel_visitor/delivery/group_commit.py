"""GroupCommit: of callers that wait at the same time, one stores the records of all."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mixpanel_visitor.errors import SpoolError, SpoolUnavailableError
from mixpanel_visitor.process import fork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpanel_visitor.records import Record


@dataclass(slots=True, eq=False)
class _Group:
    """Records of callers that are stored together; they wait by `changed`. `error`: why that failed."""

    changed: threading.Condition
    records: list[Record] = field(default_factory=list)
    is_done: bool = False
    error: BaseException | None = None


class GroupCommit:
    """Calls `commit(records)` in the thread of one of its callers, one call at a time.

    There is no window: records that come during a commit go into the next one, and no caller waits for more
    of them. So a single caller is as fast as without groups, and many callers share a round trip.
    """

    def __init__(self, commit: Callable[[list[Record]], None]) -> None:
        self._commit = commit
        self._reset()
        fork.call_after_fork(self._reset)

    def _reset(self) -> None:
        self._fork_detector = fork.fork_detector()
        # Never held during a commit: under gevent it may be a native lock, older than the patch.
        self._lock = threading.Lock()
        self._is_busy = False
        self._waiting = self._new_group()

    def _new_group(self) -> _Group:
        # Each has a condition of its own, so that the end of a commit does not wake those of the next one.
        return _Group(threading.Condition(self._lock))

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records`; raise SpoolError where that failed for their group."""
        if not self._fork_detector[0]:
            self._reset()  # a fork that Python has not seen: the callers were the parent's
        with self._lock:
            group = self._waiting
            group.records += records
            while self._is_busy and not group.is_done:
                try:
                    group.changed.wait()
                except BaseException:
                    group.changed.notify()  # the next caller, if this one was to commit
                    raise
            has_to_store = not group.is_done
            if has_to_store:
                self._is_busy, self._waiting = True, self._new_group()
        if has_to_store:
            self._store(group)
        if isinstance(group.error, SpoolError):
            raise type(group.error)(str(group.error)) from group.error
        if group.error is not None:
            # A record of another caller may be the cause: callers may try again, each alone.
            raise SpoolUnavailableError(f"not stored together: {group.error}") from group.error

    def _store(self, group: _Group) -> None:
        try:
            self._commit(group.records)
        except Exception as error:
            group.error = error
        except BaseException as error:
            group.error = error
            raise
        finally:
            with self._lock:
                self._is_busy, group.is_done = False, True
                group.changed.notify_all()
                self._waiting.changed.notify()
