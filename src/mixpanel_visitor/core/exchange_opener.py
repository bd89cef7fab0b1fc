"""ExchangeOpener: begins exchanges. It decides whether a request may be tracked, and who the visitor is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .enrichment.request_properties import RequestProperties
from .exchange import Exchange
from .identity.identity import Identity
from .identity.visitor_cookie import RENEW_AFTER_S
from .policy import is_part_of_page, is_prefetch, opted_out, privacy_signal_set, withholds_cookies
from .request import sole_cookie_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from .identity.resolver import ResolvedIdentity
    from .identity.visitor_cookie import VisitorCookie
    from .policy import Consent
    from .request import RequestFacts
    from .site_rules import SiteRules

REMEMBERED_HEADERS = 1024
REMEMBERED_CHARS = 4096
"""As many Cookie headers are remembered with what they said, and none that is longer."""

REMEMBERED_VISITORS = 4096
REMEMBERED_ID_CHARS = 1024
"""As many visitors are remembered by the cookies that name them, and none whose SDK's cookie is longer."""


class RememberedVisitor(NamedTuple):
    """Who a request's cookies name, from when until when that holds, and until when no cookie is to be set.

    Our cookie is signed, so nobody fills this with visitors of his own making.
    """

    resolved: ResolvedIdentity
    since_s: float
    until_s: float
    no_cookie_until_s: float


class ExchangeOpener:
    """Opens the exchanges of one site; `fresh_id` makes device IDs."""

    def __init__(self, rules: SiteRules, fresh_id: Callable[[], str]) -> None:
        self._rules = rules
        self._fresh_id = fresh_id
        self._headers: dict[tuple[str, str], RememberedVisitor] = {}
        self._visitors: dict[tuple[str, str, str], RememberedVisitor] = {}

    def open(self, facts: RequestFacts, *, now_s: float, in_background: bool = False) -> Exchange:
        """Begin an exchange. `in_background`: its records are committed by a thread, not by the caller."""
        rules = self._rules
        if rules.refusal() is not None or (rules.is_excluded is not None and rules.is_excluded(facts)):
            return self.open_inert(facts)
        remembered = self._headers.get((facts.scheme, facts.cookies))
        if remembered is not None:
            # The very same Cookie header: a page's requests mostly send the same. No opt-out is in it.
            refused = privacy_signal_set(facts, rules.respect_dnt, rules.respect_gpc)
        else:
            refused = rules.set_cookies.has_opted_out(facts) or opted_out(
                facts, token=rules.token, respect_dnt=rules.respect_dnt, respect_gpc=rules.respect_gpc
            )
            if not refused:
                remembered = self._recalled(facts)
        if remembered is not None and remembered.since_s <= now_s <= remembered.until_s:
            resolved: ResolvedIdentity | None = remembered.resolved
            received: VisitorCookie | None = remembered.resolved.cookie
            no_cookie_until_s = remembered.no_cookie_until_s
        else:
            resolved, no_cookie_until_s = None, 0.0
            received = self._received_cookie(facts, now_s)
        consent: Consent = "granted"
        if refused:
            consent = "denied"
        elif rules.consent is not None:
            consent = rules.consent(facts)
        if consent != "granted":
            # Who is not remembered has an ID all the same, for this request.
            return Exchange(
                rules, facts, Identity(device_id=self._fresh_id()), consent, now_s, received, in_background
            )
        if resolved is None:
            return self._resolve(facts, received, now_s, in_background)
        return Exchange(
            rules,
            facts,
            resolved.identity,
            consent,
            now_s,
            received,
            in_background,
            resolved,
            no_cookie_until_s,
        )

    def open_inert(self, facts: RequestFacts) -> Exchange:
        """Begin an exchange that tracks nothing and sets nothing, so that handlers need not know."""
        identity = Identity(device_id=self._fresh_id())
        no_bot = RequestProperties(self._rules.enricher, facts, "", is_first=True)
        return Exchange(self._rules, facts, identity, "unknown", request_properties=no_bot)

    def _resolve(
        self, facts: RequestFacts, received: VisitorCookie | None, now_s: float, in_background: bool
    ) -> Exchange:
        rules = self._rules
        secure = facts.scheme == "https"
        pending = rules.set_cookies.pending.find(facts.cookies, secure=secure, now_s=now_s)
        known = received or pending.cookie
        resolved = rules.resolver.resolve(known, facts.cookies, now_s=now_s, fresh_id=self._fresh_id)
        if resolved.cookie is received and not (resolved.merge_events or pending.user_id):
            self._remember(facts, resolved)
        exchange = Exchange(
            rules,
            facts,
            resolved.identity,
            "granted",
            now_s,
            received,
            in_background,
            resolved,
            resumes=received is None and known is not None,
            withheld=received is None and withholds_cookies(facts),
        )
        if resolved.identity.is_new and resolved.identity.uid is None:
            self._keep_anonymous(exchange, resolved)
        if pending.user_id is not None and not resolved.cookie.belongs_to(pending.user_id):
            exchange.resume_log_in(pending.user_id, self._fresh_id)
        return exchange

    def _keep_anonymous(self, exchange: Exchange, resolved: ResolvedIdentity) -> None:
        """Make no person of a new device ID that no browser will keep."""
        identity = resolved.identity
        if exchange.withheld or exchange.is_bot or is_prefetch(exchange.facts):
            exchange.anonymize(Identity(device_id=resolved.cookie.device_id, device_unverified=True))
        elif is_part_of_page(exchange.facts):
            exchange.anonymize(identity._replace(device_unverified=True))
        elif self._rules.resolver.lacks_uid(resolved):
            exchange.anonymize(identity)

    def _received_cookie(self, facts: RequestFacts, now_s: float) -> VisitorCookie | None:
        if not facts.cookies:
            return None
        return self._rules.codec.find(facts.cookies, secure=facts.scheme == "https", now_s=now_s)

    def _recalled(self, facts: RequestFacts) -> RememberedVisitor | None:
        """Return the visitor whom the cookies name, though other cookies have changed."""
        named = self._named_by(facts)
        remembered = None if named is None else self._visitors.get(named)
        if remembered is not None:
            self._remember_header(facts, remembered)
        return remembered

    def _named_by(self, facts: RequestFacts) -> tuple[str, str, str] | None:
        """Return what alone decides who the visitor is; None: there is more to look at."""
        rules, secure = self._rules, facts.scheme == "https"
        own = sole_cookie_value(facts.cookies, rules.codec.name(secure=secure))
        if not own or rules.set_cookies.pending.any_in(facts.cookies, secure=secure):
            return None
        mixpanel = rules.resolver.mixpanel
        sdks = "" if mixpanel is None else sole_cookie_value(facts.cookies, mixpanel.name)
        return None if sdks is None else (facts.scheme, own, sdks)

    def _remember(self, facts: RequestFacts, resolved: ResolvedIdentity) -> None:
        # Only what nothing but the cookies decides: SPiD's sessions end with time.
        if self._rules.resolver.spid is not None:
            return
        cookie = resolved.cookie
        remembered = RememberedVisitor(
            resolved,
            *self._rules.codec.validity_window(cookie),
            cookie.issued_at_s + RENEW_AFTER_S if cookie.sdk_confirmed or cookie.sdk_cookie_sent else 0.0,
        )
        self._remember_header(facts, remembered)
        named = self._named_by(facts)
        # A cookie of the SDK's that is not believed is counted whenever it comes.
        if named and len(named[2]) <= REMEMBERED_ID_CHARS and (not named[2] or cookie.device_id in named[2]):
            if len(self._visitors) >= REMEMBERED_VISITORS:
                self._visitors.clear()
            self._visitors[named] = remembered

    def _remember_header(self, facts: RequestFacts, remembered: RememberedVisitor) -> None:
        if len(facts.cookies) > REMEMBERED_CHARS:
            return
        if len(self._headers) >= REMEMBERED_HEADERS:
            self._headers.clear()
        self._headers[facts.scheme, facts.cookies] = remembered
