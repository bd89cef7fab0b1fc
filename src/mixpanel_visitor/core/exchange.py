"""Exchange: the life of one request with its response, as a small state machine.

```
OPEN ──on_response_start()──▶ STARTED    the response's head is out: what is decided about cookies is decided
  │                              │
  └───────on_response_end()──────┴──▶ ENDED    what is tracked from now on is to be committed at once
```

It takes values and returns values. What it wants written, identity events, it returns: whoever drives it
writes them, with `add`. Records leave with `take` at any time; what is queued later leaves with the next one.

`on_response_start` may be called again (WSGI allows a second `start_response` with `exc_info`, ASGI servers
send informational answers first): only the head that goes out counts, and it is asked for each time.
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
from .policy import keeping_it_private, may_set_cookie

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
"""A request that has queued so much commits it before it ends: streams and sockets may never end."""


class ExchangeState(Enum):
    """Where an exchange stands; the module's picture shows what leads from one to the next."""

    OPEN = 0
    STARTED = 1
    ENDED = 2


class CookieChange(IntEnum):
    """What has happened to the visitor's cookie in this exchange."""

    NONE = 0
    UPDATED = 1
    NEW_DEVICE = 2
    """The browser SDK's cookie is to be replaced as well."""


# To look a member up in its class costs a call of Python code in each request.
OPEN, STARTED, ENDED = ExchangeState
_NOT_CHANGED, _UPDATED, _NEW_DEVICE = CookieChange


class ResponseStart(NamedTuple):
    """What a response that starts is to carry, and the identity events that are due now."""

    headers: list[tuple[str, str]]
    merge_events: tuple[MergeEvent, ...] = ()


UNCHANGED = ResponseStart([])
"""Nothing is to be added, and nothing is due."""


class Exchange(HoldsRecords):
    """One request from our point of view.

    `add` may be called from several threads. Its order (append, then look whether it is over) and that of
    `on_response_end` (over, then `take`) make sure that no record is left behind.

    `_received_cookie` is the cookie as the browser sent it, `_cookie` the one to store. They are the same
    object unless something has changed. There is a `_cookie` if and only if consent is granted.

    `resumes`: with an ID that an earlier answer has stored beside our cookie. `withheld`: the browser may
    have our cookie and send it with no request like this.
    """

    exported_at_ms: int | None = None
    """When another service has exported this visitor, in unix milliseconds; None: none has."""

    flag_decisions: dict[str, Any] | None = None
    """What was decided of feature flags, by key; of the class, so that requests without flags pay nothing."""

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
        self._remembered: bool | None = None  # set before `pending` is looked at, as that is before this
        if resolved is None:
            self._cookie: VisitorCookie | None = None
            self.merge_events: tuple[MergeEvent, ...] = ()
            """Identity events that are due once the response stores what they say."""
        else:
            self._cookie = resolved.cookie
            self.merge_events = resolved.merge_events
            if identity.is_new:
                self._fresh_id = resolved.cookie.device_id

    @property
    def refusal(self) -> str | None:
        """Why nothing is tracked in this request, as the name it is counted under; None: it is."""
        closed = self._rules.refusal()
        if closed is not None:
            return closed
        if self.consent != "granted":
            return f"consent_{self.consent}"
        return "bot" if self._rules.bots == "drop" and self.request_properties.bot else None

    @property
    def received_cookie(self) -> VisitorCookie | None:
        """The visitor cookie that came with the request, signed by us; None: there was none."""
        return self._received_cookie

    @property
    def spid_user_id(self) -> int | None:
        """SPiD's ID of who is logged in there, as long as the session lasts that SPiD has signed."""
        cookie = self._cookie
        return cookie.spid_user_id if cookie is not None and self._now_s <= cookie.spid_until_s else None

    @property
    def request_properties(self) -> RequestProperties | EmptyRequestProperties:
        """What the request says besides."""
        if self._request_properties is None:
            sources = ("generated", "none", "cookie")
            is_first = self._received_cookie is None and self.identity.source in sources
            properties = self._rules.request_properties(self.facts, is_first=is_first)
            properties.has_first_touch = is_first and not self._is_anonymous
            self._request_properties = properties
        return self._request_properties

    @property
    def is_bot(self) -> bool:
        """Whether this is no visit of a person."""
        return bool(self.request_properties.bot)

    @property
    def has_lasting_id(self) -> bool:
        """Whether the device ID is more than this request's: a later one may come with it."""
        return self.consent == "granted" and not (self._is_anonymous or self.is_bot)

    @property
    def _records(self) -> PendingRecords:
        if self.pending is None:
            records = PendingRecords(self._rules.refuse)
            if self._fresh_id is not None:
                records.made(self._fresh_id)
            self._queues.append(records)
            self.pending = self._queues[0]  # whichever thread was first
            if self._remembered is not None:
                self.pending.decide(remembered=self._remembered)
        return self.pending

    def anonymize(self, identity: Identity) -> None:
        """Go by this identity, and make no person of the device ID that was made."""
        self.identity = identity
        self._remembered = False
        self._is_anonymous = True

    # --- the visitor's side ---------------------------------------------------------------------

    def add(self, record: Record) -> Sequence[Record]:
        """Queue a record; it leaves with the next `take`. Return those that have to be committed now."""
        if not self._tracked:
            self._tracked = True
            if self.state is not ENDED:
                self._rules.unfinished.add(self)
        if record.endpoint == "import":
            self._scheduled_merge = None  # this event carries device and user
        pending = self._records if self.pending is None else self.pending
        waiting = pending.add(record)
        is_much = pending.size_bytes >= COMMIT_AT_BYTES
        if is_much and pending.is_held:
            # Too much to wait for the response with: most responses carry the cookie.
            pending.decide(remembered=True)
        if (
            self.state is ENDED
            or is_much
            or waiting >= COMMIT_AT_RECORDS
            or self.facts.protocol == "websocket"  # there is no "after the response" for a socket
        ):
            return self.take()
        return ()

    def register(self, properties: Mapping[str, Any]) -> None:
        """Add super properties: what every further event of this request says."""
        self.registered = {**(self.registered or {}), **properties}

    def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:
        """Log a user in: a different user on the same device gets a new device ID first."""
        cookie = self._cookie
        same = cookie is not None and cookie.belongs_to(user_id)
        another = cookie is not None and cookie.has_user and not same
        linked = cookie is not None and same and not (cookie.merge_pending or cookie.unjoined)
        before = self.identity
        if before.source == "cookie" and not linked:
            # This is the log-in that the device has waited for.
            before = before._replace(device_unverified=False)
        login = log_in(
            self._rules.id_mode,
            before,
            user_id,
            linked=linked,
            fresh_device_id=fresh_id() if another else None,
            earlier_id=None if cookie is None else cookie.earlier_id,
        )
        # A cookie of an older version may hold a hash in place of the user's ID: now it gets the ID itself.
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
        """Note the event that joins device and user; another event that carries both replaces it.

        Return it where it is due at once, because the exchange has ended.
        """
        if self.state is ENDED:
            return merge
        self._scheduled_merge = merge
        return None

    def reset(self, fresh_id: Callable[[], str]) -> None:
        """Log out: forget the user and what was registered, and start a new device ID."""
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
            self._has_changed()
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
            self._records.made(device_id)
        if self.state is not OPEN:
            self._rules.count("cookie_too_late")
            self._records.decide(remembered=False)

    def _has_changed(self) -> None:
        self._cookie_change = max(self._cookie_change, _UPDATED)

    def opt_out(self) -> None:
        """Track this person no more: drop what is queued, and have the browser remember it."""
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
        """Take an opt-out back, and begin anew."""
        if self.consent == "granted" or self._rules.refusal() is not None:
            return
        self._grant("granted")
        resolved = self._rules.resolver.resolve(None, "", now_s=self._now_s, fresh_id=fresh_id)
        self._cookie, self.identity = resolved.cookie, resolved.identity
        self._has_changed()
        self._records.made(resolved.cookie.device_id)
        if self.state is not OPEN:
            self._rules.count("cookie_too_late")
            self._records.decide(remembered=False)

    def _grant(self, consent: Consent) -> None:
        self._opt_out_cookies = self._rules.set_cookies.opt_out(self.facts, out=False)
        self.consent = consent
        self._cookie = None

    def apply_handover(self, claim: HandoverClaim, fresh_id: Callable[[], str]) -> str | None:
        """Take the IDs that the browser has posted; raise `HandoverError` where they cannot be believed.

        Return why they were not taken; None: they were. Without consent they are not even looked at, except
        for a choice, which is how consent comes back.
        """
        if (closed := self._rules.refusal()) is not None:
            return closed
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
        # Beside a cookie of the SDK's this is posted where that is our seed, and not what the SDK has.
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
        """Start the response, if its head matters to nothing; False: `on_response_start` has to see it.

        A short cut for adapters: to a known visitor most responses go out as they are.
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
        """Decide about cookies, as the head of the response is about to go out.

        An informational one (1xx, but 101) changes nothing: the real head is still to come. `read_headers`
        returns the application's headers; it is only called where they matter.
        """
        if status < 200 and status != 101:
            return UNCHANGED
        self.state = STARTED
        headers = self._cookies(status, read_headers()) if self.needs_set_cookie else []
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

        What is left then is returned by `take`.
        """
        if self.state is not ENDED:
            self._remembered = bool(self._remembered)
            if self.pending is not None and self.pending.is_held:  # there was no response, as far as we saw
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
            return False  # as the first request with this very cookie has shown
        if cookie is None:
            return bool(self._opt_out_cookies) or (
                self.consent == "denied" and self._rules.set_cookies.has_any(self.facts)
            )
        return (
            cookie is not received
            or self._cookie_change is not _NOT_CHANGED
            or self._rules.set_cookies.wants_more(self.facts, cookie, now_s=self._now_s)
        )

    def _cookies(self, status: int, headers: Headers) -> list[tuple[str, str]]:
        # What is looked at here, and of most responses nothing is left.
        headers = [each for each in headers if each[0].lower().endswith(("cookie", "control", "expires"))]
        skipped = self._rules.set_cookies.reason_not_to_set(status, headers, self.facts, now_s=self._now_s)
        skipped = skipped or self._reason_not_to_set()
        if skipped is not None:
            self._rules.count(skipped)
            return []
        added = [("set-cookie", cookie) for cookie in dict.fromkeys(self._cookie_values(status))]
        return added if status == 101 else added + keeping_it_private(headers)

    def _reason_not_to_set(self) -> str | None:
        if self._cookie is None:
            return None
        if self.is_bot:
            return "cookie_skipped_bot"
        if self.withheld and not (self._cookie_change is _NEW_DEVICE or self._waits):
            return "cookie_skipped_withheld"
        # The browser has sent its other ID itself, so it may be told that we follow it.
        follows = self.resumes or (
            self._received_cookie is not None and self._cookie is not self._received_cookie
        )
        if not self._cookie_change and not may_set_cookie(self.facts, tracked=self._tracked or follows):
            return "cookie_skipped_no_visit"
        return None

    def _cookie_values(self, status: int) -> list[str]:
        cookies = self._rules.set_cookies
        if self._cookie is None:
            forgotten = cookies.forget(self.facts) if self.consent == "denied" else []
            return [*forgotten, *self._opt_out_cookies]  # in this order: a browser keeps the last of a name
        cookie, claim, now_s = self._cookie, self._handover, self._now_s
        if self._waits:
            return [*self._opt_out_cookies, *cookies.pending_cookie(cookie, self.facts, now_s=now_s)]
        replaces = self._cookie_change is _NEW_DEVICE
        values = cookies.values(
            cookie, self.facts, self._received_cookie, status, renewed=replaces, now_s=now_s
        )
        seen = [] if claim is None else [cookies.seen(cookie, claim, self.facts)]
        return [*self._opt_out_cookies, *values, *seen]

    @property
    def _waits(self) -> bool:
        """Whether our cookie must not be overwritten with what is to be stored."""
        if self.withheld:
            return self._cookie is not None and self._cookie.user_id is not None
        return (
            self._is_anonymous
            and self.identity.is_new
            and self.identity.device_unverified
            and not self._cookie_change
        )
