"""OfflineVisit: what stands behind a visitor outside of any request, in jobs, scripts and tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .identity import Identity, IdMode, log_in, log_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.records import Record

    from .identity import Login
    from .policy import Consent
    from .request import RequestFacts


class OfflineVisit:
    """Somebody whose ID the caller knows: no cookie, no response, consent is the caller's business.

    `store` takes records at once; with `gather()` they wait for `finish()` and are stored together.
    """

    __slots__ = ("_gathering", "_id_mode", "_records", "_refusal", "_store", "identity")

    facts: RequestFacts | None = None
    consent: Consent = "granted"
    is_bot = False

    def __init__(
        self,
        identity: Identity,
        *,
        id_mode: IdMode,
        refusal: Callable[[], str | None],
        store: Callable[[list[Record]], None],
    ) -> None:
        self.identity = identity
        self._id_mode: IdMode = id_mode
        self._refusal = refusal
        self._store = store
        self._records: list[Record] = []
        self._gathering = False

    @property
    def refusal(self) -> str | None:
        """Why nothing is tracked; None: it is."""
        return self._refusal()

    def add(self, record: Record) -> None:
        """Store a record, or keep it for `finish`."""
        if self._gathering:
            self._records.append(record)
        else:
            self._store([record])

    def gather(self) -> None:
        """Keep records until `finish`, so that they are stored with one write."""
        self._gathering = True

    def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:
        """Attach a user to this device; another one than before gets a new device first."""
        before = self.identity
        linked = before.user_id == user_id
        another = before.device_id is not None and before.user_id is not None and not linked
        login = log_in(
            self._id_mode, before, user_id, linked=linked, fresh_device_id=fresh_id() if another else None
        )
        self.identity = login.identity
        return login

    def reset(self, fresh_id: Callable[[], str]) -> None:
        """Go on as somebody new."""
        self.identity = replace(log_out(self.identity, fresh_id()), vouched=False)

    def take(self) -> list[Record]:
        """Give what was gathered and forget it."""
        records, self._records = self._records, []
        return records

    def finish(self) -> None:
        """Store what was gathered; what comes later is stored at once."""
        self._gathering = False
        records = self.take()
        if records:
            self._store(records)
