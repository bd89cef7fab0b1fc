"""DetachedExchange: what stands behind a visitor outside of any request, in jobs, scripts and tests."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .enrichment.request_properties import EmptyRequestProperties
from .identity.identity import Identity, IdMode, log_in, log_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mixpanel_visitor.records import Record

    from .identity.identity import Login, MergeEvent
    from .policy import Consent
    from .request import RequestFacts
    from .site_rules import Unfinished


class DetachedExchange:
    """Somebody whose ID the caller knows: no cookie, no response, consent is the caller's business.

    `store` takes records at once; with `gather()` they wait for `finish()` and are stored together. Until
    then the visit is one of `unfinished`, whose records others may take.
    """

    __slots__ = (
        "_gathering",
        "_id_mode",
        "_merge",
        "_opted_out",
        "_records",
        "_refusal",
        "_refuse",
        "_store",
        "_unfinished",
        "announce",
        "identity",
        "registered",
    )  # fmt: skip

    facts: RequestFacts | None = None
    request_properties = EmptyRequestProperties()
    consent: Consent = "granted"
    is_bot = False
    spid_user_id: int | None = None
    holds_back = False

    def __init__(
        self,
        identity: Identity,
        *,
        id_mode: IdMode,
        refusal: Callable[[], str | None],
        refuse: Callable[[str, int], None],
        store: Callable[[list[Record]], None],
        unfinished: set[Unfinished],
    ) -> None:
        self.identity = identity
        self._id_mode: IdMode = id_mode
        self._refusal = refusal
        self._refuse = refuse
        self._store = store
        self._unfinished = unfinished
        self._records: deque[Record] = deque()
        self._gathering = False
        self._opted_out = False
        self._merge: MergeEvent | None = None
        self.announce: Callable[[MergeEvent], None] | None = None
        self.registered: Mapping[str, Any] | None = None

    @property
    def refusal(self) -> str | None:
        """Why nothing is tracked; None: it is."""
        return self._refusal() or ("consent_denied" if self._opted_out else None)

    def add(self, record: Record) -> None:
        """Store a record, or keep it for `finish`."""
        if record.endpoint == "import":
            self._merge = None  # this event carries device and user
        if not self._gathering:
            self._store([record])
            return
        self._records.append(record)
        if not self._gathering:  # another thread has just finished, and may not have seen this one
            self._store_taken()

    def gather(self) -> None:
        """Keep records until `finish`, so that they are stored with one write."""
        self._gathering = True
        self._unfinished.add(self)

    def take(self) -> list[Record]:
        """Return what was gathered since the last call, and forget it here; any thread may call this."""
        records: list[Record] = []
        while self._records:
            try:
                records.append(self._records.popleft())
            except IndexError:
                break  # another thread was faster
        return records

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

    def schedule_merge(self, merge: MergeEvent | None) -> None:
        """Note the event that joins device and user, to be written if no other event does that."""
        self._merge = merge
        if not self._gathering:
            self._settle()  # nobody says when this visit ends

    def reset(self, fresh_id: Callable[[], str]) -> None:
        """Go on as somebody new."""
        self._merge = None
        self.identity = log_out(self.identity, fresh_id())._replace(vouched=False)

    def opt_out(self) -> None:
        """Track no more of them here, and drop what was gathered."""
        self._opted_out = True
        self._merge = None
        dropped = self.take()
        if dropped:
            self._refuse("consent_denied", len(dropped))

    def opt_in(self, fresh_id: Callable[[], str]) -> None:  # noqa: ARG002  # an exchange needs it
        """Go on."""
        self._opted_out = False

    def forget(self) -> None:
        """Drop what was gathered: in a forked child it is the parent's."""
        self._records.clear()

    def finish(self) -> None:
        """Store what was gathered; what comes later is stored at once."""
        self._settle()
        self._gathering = False
        self._unfinished.discard(self)
        self._store_taken()

    def _store_taken(self) -> None:
        records = self.take()
        if records:
            self._store(records)

    def _settle(self) -> None:
        """Write the event that joins device and user, if no other event of this visit does."""
        merge, self._merge = self._merge, None
        if merge is not None and self.announce is not None:
            self.announce(merge)
