"""DetachedExchange: the exchange of a visitor outside of any request, in jobs, scripts and tests."""

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
    """A visitor outside of a request, whose ID the caller knows; the caller is responsible for consent.

    Records have to be committed at once. After `begin_batch()` they wait for `end()` and are stored together;
    until then the exchange is one of `unfinished`, whose records other code may take.

    `resumed`: the visitor as a request has exported it. Then each record has to be committed at once, even in
    a batch, because a job may be killed at any time, and no log-in joins device and user.
    """

    __slots__ = (
        "_id_mode",
        "_in_batch",
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
        """When a request exported this visitor, in unix milliseconds; None: no request did."""
        self._id_mode: IdMode = id_mode
        self._refusal = refusal
        self._refuse = refuse
        self._unfinished = unfinished
        self._records: deque[Record] = deque()
        self._in_batch = False
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
        """The counter name of the reason why nothing is tracked; None: events are tracked."""
        return self._refusal() or ("consent_denied" if self._opted_out else None)

    def add(self, record: Record) -> Sequence[Record]:
        """Queue a record. Return the records that have to be committed now."""
        if record.endpoint == "import":
            self._scheduled_merge = None  # this event carries device and user
        if not self._in_batch:
            return [record]
        self._records.append(record)
        # Another thread may have ended the batch, without this record.
        return () if self._in_batch else self.take()

    def begin_batch(self) -> None:
        """Queue records until `end`, so that they are stored with one write."""
        if self.exported_at_ms is not None:
            return
        self._in_batch = True
        self._unfinished.add(self)

    def take(self) -> list[Record]:
        """Return and remove the queued records; any thread may call this."""
        records: list[Record] = []
        while self._records:
            try:
                records.append(self._records.popleft())
            except IndexError:
                break  # another thread was faster
        return records

    def register(self, properties: Mapping[str, Any]) -> None:
        """Add super properties, which all further events have."""
        self.registered = {**(self.registered or {}), **properties}

    def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:
        """Attach a user to this device; a different user gets a new device ID."""
        before = self.identity
        linked = before.user_id == user_id
        is_other = before.device_id is not None and before.user_id is not None and not linked
        if self.exported_at_ms is not None and not linked:
            # Only a request knows who uses the device by now.
            before, is_other = before._replace(device_unverified=True), False
        login = log_in(
            self._id_mode, before, user_id, linked=linked, fresh_device_id=fresh_id() if is_other else None
        )
        self.identity = login.identity
        return login

    def schedule_merge(self, merge: MergeEvent | None) -> MergeEvent | None:
        """Schedule the event that joins device and user; another event that carries both replaces it.

        Return it if it is due at once, because there is no batch that will end.
        """
        if not self._in_batch:
            return merge
        self._scheduled_merge = merge
        return None

    def reset(self, fresh_id: Callable[[], str]) -> None:
        """Continue as a new visitor."""
        self._scheduled_merge = self.registered = None
        self.identity = log_out(self.identity, fresh_id())._replace(vouched=False)

    def opt_out(self) -> None:
        """Stop tracking this visitor here, and drop the queued records."""
        self._opted_out = True
        self._scheduled_merge = self.registered = None
        dropped = self.take()
        if dropped:
            self._refuse("consent_denied", len(dropped))

    def opt_in(self, fresh_id: Callable[[], str]) -> None:  # noqa: ARG002  # as in Exchange
        """Take the opt-out back."""
        self._opted_out = False

    def forget(self) -> None:
        """Drop the queued records: in a forked child they are the parent's."""
        self._records.clear()

    def end(self) -> MergeEvent | None:
        """End the batch. Return the event that joins device and user, if no other event has done that.

        Call `take` afterwards for the records that remain.
        """
        due, self._scheduled_merge = self._scheduled_merge, None
        self._in_batch = False
        self._unfinished.discard(self)
        return due
