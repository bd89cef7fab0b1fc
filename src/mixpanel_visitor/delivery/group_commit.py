"""GroupCommit: who finds nobody at it stores for all that wait, and each returns when its own are stored."""

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
    """Records of callers that are stored together, and wait by `changed`; `error` says why they were not."""

    changed: threading.Condition
    records: list[Record] = field(default_factory=list)
    is_done: bool = False
    error: BaseException | None = None


class GroupCommit:
    """Calls `commit(records)` in the thread of one of its callers, one call at a time.

    There is no window: what comes while a commit is under way goes into the next one, and nobody waits for
    more to come. So one caller alone is as fast as without, and many share a round trip.
    """

    def __init__(self, commit: Callable[[list[Record]], None]) -> None:
        self._commit = commit
        self._reset()
        fork.call_after_fork(self._reset)

    def _reset(self) -> None:
        self._fork_detector = fork.fork_detector()
        # Held for moments, never while a commit is under way: under gevent it may be of before its patch.
        self._lock = threading.Lock()
        self._is_busy = False
        self._waiting = self._new_group()

    def _new_group(self) -> _Group:
        # Each has a condition of its own: who waits for the next commit is not woken by the end of this one.
        return _Group(threading.Condition(self._lock))

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records`; raise SpoolError where that failed for those stored together with them."""
        if not self._fork_detector[0]:
            self._reset()  # a fork that Python has not seen: who was at it is the parent's
        with self._lock:
            group = self._waiting
            group.records += records
            while self._is_busy and not group.is_done:
                try:
                    group.changed.wait()
                except BaseException:
                    group.changed.notify()  # it may have been this one's turn
                    raise
            leads = not group.is_done
            if leads:
                self._is_busy, self._waiting = True, self._new_group()
        if leads:
            self._lead(group)
        if isinstance(group.error, SpoolError):
            raise type(group.error)(str(group.error)) from group.error
        if group.error is not None:
            # Another one's record may be to blame: alone, each will see.
            raise SpoolUnavailableError(f"not stored together: {group.error}") from group.error

    def _lead(self, group: _Group) -> None:
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
