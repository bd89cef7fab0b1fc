"""RateLimitedLog: the package's logger, at most one line a minute for each kind of message.

Text from outside is passed as arguments of a line, and a filter of the logger escapes them: no name, ID,
response or path can look like another line.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from mixpanel_visitor.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("mixpanel_visitor")
"""The logger of every line of the package."""

EVERY_S = 60.0
_MAX_KINDS = 1000
_PACKAGE = str(Path(__file__).parents[1])
_OFFICIAL_MODULES = ("mixpanel", "json")  # the official library calls this package from these


class RateLimitedLog:
    """Logs the first line of a kind, then counts the others, and logs their count once a minute."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._kinds: dict[str, tuple[float, int]] = {}

    def __call__(self, level: int, kind: str, message: str, *args: object, exc_info: bool = False) -> None:
        """Log `message % args` unless a line of this kind was logged within the last minute."""
        now_s = self._monotonic()
        # No lock, which could stay locked after a fork: at worst two threads log the same line.
        last_s, silenced = self._kinds.get(kind, (-EVERY_S, 0))
        if now_s - last_s < EVERY_S:
            self._kinds[kind] = (last_s, silenced + 1)
            return
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now_s, 0)
        if silenced:
            message = f"{message} ({silenced} more like this since the last line)"
        logger.log(level, message, *args, exc_info=exc_info)


class _OneLine:
    """An argument of a log line, escaped to one line when the log line is formatted."""

    __slots__ = ("_argument",)

    def __init__(self, argument: object) -> None:
        self._argument = argument

    def __str__(self) -> str:
        return one_line(str(self._argument))

    def __repr__(self) -> str:
        return one_line(repr(self._argument))


def _in_one_line(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(map(_as_one_line, record.args))
    return True


def _as_one_line(argument: object) -> object:
    if isinstance(argument, (int, float)):
        return argument
    if isinstance(argument, str):
        return one_line(argument)
    return _OneLine(argument)


logger.addFilter(_in_one_line)


def place_of(error: BaseException) -> str:
    """Return file and line in this package where an exception was raised, or of the call that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own_frames = [frame for frame in frames if frame.filename.startswith(_PACKAGE)]
    if not own_frames:
        return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
    return f"{own_frames[-1].filename.removeprefix(_PACKAGE).lstrip('/')}:{own_frames[-1].lineno}"


class DeferredLog(RateLimitedLog):
    """Keeps lines until `flush`, for code with a lock that a log handler in another thread may need."""

    def __init__(self, log: RateLimitedLog) -> None:
        self._log = log
        self.lines: deque[tuple[int, str, str, tuple[object, ...]]] = deque()

    def __call__(self, level: int, kind: str, message: str, *args: object, exc_info: bool = False) -> None:
        """Keep a line."""
        del exc_info
        self.lines.append((level, kind, message, args))

    def flush(self) -> None:
        """Log the kept lines."""
        while self.lines:
            try:
                level, kind, message, args = self.lines.popleft()
            except IndexError:
                return
            self._log(level, kind, message, *args)


def call_site() -> str:
    """Return file and line of the application's call into this package, or into the official library."""
    frame = sys._getframe(1)  # noqa: SLF001  # inspect.stack() reads source files; this does not
    while frame is not None and (
        frame.f_code.co_filename.startswith(_PACKAGE)
        or str(frame.f_globals.get("__name__")).partition(".")[0] in _OFFICIAL_MODULES
    ):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
