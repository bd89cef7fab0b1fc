"""DetachedExchange: what stands behind a visitor outside of any request, in jobs, scripts and tests."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .enrichment.request_properties import CarriedRequestProperties, EmptyRequestProperties
from .identity.identity import Identity, IdMode, log_in, log_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mixpanel_visitor.records import Record

    from .exported_visitor import ExportedVisitor
    from .identity.identity import Login, MergeEvent
    from .policy import Consent
    from .request import RequestFacts
    from .site_rules import Unfinished


_NO_REQUEST = EmptyRequestProperties()


class DetachedExchange:
    """Somebody whose ID the caller knows: no cookie, no response, consent is the caller's business.

    Records are to be committed at once. After `begin_batch()` they wait for `end()` and are stored together;
    until then the exchange is one of `unfinished`, whose records others may take.

    `resumed`: what a request has exported of this visitor. Then each record is to be committed at once, even
    in a batch, for a job may be killed at any time, and no log-in joins device and user.
    """

    __slots__ = (
        "_gathers",
        "_id_mode",
        "_opted_out",
        "_records",
        "_refusal",
        "_refuse",
        "_scheduled_merge",
        "_unfinished",
        "exported_at_ms",
        "flag_decisions",
        "identity",
        "is_bot",
        "registered",
        "request_properties",
    )  # fmt: skip

    facts: RequestFacts | None = None
    consent: Consent = "granted"
    has_lasting_id = True
    spid_user_id: int | None = None
    holds_back = False
    in_background = False

    def __init__(
        self,
        identity: Identity,
        *,
        id_mode: IdMode,
        refusal: Callable[[], str | None],
        refuse: Callable[[str, int], None],
        unfinished: set[Unfinished],
        resumed: ExportedVisitor | None = None,
    ) -> None:
        self.identity = identity
        self.request_properties: EmptyRequestProperties = _NO_REQUEST
        self.exported_at_ms: int | None = None
        """When a request has exported this visitor, in unix milliseconds; None: none has."""
        self._id_mode: IdMode = id_mode
        self._refusal = refusal
        self._refuse = refuse
        self._unfinished = unfinished
        self._records: deque[Record] = deque()
        self._gathers = False
        self._opted_out = False
        self._scheduled_merge: MergeEvent | None = None
        self.registered: Mapping[str, Any] | None = None
        if resumed is not None:
            self.request_properties = CarriedRequestProperties(resumed.event_properties)
            self.exported_at_ms, self.registered = resumed.exported_at_ms, resumed.registered
        self.is_bot = resumed is not None and bool(resumed.event_properties.get("is_bot"))
        self.flag_decisions: dict[str, Any] | None = None

    @property
    def refusal(self) -> str | None:
        """Why nothing is tracked; None: it is."""
        return self._refusal() or ("consent_denied" if self._opted_out else None)

    def add(self, record: Record) -> Sequence[Record]:
        """Take a record. Return those that have to be committed now."""
        if record.endpoint == "import":
            self._scheduled_merge = None  # this event carries device and user
        if not self._gathers:
            return [record]
        self._records.append(record)
        # Another thread may have ended the batch, and not have seen this record.
        return () if self._gathers else self.take()

    def begin_batch(self) -> None:
        """Keep records until `end`, so that they are stored with one write."""
        if self.exported_at_ms is not None:
            return
        self._gathers = True
        self._unfinished.add(self)

    def take(self) -> list[Record]:
        """Return what was queued since the last call, and forget it here; any thread may call this."""
        records: list[Record] = []
        while self._records:
            try:
                records.append(self._records.popleft())
            except IndexError:
                break  # another thread was faster
        return records

    def register(self, properties: Mapping[str, Any]) -> None:
        """Add super properties: what every further event says."""
        self.registered = {**(self.registered or {}), **properties}

    def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:
        """Attach a user to this device; another one than before gets a new device first."""
        before = self.identity
        linked = before.user_id == user_id
        another = before.device_id is not None and before.user_id is not None and not linked
        if self.exported_at_ms is not None and not linked:
            # Who uses the device by now only a request knows.
            before, another = before._replace(device_unverified=True), False
        login = log_in(
            self._id_mode, before, user_id, linked=linked, fresh_device_id=fresh_id() if another else None
        )
        self.identity = login.identity
        return login

    def schedule_merge(self, merge: MergeEvent | None) -> MergeEvent | None:
        """Note the event that joins device and user; another event that carries both replaces it.

        Return it where it is due at once: outside of a batch, no end is known.
        """
        if not self._gathers:
            return merge
        self._scheduled_merge = merge
        return None

    def reset(self, fresh_id: Callable[[], str]) -> None:
        """Go on as somebody new."""
        self._scheduled_merge = self.registered = None
        self.identity = log_out(self.identity, fresh_id())._replace(vouched=False)

    def opt_out(self) -> None:
        """Track no more of them here, and drop what was queued."""
        self._opted_out = True
        self._scheduled_merge = self.registered = None
        dropped = self.take()
        if dropped:
            self._refuse("consent_denied", len(dropped))

    def opt_in(self, fresh_id: Callable[[], str]) -> None:  # noqa: ARG002  # an exchange needs it
        """Go on."""
        self._opted_out = False

    def forget(self) -> None:
        """Drop what was queued: in a forked child it is the parent's."""
        self._records.clear()

    def end(self) -> MergeEvent | None:
        """End the batch. Return the event that joins device and user, if no other event has done that.

        What is left then is returned by `take`.
        """
        due, self._scheduled_merge = self._scheduled_merge, None
        self._gathers = False
        self._unfinished.discard(self)
        return due
