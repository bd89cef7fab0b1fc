"""SiteRules: what all exchanges of one tracker share, and how each of them begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from .enrichment.request_properties import RequestProperties
from .exchange import Exchange
from .identity.identity import Identity
from .identity.visitor_cookie import RENEW_AFTER_S
from .policy import is_part_of_page, is_prefetch, opted_out, privacy_signal_set, withholds_cookies

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.records import Record

    from .enrichment.bots import BotDetector, BotKind
    from .enrichment.enricher import Enricher
    from .identity.identity import IdMode
    from .identity.resolver import IdentityResolver, ResolvedIdentity
    from .identity.visitor_cookie import VisitorCookie, VisitorCookieCodec
    from .policy import Consent
    from .request import RequestFacts
    from .response_cookies import ResponseCookies


_Recalled = tuple["ResolvedIdentity | None", float, float, float]
"""What a Cookie header said, from when until when that is so, and until when the SDK wants no cookie."""


class Unfinished(Protocol):
    """A request or a job that may have something queued; an exchange or an offline visit."""

    @property
    def holds_back(self) -> bool:
        """Whether something is queued that `take` does not return yet."""
        ...

    def take(self) -> list[Record]:
        """Return what is queued and may leave, and forget it here."""
        ...

    def forget(self) -> None:
        """Drop what is queued."""
        ...


_UNKNOWN: _Recalled = (None, 0.0, 0.0, 0.0)

RECALLED = 1024
RECALLED_CHARS = 4096
"""So many Cookie headers are remembered with what they said, and none that is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRules:
    """Everything that all exchanges of one tracker share.

    `count` counts what happened, by name; `refuse` counts records that were accepted and are not sent.
    """

    anchors: VisitorCookieCodec
    resolver: IdentityResolver
    set_cookies: ResponseCookies
    token: str
    id_mode: IdMode
    bots: Literal["drop", "tag", "keep"]
    detector: BotDetector
    enricher: Enricher
    respect_dnt: bool
    respect_gpc: bool
    consent: Callable[[RequestFacts], Consent] | None
    is_excluded: Callable[[RequestFacts], bool] | None
    refusal: Callable[[], str | None]
    count: Callable[[str], None]
    refuse: Callable[[str, int], None]
    recent: dict[tuple[str, str], _Recalled] = field(default_factory=dict, repr=False)
    unfinished: set[Unfinished] = field(default_factory=set, repr=False)
    """Requests and jobs that have tracked something and are not over."""

    def open(self, facts: RequestFacts, now_s: float, fresh_id: Callable[[], str]) -> Exchange:
        """Begin an exchange: decide whether we may track, and who the visitor is."""
        if self.refusal() is not None or (self.is_excluded is not None and self.is_excluded(facts)):
            return self.inert(facts, fresh_id=fresh_id)
        found, since_s, until_s, no_cookie_until_s = self.recent.get((facts.scheme, facts.cookies), _UNKNOWN)
        if found is not None and since_s <= now_s <= until_s:
            # The very same Cookie header: a page's requests mostly send the same. No opt-out is in it.
            came: VisitorCookie | None = found.anchor
            refused = facts.has_privacy_signal and privacy_signal_set(
                facts, self.respect_dnt, self.respect_gpc
            )
        else:
            found, no_cookie_until_s = None, 0.0
            came = self._came(facts, now_s=now_s)
            refused = self.set_cookies.has_opted_out(facts) or opted_out(
                facts, token=self.token, respect_dnt=self.respect_dnt, respect_gpc=self.respect_gpc
            )
        consent: Consent = "granted"
        if refused:
            consent = "denied"
        elif self.consent is not None:
            consent = self.consent(facts)
        if consent != "granted":
            # Whoever is not remembered has an ID all the same, for this request.
            return Exchange(self, facts, Identity(device_id=fresh_id()), consent, now_s, came)
        if found is None:
            return self._resolved(facts, came, now_s, fresh_id)
        return Exchange(self, facts, found.identity, consent, now_s, came, found, no_cookie_until_s)

    def _resolved(
        self, facts: RequestFacts, came: VisitorCookie | None, now_s: float, fresh_id: Callable[[], str]
    ) -> Exchange:
        pending = self.set_cookies.pending.find(facts.cookies, secure=facts.scheme == "https", now_s=now_s)
        known = came or pending.anchor
        found = self.resolver.resolve(known, facts.cookies, now_s=now_s, fresh_id=fresh_id)
        if found.anchor is came and not (found.links or pending.user_id):
            self._remember(facts, found)
        exchange = Exchange(self, facts, found.identity, "granted", now_s, came, found)
        if came is None:
            exchange.resumes = known is not None
            exchange.withheld = withholds_cookies(facts)
        if found.identity.is_new and found.identity.uid is None:
            if exchange.withheld or exchange.is_bot or is_prefetch(facts):
                exchange.be_nobody(Identity(device_id=found.anchor.device_id, device_unverified=True))
            elif is_part_of_page(facts):
                exchange.be_nobody(found.identity._replace(device_unverified=True))
            elif self.resolver.lacks_uid(found):
                exchange.be_nobody(found.identity)
        if pending.user_id is not None and not found.anchor.belongs_to(pending.user_id):
            login = exchange.identify(pending.user_id, fresh_id)
            exchange.links += login.links if login.merge is None else (*login.links, login.merge)
        return exchange

    def look(self, facts: RequestFacts, *, is_first: bool, ignores_bots: bool) -> RequestProperties:
        """Look at what a request says besides; `is_first`: it is the first that is known of its visitor."""
        bot: BotKind = "" if ignores_bots or self.bots == "keep" else self.detector.kind(facts)
        return RequestProperties(self.enricher, facts, bot, is_first=is_first)

    def _came(self, facts: RequestFacts, *, now_s: float) -> VisitorCookie | None:
        if not facts.cookies:
            return None
        return self.anchors.find(facts.cookies, secure=facts.scheme == "https", now_s=now_s)

    def _remember(self, facts: RequestFacts, found: ResolvedIdentity) -> None:
        # Only what nothing but the header decides: SPiD's sessions end with time.
        if self.resolver.spid is not None or len(facts.cookies) > RECALLED_CHARS:
            return
        if len(self.recent) >= RECALLED:
            self.recent.clear()
        anchor = found.anchor
        since_s, until_s = self.anchors.validity_window(anchor)
        no_cookie_until_s = (
            anchor.issued_at_s + RENEW_AFTER_S if anchor.sdk_confirmed or anchor.sdk_cookie_sent else 0.0
        )
        self.recent[facts.scheme, facts.cookies] = (found, since_s, until_s, no_cookie_until_s)

    def inert(self, facts: RequestFacts, *, fresh_id: Callable[[], str]) -> Exchange:
        """Begin an exchange that tracks nothing and sets nothing, so that handlers need not know."""
        identity = Identity(device_id=fresh_id())
        return Exchange(self, facts, identity, "unknown", ignores_bots=True)
