"""Exchange: the life of one request with its response, as a small state machine.

```
OPEN ──respond()──▶ STARTED        the response's head is out: what is decided about cookies is decided
  │                    │
  └─────finish()───────┴──finish()──▶ FINISHED   what is tracked from now on is handed over at once
```

Records leave with `take` at any time; what is queued later leaves with the next one.

`respond` may be called again (WSGI allows a second `start_response` with `exc_info`, ASGI servers send
informational answers first): only the head that goes out counts, and it is asked for each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

    from .enrichment.request_properties import RequestProperties
    from .identity.handover import HandoverClaim
    from .identity.identity import Identity, Login, MergeEvent
    from .policy import Consent
    from .request import RequestFacts
    from .site_rules import SiteRules

HAND_OVER_RECORDS = 100
HAND_OVER_BYTES = 1_000_000
"""A request that has queued so much hands it over before it ends: streams and sockets may never end."""


class Exchange(HoldsRecords):
    """One request from our point of view.

    `add` may be called from several threads. Its order (append, then look whether it is over) and that of
    `finish` (over, then take) make sure that no record is left behind.

    `came` is what our cookie said, the anchor what it should say now: they are the same object unless
    something has changed. There is an anchor if and only if consent is granted.
    """

    # Most requests track nothing: what they neither change nor look at they need not be given.
    announce: Callable[[MergeEvent], None] | None = None
    hand_over: Callable[[Exchange], None] | None = None
    registered: Mapping[str, Any] | None = None
    started = False
    resumes = False  # with an ID that an earlier answer has stored beside our cookie
    withheld = False  # is our cookie, perhaps: browsers send it with no request like this
    _request_properties: RequestProperties | None = None
    _posted: HandoverClaim | None = None
    _is_nobody = False
    _ignores_bots = False
    _opt_out_cookies: Sequence[str] = ()
    _renewed = False
    _tracked = False

    def __init__(
        self,
        rules: SiteRules,
        facts: RequestFacts,
        identity: Identity,
        consent: Consent,
        now_s: float = 0.0,
        came: VisitorCookie | None = None,
        found: ResolvedIdentity | None = None,
        no_cookie_until_s: float = 0.0,
        *,
        ignores_bots: bool = False,
    ) -> None:
        self._rules = rules
        self.facts = facts
        self.identity = identity
        self.consent: Consent = consent
        self._received_cookie = came
        self._now_s = now_s
        self._no_cookie_until_s = no_cookie_until_s
        self._changed = self.finished = False
        self._merge: MergeEvent | None = None
        self.view: Callable[[str | None], None] | None = None
        self.links: tuple[MergeEvent, ...] = () if found is None else found.links
        """Identity events that are owed once the response stores what it says; `announce` writes them."""
        self._anchor: VisitorCookie | None = None if found is None else found.anchor
        if ignores_bots:
            self._ignores_bots = True
        if found is not None and identity.is_new:
            self._records.made(found.anchor.device_id)

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
    def spid_user_id(self) -> int | None:
        """SPiD's ID of who is logged in there, as long as the session lasts that SPiD has signed."""
        anchor = self._anchor
        return anchor.spid_user_id if anchor is not None and self._now_s <= anchor.spid_until_s else None

    @property
    def request_properties(self) -> RequestProperties:
        """What the request says besides."""
        if self._request_properties is None:
            is_first = self._received_cookie is None and self.identity.source in (
                "generated",
                "none",
                "cookie",
            )
            self._request_properties = self._rules.look(
                self.facts, is_first=is_first, ignores_bots=self._ignores_bots
            )
            self._request_properties.has_first_touch = is_first and not self._is_nobody
        return self._request_properties

    @property
    def is_bot(self) -> bool:
        """Whether this is no visit of a person."""
        return bool(self.request_properties.bot)

    @property
    def _records(self) -> PendingRecords:
        if self.held is None:
            self.held = PendingRecords(self._rules.refuse)
        return self.held

    def be_nobody(self, identity: Identity) -> None:
        """Go by this identity, and make no person of the device ID that was made: events are nobody's."""
        self.identity = identity
        self._records.decide(remembered=False)
        self._is_nobody = True

    # --- the visitor's side ---------------------------------------------------------------------

    def add(self, record: Record) -> None:
        """Queue a record; it leaves with the next `take`."""
        if not self._tracked:
            self._tracked = True
            if not self.finished:
                self._rules.unfinished.add(self)
        if record.endpoint == "import":
            self._merge = None  # this event carries device and user
        held = self._records if self.held is None else self.held
        waiting = held.add(record)
        is_much = held.size_bytes >= HAND_OVER_BYTES
        if is_much and held.is_held:
            # Too much to wait for the response with: most responses carry the cookie.
            held.decide(remembered=True)
        if self.hand_over is not None and (
            self.finished
            or is_much
            or self.facts.protocol == "websocket"  # there is no "after the response" for a socket
            or waiting >= HAND_OVER_RECORDS
        ):
            self.hand_over(self)

    def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:
        """Log a user in: a different user on the same device gets a new device ID first."""
        anchor = self._anchor
        same = anchor is not None and anchor.belongs_to(user_id)
        another = anchor is not None and anchor.has_user and not same
        linked = anchor is not None and same and not (anchor.merge_pending or anchor.unjoined)
        before = self.identity
        if before.source == "cookie" and not linked:
            before = before._replace(
                device_unverified=False
            )  # this is the log-in that the device has waited for
        login = log_in(
            self._rules.id_mode,
            before,
            user_id,
            linked=linked,
            fresh_device_id=fresh_id() if another else None,
            earlier_id=None if anchor is None else anchor.earlier_id,
        )
        # A cookie of an older version may hold a hash in place of the user's ID: now it gets the ID itself.
        self._set_identity(
            login.identity, changed=not linked or (anchor is not None and anchor.user_id is None)
        )
        return login

    def schedule_merge(self, merge: MergeEvent | None) -> None:
        """Note the event that joins device and user, to be written if no other event does that."""
        self._merge = merge
        if self.finished:
            self._write_pending_merge()

    def reset(self, fresh_id: Callable[[], str]) -> None:
        """Log out: forget the user and start a new device ID."""
        self._merge = None
        self._set_identity(log_out(self.identity, fresh_id()), changed=True)

    def _set_identity(self, identity: Identity, *, changed: bool) -> None:
        before, self.identity = self.identity, identity
        if not changed:
            return
        if self._anchor is None:
            if self.consent == "denied":
                self._rules.count("cookie_skipped_consent")
            return
        self._changed = True
        if identity.device_id == before.device_id:
            self._anchor = self._anchor._replace(
                user_id=identity.user_id,
                user_hash=None,
                earlier_id=None,
                merge_pending=identity.device_unverified,
                unjoined=False,
            )
        else:
            self._renewed = True
            device_id = identity.device_id or ""
            self._anchor = VisitorCookie(
                device_id=device_id, issued_at_s=self._anchor.issued_at_s, user_id=identity.user_id
            )
            self._records.made(device_id)
        if self.started:
            self._rules.count("cookie_too_late")
            self._records.decide(remembered=False)

    def opt_out(self) -> None:
        """Track this person no more: drop what is queued, and have the browser remember it."""
        self._opt_out_cookies = self._rules.set_cookies.opt_out(self.facts, out=True)
        self.consent = "denied"
        self._anchor = None
        self._merge = None
        self.links = ()
        dropped = self._records.clear()
        if dropped:
            self._rules.refuse("consent_denied", dropped)
        if self.started:
            self._rules.count("cookie_too_late")

    def opt_in(self, fresh_id: Callable[[], str]) -> None:
        """Take an opt-out back, and begin anew."""
        if self.consent == "granted" or self._rules.refusal() is not None:
            return
        self._opted_in("granted")
        found = self._rules.resolver.resolve(None, "", now_s=self._now_s, fresh_id=fresh_id)
        self._anchor, self.identity, self._changed = found.anchor, found.identity, True
        self._records.made(found.anchor.device_id)
        if self.started:
            self._rules.count("cookie_too_late")
            self._records.decide(remembered=False)

    def _opted_in(self, consent: Consent) -> None:
        self._opt_out_cookies = self._rules.set_cookies.opt_out(self.facts, out=False)
        self.consent = consent
        self._anchor = None

    def apply_handover(self, word: HandoverClaim, fresh_id: Callable[[], str]) -> str | None:
        """Take what the browser hands over; raises `HandoverError` where it cannot be believed.

        Return why it was not taken, None: it was. Without consent it is not even looked at; but for a choice,
        which is how consent comes back.
        """
        if (closed := self._rules.refusal()) is not None:
            return closed
        if word.opted_out is not None:
            self.opt_out() if word.opted_out else self._opted_in("unknown")
            return None
        if self._anchor is None or self.is_bot or self.withheld:
            return self.refusal or ("cookies_withheld" if self.withheld else "bot")
        before = None
        if not (self.identity.is_new or self._is_nobody):
            before = ResolvedIdentity(anchor=self._anchor, identity=self.identity, links=self.links)
        found = resolve_handover(self._rules.resolver, word, before, now_s=self._now_s, fresh_id=fresh_id)
        self._anchor, self.identity, self.links = found.anchor, found.identity, found.links
        self._changed, self._posted = True, word
        # Beside a cookie of the SDK's this is posted where that is our seed, and not what the SDK has.
        self._renewed = self._rules.set_cookies.is_seed_of_another(found.anchor, word, self.facts)
        return None

    # --- the adapter's side ---------------------------------------------------------------------

    @property
    def needs_response_head(self) -> bool:
        """Whether the response's head has to be looked at; False for a known visitor on most requests."""
        if (
            self._now_s <= self._no_cookie_until_s
            and self._anchor is self._received_cookie
            and not self._changed
        ):
            return self.view is not None  # as `needs_set_cookie` was found to be false for this very anchor
        return self.view is not None or self.needs_set_cookie

    def viewed(self, status: int, headers: Sequence[tuple[str, str]], route: str | None) -> None:
        """Track the page view that was asked for, if this is a page; before `respond`."""
        view, self.view = self.view, None
        if view is not None and is_page(status, headers) and self.refusal is None:
            view(route)

    @property
    def needs_set_cookie(self) -> bool:
        """Whether the response may have to carry a cookie."""
        anchor, came = self._anchor, self._received_cookie
        if anchor is None:
            return bool(self._opt_out_cookies) or (
                self.consent == "denied" and self._rules.set_cookies.has_any(self.facts)
            )
        return (
            anchor is not came
            or self._changed
            or self._rules.set_cookies.wants_more(self.facts, anchor, now_s=self._now_s)
        )

    def respond(self, status: int, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers to add to a response that is about to start with `status` and `headers`."""
        if status < 200 and status != 101:
            return []  # informational: the real head is still to come
        self.started = True
        added = self._cookies(status, headers) if self.needs_set_cookie else []
        if self.held is not None and not self._is_nobody:
            self.held.decide(remembered=bool(added))
        if added:
            links, self.links = self.links, ()
            for link in links:
                self._write_merge_event(link)
        self._write_pending_merge()
        return added

    def finish(self) -> list[Record]:
        """End the exchange: give what is left."""
        if not self.finished:
            if self._merge is not None:
                self._write_pending_merge()
            if self.held is not None and self.held.is_held:  # there was no response, as far as we saw
                self.held.decide(remembered=False)
            self.finished = True
            if self._tracked:
                self._rules.unfinished.discard(self)
            self.announce = self.view = None  # they lead back here: cycles, for the garbage collector to find
        return self.take()

    def _write_pending_merge(self) -> None:
        """Write the event that joins device and user, if no other event of this request does."""
        merge, self._merge = self._merge, None
        if merge is not None:
            self._write_merge_event(merge)

    def _write_merge_event(self, link: MergeEvent) -> None:
        if self.announce is not None:
            self.announce(link)

    def _cookies(self, status: int, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        skipped = self._rules.set_cookies.reason_not_to_set(status, headers, self.facts, now_s=self._now_s)
        skipped = skipped or self._reason_not_to_set()
        if skipped is not None:
            self._rules.count(skipped)
            return []
        added = [("set-cookie", cookie) for cookie in dict.fromkeys(self._cookie_values(status))]
        return added if status == 101 else added + keeping_it_private(headers)

    def _reason_not_to_set(self) -> str | None:
        if self._anchor is None:
            return None
        if self.is_bot:
            return "cookie_skipped_bot"
        if self.withheld and not (self._renewed or self._waits):
            return "cookie_skipped_withheld"
        # The browser has sent its other ID itself, so it may be told that we follow it.
        follows = self.resumes or (
            self._received_cookie is not None and self._anchor is not self._received_cookie
        )
        if not self._changed and not may_set_cookie(self.facts, tracked=self._tracked or follows):
            return "cookie_skipped_no_visit"
        return None

    def _cookie_values(self, status: int) -> list[str]:
        cookies = self._rules.set_cookies
        if self._anchor is None:
            forgotten = cookies.forget(self.facts) if self.consent == "denied" else []
            return [*forgotten, *self._opt_out_cookies]  # in this order: a browser keeps the last of a name
        anchor, word, now_s = self._anchor, self._posted, self._now_s
        if self._waits:
            return [*self._opt_out_cookies, *cookies.pend(anchor, self.facts, now_s=now_s)]
        values = cookies.values(
            anchor, self.facts, self._received_cookie, status, renewed=self._renewed, now_s=now_s
        )
        seen = [] if word is None else [cookies.seen(anchor, word, self.facts)]
        return [*self._opt_out_cookies, *values, *seen]

    @property
    def _waits(self) -> bool:
        """Whether our cookie must not be overwritten with what is to be stored."""
        if self.withheld:
            return self._anchor is not None and self._anchor.user_id is not None
        return (
            self._is_nobody and self.identity.is_new and self.identity.device_unverified and not self._changed
        )
