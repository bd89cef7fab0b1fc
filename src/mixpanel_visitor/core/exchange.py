"""Exchange: the life of one request with its response, as a small state machine.

```
OPEN ──on_response_start()──▶ STARTED    the response's head is out: cookies cannot be set any more
  │                              │
  └───────on_response_end()──────┴──▶ ENDED    further records have to be committed at once
```

It takes values and returns values. It returns the identity events that are due, and its caller writes them
with `add`. `take` returns the queued records at any time; a later record leaves with the next call.

`on_response_start` may be called again (WSGI allows a second `start_response` with `exc_info`, ASGI
applications send informational responses first): only the head that goes out counts.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from .enrichment.page_views import is_page
from .identity.handover import resolve_handover
from .identity.identity import log_in, log_out
from .identity.resolver import ResolvedIdentity
from .identity.visitor_cookie import VisitorCookie
from .pending_records import HoldsRecords, PendingRecords
from .policy import may_set_cookie, missing_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mixpanel_visitor.records import Record

    from .enrichment.request_properties import EmptyRequestProperties, RequestProperties
    from .identity.handover import HandoverClaim
    from .identity.identity import Identity, Login, MergeEvent
    from .policy import Consent
    from .request import RequestFacts
    from .site_rules import SiteRules

    Headers = Sequence[tuple[str, str]]

COMMIT_AT_RECORDS = 100
COMMIT_AT_BYTES = 1_000_000
"""A request that has queued this much commits it before it ends: streams and sockets may never end."""


class ExchangeState(Enum):
    """The states of an exchange; the module's docstring shows the transitions."""

    OPEN = 0
    STARTED = 1
    ENDED = 2


class CookieChange(IntEnum):
    """What has happened to the visitor's cookie in this exchange."""

    NONE = 0
    UPDATED = 1
    NEW_DEVICE = 2
    """The browser SDK's cookie is replaced as well."""


# Looking a member up in its enum class is a call of Python code, in each request.
OPEN, STARTED, ENDED = ExchangeState
_NOT_CHANGED, _UPDATED, _NEW_DEVICE = CookieChange


class ResponseStart(NamedTuple):
    """The headers to add to a response that starts, and the identity events that are due now."""

    headers: list[tuple[str, str]]
    merge_events: tuple[MergeEvent, ...] = ()


UNCHANGED = ResponseStart([])
"""No header is added, and no event is due."""


class Exchange(HoldsRecords):
    """One request from our point of view.

    `add` may be called from several threads. It appends a record, then checks whether the exchange has ended;
    `on_response_end` ends it, and `take` is called after that. So no record remains in the queue.

    `_received_cookie` is the cookie as the browser sent it, `_cookie` the one to store. They are the same
    object unless something has changed. There is a `_cookie` if and only if consent is granted.

    `resumes`: the ID comes from a pending cookie of an earlier response. `withheld`: with such a request the
    browser does not send our cookie, even if it has one.
    """

    exported_at_ms: int | None = None
    """When another service exported this visitor, in unix milliseconds; None: no service did."""

    flag_decisions: dict[str, Any] | None = None
    """Decided feature flags by key; a class attribute, so that requests without flags do not set it."""

    def __init__(
        self,
        rules: SiteRules,
        facts: RequestFacts,
        identity: Identity,
        consent: Consent,
        now_s: float = 0.0,
        received_cookie: VisitorCookie | None = None,
        in_background: bool = False,
        resolved: ResolvedIdentity | None = None,
        no_cookie_until_s: float = 0.0,
        *,
        resumes: bool = False,
        withheld: bool = False,
        request_properties: RequestProperties | EmptyRequestProperties | None = None,
    ) -> None:
        self._rules = rules
        self.facts = facts
        self.identity = identity
        self.consent: Consent = consent
        self.state: ExchangeState = OPEN
        self.in_background = in_background
        self.resumes = resumes
        self.withheld = withheld
        self.registered: Mapping[str, Any] | None = None
        """The super properties, as they will be sent."""
        self.pending: PendingRecords | None = None
        self._now_s = now_s
        self._received_cookie = received_cookie
        self._no_cookie_until_s = no_cookie_until_s
        self._request_properties = request_properties
        self._cookie_change: CookieChange = _NOT_CHANGED
        self._opt_out_cookies: Sequence[str] = ()
        self._handover: HandoverClaim | None = None
        self._scheduled_merge: MergeEvent | None = None
        self._is_anonymous = self._tracked = self._page_view_decided = False
        self._queues: list[PendingRecords] = []
        self._fresh_id: str | None = None
        self._remembered: bool | None = None  # set before `pending` is read; `_records` does the reverse
        if resolved is None:
            self._cookie: VisitorCookie | None = None
            self.merge_events: tuple[MergeEvent, ...] = ()
            """Identity events that are due once the response stores these IDs."""
        else:
            self._cookie = resolved.cookie
            self.merge_events = resolved.merge_events
            if identity.is_new:
                self._fresh_id = resolved.cookie.device_id

    @property
    def refusal(self) -> str | None:
        """The counter name of the reason why this request is not tracked; None: it is tracked."""
        site_refusal = self._rules.refusal()
        if site_refusal is not None:
            return site_refusal
        if self.consent != "granted":
            return f"consent_{self.consent}"
        return "bot" if self._rules.bots == "drop" and self.request_properties.bot else None

    @property
    def received_cookie(self) -> VisitorCookie | None:
        """The visitor cookie that came with the request, signed by us; None: there was none."""
        return self._received_cookie

    @property
    def spid_user_id(self) -> int | None:
        """SPiD's ID of the user who is logged in there, until the signed session ends."""
        cookie = self._cookie
        return cookie.spid_user_id if cookie is not None and self._now_s <= cookie.spid_until_s else None

    @property
    def request_properties(self) -> RequestProperties | EmptyRequestProperties:
        """The request's properties: browser, page, campaign, address, bot; created on first use."""
        if self._request_properties is None:
            sources = ("generated", "none", "cookie")
            is_first = self._received_cookie is None and self.identity.source in sources
            properties = self._rules.request_properties(self.facts, is_first=is_first)
            properties.has_first_touch = is_first and not self._is_anonymous
            self._request_properties = properties
        return self._request_properties

    @property
    def is_bot(self) -> bool:
        """Whether a bot has sent this request."""
        return bool(self.request_properties.bot)

    @property
    def has_lasting_id(self) -> bool:
        """Whether later requests may come with this device ID."""
        return self.consent == "granted" and not (self._is_anonymous or self.is_bot)

    @property
    def _records(self) -> PendingRecords:
        if self.pending is None:
            records = PendingRecords(self._rules.refuse)
            if self._fresh_id is not None:
                records.add_fresh_device(self._fresh_id)
            self._queues.append(records)
            self.pending = self._queues[0]  # the queue of the first thread that came here
            if self._remembered is not None:
                self.pending.decide(remembered=self._remembered)
        return self.pending

    def anonymize(self, identity: Identity) -> None:
        """Take this identity, and send no event under its fresh device ID."""
        self.identity = identity
        self._remembered = False
        self._is_anonymous = True

    # --- the visitor's side ---------------------------------------------------------------------

    def add(self, record: Record) -> Sequence[Record]:
        """Queue a record for the next `take`. Return the records that have to be committed now."""
        if not self._tracked:
            self._tracked = True
            if self.state is not ENDED:
                self._rules.unfinished.add(self)
        if record.endpoint == "import":
            self._scheduled_merge = None  # this event carries device and user
        pending = self._records if self.pending is None else self.pending
        waiting_count = pending.add(record)
        is_large = pending.size_bytes >= COMMIT_AT_BYTES
        if is_large and pending.is_held:
            # Too large to wait for the response: assume that it carries the cookie, as most do.
            pending.decide(remembered=True)
        if (
            self.state is ENDED
            or is_large
            or waiting_count >= COMMIT_AT_RECORDS
            or self.facts.protocol == "websocket"  # there is no "after the response" for a socket
        ):
            return self.take()
        return ()

    def register(self, properties: Mapping[str, Any]) -> None:
        """Add super properties, which all further events of this request have."""
        self.registered = {**(self.registered or {}), **properties}

    def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:
        """Log a user in; a different user on the same device gets a new device ID."""
        cookie = self._cookie
        is_same = cookie is not None and cookie.belongs_to(user_id)
        is_other = cookie is not None and cookie.has_user and not is_same
        linked = cookie is not None and is_same and not (cookie.merge_pending or cookie.unjoined)
        before = self.identity
        if before.source == "cookie" and not linked:
            # This is the log-in that the device has waited for.
            before = before._replace(device_unverified=False)
        login = log_in(
            self._rules.id_mode,
            before,
            user_id,
            linked=linked,
            fresh_device_id=fresh_id() if is_other else None,
            earlier_id=None if cookie is None else cookie.earlier_id,
        )
        # A cookie of an older version may have a hash in place of the user ID: now it gets the ID itself.
        self._set_identity(
            login.identity, changed=not linked or (cookie is not None and cookie.user_id is None)
        )
        return login

    def resume_log_in(self, user_id: str, fresh_id: Callable[[], str]) -> None:
        """Do a log-in that an earlier response could not store in our cookie."""
        login = self.identify(user_id, fresh_id)
        deferred = () if login.merge is None else (login.merge,)
        self.merge_events = (*self.merge_events, *login.merge_events, *deferred)

    def schedule_merge(self, merge: MergeEvent | None) -> MergeEvent | None:
        """Schedule the event that joins device and user; another event that carries both replaces it.

        Return it if it is due at once, because the exchange has ended.
        """
        if self.state is ENDED:
            return merge
        self._scheduled_merge = merge
        return None

    def reset(self, fresh_id: Callable[[], str]) -> None:
        """Log out: forget the user and the super properties, and start a new device ID."""
        self._scheduled_merge = self.registered = None
        self._set_identity(log_out(self.identity, fresh_id()), changed=True)

    def _set_identity(self, identity: Identity, *, changed: bool) -> None:
        before, self.identity = self.identity, identity
        if not changed:
            return
        if self._cookie is None:
            if self.consent == "denied":
                self._rules.count("cookie_skipped_consent")
            return
        if identity.device_id == before.device_id:
            self._mark_updated()
            self._cookie = self._cookie._replace(
                user_id=identity.user_id,
                user_hash=None,
                earlier_id=None,
                merge_pending=identity.device_unverified,
                unjoined=False,
            )
        else:
            self._cookie_change = _NEW_DEVICE
            device_id = identity.device_id or ""
            self._cookie = VisitorCookie(
                device_id=device_id, issued_at_s=self._cookie.issued_at_s, user_id=identity.user_id
            )
            self._records.add_fresh_device(device_id)
        if self.state is not OPEN:
            self._rules.count("cookie_too_late")
            self._records.decide(remembered=False)

    def _mark_updated(self) -> None:
        self._cookie_change = max(self._cookie_change, _UPDATED)

    def opt_out(self) -> None:
        """Stop tracking this person: drop the queued records, and store the opt-out in the browser."""
        self._opt_out_cookies = self._rules.set_cookies.opt_out(self.facts, out=True)
        self.consent = "denied"
        self._cookie = self._scheduled_merge = self.registered = None
        self.merge_events = ()
        dropped = self._records.clear()
        if dropped:
            self._rules.refuse("consent_denied", dropped)
        if self.state is not OPEN:
            self._rules.count("cookie_too_late")

    def opt_in(self, fresh_id: Callable[[], str]) -> None:
        """Take an opt-out back, and start a new device ID."""
        if self.consent == "granted" or self._rules.refusal() is not None:
            return
        self._grant("granted")
        resolved = self._rules.resolver.resolve(None, "", now_s=self._now_s, fresh_id=fresh_id)
        self._cookie, self.identity = resolved.cookie, resolved.identity
        self._mark_updated()
        self._records.add_fresh_device(resolved.cookie.device_id)
        if self.state is not OPEN:
            self._rules.count("cookie_too_late")
            self._records.decide(remembered=False)

    def _grant(self, consent: Consent) -> None:
        self._opt_out_cookies = self._rules.set_cookies.opt_out(self.facts, out=False)
        self.consent = consent
        self._cookie = None

    def apply_handover(self, claim: HandoverClaim, fresh_id: Callable[[], str]) -> str | None:
        """Apply the IDs or the choice that a page has posted; raise `HandoverError` if they are not believed.

        Return the reason why they do not count, or None. Without consent IDs are not read; a choice (opt-out
        or opt-in) is, because it is how consent comes back.
        """
        if (site_refusal := self._rules.refusal()) is not None:
            return site_refusal
        if claim.opted_out is not None:
            self.opt_out() if claim.opted_out else self._grant("unknown")
            return None
        if self._cookie is None or self.is_bot or self.withheld:
            return self.refusal or ("cookies_withheld" if self.withheld else "bot")
        before = None
        if not (self.identity.is_new or self._is_anonymous):
            before = ResolvedIdentity(
                cookie=self._cookie, identity=self.identity, merge_events=self.merge_events
            )
        resolved = resolve_handover(self._rules.resolver, claim, before, now_s=self._now_s, fresh_id=fresh_id)
        self._cookie, self.identity, self.merge_events = (
            resolved.cookie,
            resolved.identity,
            resolved.merge_events,
        )
        self._handover = claim
        # If the SDK's cookie names another device, it is a seed of ours that the SDK does not use.
        is_seed = self._rules.set_cookies.is_seed_of_another(resolved.cookie, claim, self.facts)
        self._cookie_change = _NEW_DEVICE if is_seed else _UPDATED
        return None

    # --- the response's side --------------------------------------------------------------------

    @property
    def may_be_page_view(self) -> bool:
        """Whether the response may be a page that the server tracks as viewed."""
        page_views = self._rules.page_views
        return page_views is not None and not self._page_view_decided and page_views.may_come(self.facts)

    def is_page_view(self, status: int, headers: Headers) -> bool:
        """Return whether this response is a page that the server tracks as viewed; at most once."""
        if status < 200:
            return False
        self._page_view_decided = True
        return is_page(status, headers) and self.refusal is None

    def starts_unchanged(self, status: int) -> bool:
        """Start the response if it needs no change; False: `on_response_start` has to be called.

        A short cut for adapters: most responses to known visitors need no change.
        """
        if (
            self._now_s > self._no_cookie_until_s
            or self._cookie is not self._received_cookie
            or self._cookie_change
            or self._scheduled_merge is not None
            or self._rules.page_views is not None
        ):
            return False
        if status >= 200 or status == 101:
            self.state = STARTED
        return True

    def on_response_start(self, status: int, read_headers: Callable[[], Headers]) -> ResponseStart:
        """Decide about cookies, just before the head of the response goes out.

        An informational head (1xx except 101) changes nothing: the real head follows. `read_headers`
        returns the application's headers; it is only called where they matter.
        """
        if status < 200 and status != 101:
            return UNCHANGED
        self.state = STARTED
        headers = self._cookie_headers(status, read_headers()) if self.needs_set_cookie else []
        if not self._is_anonymous:
            self._remembered = bool(headers)
            if self.pending is not None:
                self.pending.decide(remembered=self._remembered)
        due: tuple[MergeEvent, ...] = ()
        if headers:
            due, self.merge_events = self.merge_events, ()
        if self._scheduled_merge is not None:
            due = (*due, self._scheduled_merge)
            self._scheduled_merge = None
        return ResponseStart(headers, due) if headers or due else UNCHANGED

    def on_response_end(self) -> MergeEvent | None:
        """End the exchange. Return the event that joins device and user, if no other event has done that.

        Call `take` afterwards for the records that remain.
        """
        if self.state is not ENDED:
            self._remembered = bool(self._remembered)
            if self.pending is not None and self.pending.is_held:  # we saw no response
                self.pending.decide(remembered=False)
            self.state = ENDED
            if self._tracked:
                self._rules.unfinished.discard(self)
        due, self._scheduled_merge = self._scheduled_merge, None
        return due

    @property
    def needs_set_cookie(self) -> bool:
        """Whether the response may have to carry a cookie."""
        cookie, received = self._cookie, self._received_cookie
        if cookie is received and self._now_s <= self._no_cookie_until_s and not self._cookie_change:
            return False  # an earlier request with this same cookie has shown it
        if cookie is None:
            return bool(self._opt_out_cookies) or (
                self.consent == "denied" and self._rules.set_cookies.has_any(self.facts)
            )
        return (
            cookie is not received
            or self._cookie_change is not _NOT_CHANGED
            or self._rules.set_cookies.wants_more(self.facts, cookie, now_s=self._now_s)
        )

    def _cookie_headers(self, status: int, headers: Headers) -> list[tuple[str, str]]:
        # Only these are read here, and most responses have none of them.
        headers = [pair for pair in headers if pair[0].lower().endswith(("cookie", "control", "expires"))]
        reason = self._rules.set_cookies.reason_not_to_set(status, headers, self.facts, now_s=self._now_s)
        reason = reason or self._reason_not_to_set()
        if reason is not None:
            self._rules.count(reason)
            return []
        added = [("set-cookie", cookie) for cookie in dict.fromkeys(self._cookie_values(status))]
        return added if status == 101 else added + missing_private(headers)

    def _reason_not_to_set(self) -> str | None:
        if self._cookie is None:
            return None
        if self.is_bot:
            return "cookie_skipped_bot"
        if self.withheld and not (self._cookie_change is _NEW_DEVICE or self._uses_pending_cookie):
            return "cookie_skipped_withheld"
        # The browser itself has sent its other ID, so our cookie may store it.
        follows = self.resumes or (
            self._received_cookie is not None and self._cookie is not self._received_cookie
        )
        if not self._cookie_change and not may_set_cookie(self.facts, tracked=self._tracked or follows):
            return "cookie_skipped_no_visit"
        return None

    def _cookie_values(self, status: int) -> list[str]:
        set_cookies = self._rules.set_cookies
        if self._cookie is None:
            removals = set_cookies.forget(self.facts) if self.consent == "denied" else []
            return [*removals, *self._opt_out_cookies]  # in this order: of two of a name the last one counts
        cookie, claim, now_s = self._cookie, self._handover, self._now_s
        if self._uses_pending_cookie:
            return [*self._opt_out_cookies, *set_cookies.pending_cookie(cookie, self.facts, now_s=now_s)]
        is_new_device = self._cookie_change is _NEW_DEVICE
        values = set_cookies.values(
            cookie, self.facts, self._received_cookie, status, replace_sdk=is_new_device, now_s=now_s
        )
        script_cookies = [] if claim is None else [set_cookies.script_cookie(cookie, claim, self.facts)]
        return [*self._opt_out_cookies, *values, *script_cookies]

    @property
    def _uses_pending_cookie(self) -> bool:
        """Whether the ID is stored in a pending cookie, because ours must not be overwritten."""
        if self.withheld:
            return self._cookie is not None and self._cookie.user_id is not None
        return (
            self._is_anonymous
            and self.identity.is_new
            and self.identity.device_unverified
            and not self._cookie_change
        )
