"""Refresher: keeps the definitions of one process fresh: from Mixpanel where it delivers, else shared ones.

`refresh` is called by the sender's thread after each round. It looks for what another process has shared,
which is cheap; a request to Mixpanel is made in a thread of its own, so that no event waits for it.
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
        """What reads definitions; both methods raise ValueError for what cannot be read."""

        def read_answer(self, body: bytes) -> bytes:
            """Take Mixpanel's answer; return the definitions as they are to be shared."""
            ...

        def read_shared(self, entries: bytes) -> None:
            """Take what another process has shared."""
            ...


THREAD_NAME = "mixpanel-visitor-flags"
LOOK_EVERY_S = 1.0
FETCH_EVERY_S = 60.0
LOCAL_EVERY_S = 1.0
"""A local Mixpanel is asked that often: somebody sits before its page."""

MISSING_AFTER_S = 30.0
"""Another process is expected to have fetched them by then."""


class FlagFigures(TypedDict):
    """The part of `Tracker.stats()` about feature flags.

    `definitions` are those that are known here; `age_s` is how long ago they were fetched, by whichever
    process, None: never. The others count in this process: requests for them, those that `failed`, answers
    with `malformed` entries; `last_error` is empty where the last request succeeded.
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
        self._sharing = spool if isinstance(spool, FlagSharingSpool) else None
        self._reader = reader
        self._fetch = fetch
        self._every_s = every_s
        self._is_paused = is_paused
        self._clock = clock
        self._monotonic = monotonic
        self._log = log
        self._known: SharedDefinitions | None = None
        self._began_s = monotonic()
        self._look_again_s = self._fetch_again_s = float("-inf")
        self._fetching_in = 0
        self._failures_in_a_row = 0
        self._missed = False
        self.fetched = self.failed = 0
        self.last_error = ""

    @property
    def age_s(self) -> float | None:
        """How long ago the definitions were fetched that are known here; a clock set back counts as 0."""
        return None if self._known is None else max(0.0, self._clock() - self._known.fetched_at_s)

    def figures(self, *, definitions: int, malformed: int) -> FlagFigures:
        """Return the figures of now; the number of definitions and malformed answers are the reader's."""
        return {
            "definitions": definitions,
            "age_s": self.age_s,
            "fetched": self.fetched,
            "failed": self.failed,
            "malformed": malformed,
            "last_error": self.last_error,
        }

    def forget(self) -> None:
        """Count anew, in a forked child."""
        self.fetched = self.failed = self._failures_in_a_row = self._fetching_in = 0
        self.last_error, self._missed = "", False
        self._began_s = self._monotonic()

    def refresh(self, *, at_once: bool = False, may_lead: bool = True) -> None:
        """Look for shared definitions, at most once a second unless `at_once`; begin to fetch where due.

        Who leads has to deliver as well: a process that cannot do that must not (`may_lead`).
        """
        now_s = self._monotonic()
        if (not at_once and now_s < self._look_again_s) or self._is_paused():
            return
        self._look_again_s = now_s + LOOK_EVERY_S
        try:
            self.look()
            if may_lead and now_s >= self._fetch_again_s and self._fetching_in != os.getpid():
                if self._may_fetch():
                    self._begin_to_fetch()
                elif self._known is None and now_s - self._began_s >= MISSING_AFTER_S:
                    self._log_missing()
        except Exception as error:
            self._log_unshared(error)

    def look(self) -> None:
        """Take what another process has shared since the last look."""
        document = None if self._sharing is None else self._sharing.shared_flags()
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
        # What an earlier process has left may be old; by a clock that is wrong, it is fetched once too often.
        fresh_s = min(self._every_s, max(0.0, self._every_s - (self.age_s or 0.0)))
        self._fetch_again_s = self._monotonic() + fresh_s

    def _may_fetch(self) -> bool:
        return self._fetch is not None and (self._sharing is None or self._sharing.leads())

    def _begin_to_fetch(self) -> None:
        self._fetching_in = os.getpid()  # a forked child has no such thread
        if threads.start(THREAD_NAME, self.fetch) is None:
            self._fetching_in = 0
            self._fetch_again_s = self._monotonic() + self._every_s

    def fetch(self) -> None:
        """Ask Mixpanel, take its answer and share it; what is known is kept where that fails."""
        assert self._fetch is not None
        known = self._known
        try:
            answer = self._fetch("" if known is None else known.etag)
            if answer.error:
                self._note_failure(answer.error)
                return
            if answer.body is not None:
                entries, etag = self._reader.read_answer(answer.body), answer.etag
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
            self._fetching_in = 0

    def _share(self, known: SharedDefinitions) -> None:
        if self._sharing is None:
            return
        try:
            self._sharing.share_flags(known.encode())
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
        self._fetch_again_s = self._monotonic() + self._every_s

    def _note_failure(self, error: str) -> None:
        self.failed += 1
        if not self._failures_in_a_row:  # once, until they are there again
            self._log(
                logging.WARNING,
                "flags fetch",
                "Mixpanel does not give the definitions of feature flags (%s): %s, and this is tried again "
                "without further lines; `stats()` counts it.",
                error,
                "defaults count until it does" if self._known is None else "the last ones count on",
            )
        self.last_error = error
        self._fetch_again_s = self._monotonic() + min(self._every_s, 2.0**self._failures_in_a_row)
        self._failures_in_a_row = min(self._failures_in_a_row + 1, 10)

    def _log_missing(self) -> None:
        if self._missed:
            return
        self._missed = True
        self._log(
            logging.WARNING,
            "flags missing",
            "No process has fetched the definitions of feature flags: each flag has its default. The process "
            "that delivers does it; set MIXPANEL_VISITOR_FLAGS=local for it as well.",
        )
