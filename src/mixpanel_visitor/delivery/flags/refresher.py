"""Refresher: keeps the definitions of a process fresh: fetches them where it delivers, or reads shared ones.

The sender's thread calls `refresh` after each round. To look for shared definitions is cheap; a request to
Mixpanel is made in a thread of its own, so that no event waits for it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, TypedDict

from mixpanel_visitor.delivery.spool import FlagSharingSpool
from mixpanel_visitor.process import threads

from .document import SharedDefinitions

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from mixpanel_visitor.delivery.spool import Spool
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog

    from .fetcher import Answer

    class Reader(Protocol):
        """Reads definitions; both methods raise ValueError where they cannot be read."""

        def read_answer(self, body: bytes) -> bytes:
            """Use the body of Mixpanel's response; return the definitions to share."""
            ...

        def read_shared(self, entries: bytes) -> None:
            """Use the definitions that another process has shared."""
            ...


THREAD_NAME = "mixpanel-visitor-flags"
LOOK_EVERY_S = 1.0
FETCH_EVERY_S = 60.0
LOCAL_EVERY_S = 1.0
"""The interval for a local Mixpanel, where a developer changes flags and watches."""

MISSING_AFTER_S = 30.0
"""Until then another process should have fetched them."""


class FlagFigures(TypedDict):
    """The part of `Tracker.stats()` about feature flags.

    `definitions` counts those that this process knows; `age_s` is how long ago any process fetched them,
    None: never. The others count in this process: requests for them, those that `failed`, responses with
    `malformed` entries; `last_error` is empty if the last request succeeded.
    """

    definitions: int
    age_s: float | None
    fetched: int
    failed: int
    malformed: int
    last_error: str


class FlagRefresher:
    """Fetches and shares; `fetch` is None where this process does not deliver. Raises nothing."""

    def __init__(
        self,
        spool: Spool,
        reader: Reader,
        *,
        fetch: Callable[[str], Answer] | None,
        every_s: float,
        is_paused: Callable[[], bool] = lambda: False,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        log: RateLimitedLog,
    ) -> None:
        self._sharing_spool = spool if isinstance(spool, FlagSharingSpool) else None
        self._reader = reader
        self._fetch = fetch
        self._every_s = every_s
        self._is_paused = is_paused
        self._clock = clock
        self._monotonic = monotonic
        self._log = log
        self._known: SharedDefinitions | None = None
        self._started_s = monotonic()
        self._next_look_s = self._next_fetch_s = float("-inf")
        self._fetching_pid = 0
        self._failures_in_a_row = 0
        self._missing_is_logged = False
        self.fetched = self.failed = 0
        self.last_error = ""

    @property
    def age_s(self) -> float | None:
        """How long ago the known definitions were fetched; 0 where a clock was set back."""
        return None if self._known is None else max(0.0, self._clock() - self._known.fetched_at_s)

    def figures(self, *, definitions: int, malformed: int) -> FlagFigures:
        """Return the current counts; those of definitions and malformed responses are the reader's."""
        return {
            "definitions": definitions,
            "age_s": self.age_s,
            "fetched": self.fetched,
            "failed": self.failed,
            "malformed": malformed,
            "last_error": self.last_error,
        }

    def forget(self) -> None:
        """Reset the counts, in a forked child."""
        self.fetched = self.failed = self._failures_in_a_row = self._fetching_pid = 0
        self.last_error, self._missing_is_logged = "", False
        self._started_s = self._monotonic()

    def refresh(self, *, at_once: bool = False, may_lead: bool = True) -> None:
        """Look for shared definitions, at most once a second unless `at_once`; start to fetch where due.

        A process that leads has to deliver too: one that cannot must not lead (`may_lead`).
        """
        now_s = self._monotonic()
        if (not at_once and now_s < self._next_look_s) or self._is_paused():
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        try:
            self.look()
            if may_lead and now_s >= self._next_fetch_s and self._fetching_pid != os.getpid():
                if self._may_fetch():
                    self._start_fetch()
                elif self._known is None and now_s - self._started_s >= MISSING_AFTER_S:
                    self._log_missing()
        except Exception as error:
            self._log_unshared(error)

    def look(self) -> None:
        """Use the definitions that another process has shared since the last call."""
        document = None if self._sharing_spool is None else self._sharing_spool.shared_flags()
        if document is None:
            return
        try:
            shared = SharedDefinitions.decode(document)
            if self._known is None or shared.entries != self._known.entries:
                self._reader.read_shared(shared.entries)
        except ValueError as error:
            message = (
                "The feature flags in the spool cannot be read (%s): this process goes on with those it has."
            )
            self._log(logging.WARNING, "flags damaged", message, error)
            return
        self._known = shared
        # Those of an earlier process may be old; with a wrong clock they are fetched once too often.
        fresh_s = min(self._every_s, max(0.0, self._every_s - (self.age_s or 0.0)))
        self._next_fetch_s = self._monotonic() + fresh_s

    def _may_fetch(self) -> bool:
        return self._fetch is not None and (self._sharing_spool is None or self._sharing_spool.leads())

    def _start_fetch(self) -> None:
        self._fetching_pid = os.getpid()  # a forked child does not have the thread
        if threads.start(THREAD_NAME, self.fetch) is None:
            self._fetching_pid = 0
            self._next_fetch_s = self._monotonic() + self._every_s

    def fetch(self) -> None:
        """Ask Mixpanel, and use and share its definitions; if that fails, the known ones stay."""
        assert self._fetch is not None
        known = self._known
        try:
            result = self._fetch("" if known is None else known.etag)
            if result.error:
                self._note_failure(result.error)
                return
            if result.body is not None:
                entries, etag = self._reader.read_answer(result.body), result.etag
            elif known is not None:
                entries, etag = known.entries, known.etag
            else:
                self._note_failure("status 304, though nothing is known yet")
                return
            self._known = SharedDefinitions(entries=entries, etag=etag, fetched_at_s=self._clock())
            self._note_success()
            self._share(self._known)
        except Exception as error:
            self._note_failure(f"{type(error).__name__}: {error}")
        finally:
            self._fetching_pid = 0

    def _share(self, known: SharedDefinitions) -> None:
        if self._sharing_spool is None:
            return
        try:
            self._sharing_spool.share_flags(known.encode())
        except Exception as error:
            self._log_unshared(error)

    def _log_unshared(self, error: Exception) -> None:
        self._log(
            logging.WARNING,
            "flags shared",
            "The spool does not share the definitions of feature flags (%s: %s): this process goes on with "
            "those that it has.",
            type(error).__name__,
            error,
        )

    def _note_success(self) -> None:
        self.fetched += 1
        if self._failures_in_a_row:
            self._log(logging.INFO, "flags again", "Mixpanel gives the definitions of feature flags again.")
        self._failures_in_a_row, self.last_error = 0, ""
        self._next_fetch_s = self._monotonic() + self._every_s

    def _note_failure(self, error: str) -> None:
        self.failed += 1
        if not self._failures_in_a_row:  # once, until a request succeeds
            self._log(
                logging.WARNING,
                "flags fetch",
                "Mixpanel does not give the definitions of feature flags (%s): %s, and this is tried again "
                "without further lines; `stats()` counts it.",
                error,
                "defaults count until it does" if self._known is None else "the last ones count on",
            )
        self.last_error = error
        self._next_fetch_s = self._monotonic() + min(self._every_s, 2.0**self._failures_in_a_row)
        self._failures_in_a_row = min(self._failures_in_a_row + 1, 10)

    def _log_missing(self) -> None:
        if self._missing_is_logged:
            return
        self._missing_is_logged = True
        self._log(
            logging.WARNING,
            "flags missing",
            "No process has fetched the definitions of feature flags: each flag has its default. The process "
            "that delivers does it; set MIXPANEL_VISITOR_FLAGS=local for it as well.",
        )
