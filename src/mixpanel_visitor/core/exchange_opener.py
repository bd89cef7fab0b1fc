"""ExchangeOpener: begins exchanges. It decides whether a request may be tracked, and who the visitor is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .enrichment.request_properties import RequestProperties
from .exchange import Exchange
from .identity.identity import Identity
from .identity.visitor_cookie import RENEW_AFTER_S
from .policy import is_part_of_page, is_prefetch, opted_out, privacy_signal_set, withholds_cookies

if TYPE_CHECKING:
    from collections.abc import Callable

    from .identity.resolver import ResolvedIdentity
    from .identity.visitor_cookie import VisitorCookie
    from .policy import Consent
    from .request import RequestFacts
    from .site_rules import SiteRules

REMEMBERED_VISITORS = 4096
REMEMBERED_CHARS = 2048
"""As many visitors are remembered by their cookies, and none whose cookies are longer together."""

REMEMBERED_HEADERS = 1024
"""As many whole Cookie headers are remembered with their visitor: mostly the next request sends the same."""

_MP = "mp"
"""How names of cookies begin: all of mixpanel-browser's, and ours, unless the settings give it another."""

_PREFIXES = ("", "__", "__Host-")


class RememberedVisitor(NamedTuple):
    """Whom cookies name, from when until when that holds, and until when no cookie has to be set."""

    resolved: ResolvedIdentity
    since_s: float
    until_s: float
    no_cookie_until_s: float


class ExchangeOpener:
    """Opens the exchanges of one site; `fresh_id` makes device IDs."""

    def __init__(self, rules: SiteRules, fresh_id: Callable[[], str]) -> None:
        self._rules = rules
        self._fresh_id = fresh_id
        self._visitors: dict[tuple[str, ...], RememberedVisitor] = {}
        self._headers: dict[tuple[str, str], RememberedVisitor] = {}
        own = rules.codec.name(secure=False)
        self._in_names = _MP if _MP in own else ""
        names = (_MP,) if own.startswith(_MP) else (_MP, own)
        self._names = tuple(
            f"{blank}{each}{name}" for blank in (" ", "") for each in _PREFIXES for name in names
        )

    def open(self, facts: RequestFacts, now_s: float, in_background: bool = False) -> Exchange:
        """Begin an exchange. `in_background`: its records are committed by a thread, not by the caller."""
        rules = self._rules
        if rules.refusal() is not None or (rules.is_excluded is not None and rules.is_excluded(facts)):
            return self.open_inert(facts)
        has_ours = True
        header = (facts.scheme, facts.cookies)
        remembered = self._headers.get(header)
        if remembered is None:
            key = self._key(facts)
            has_ours = len(key) > 1
            remembered = self._visitors.get(key)
            if remembered is not None and len(facts.cookies) <= REMEMBERED_CHARS:
                if len(self._headers) >= REMEMBERED_HEADERS:
                    self._headers.clear()
                self._headers[header] = remembered
        if remembered is not None or not has_ours:
            # The same cookies as before, or none that say anything to us. No opt-out is among them.
            refused = facts.has_privacy_signal and privacy_signal_set(
                facts, rules.respect_dnt, rules.respect_gpc
            )
        else:
            refused = rules.set_cookies.has_opted_out(facts) or opted_out(
                facts, token=rules.token, respect_dnt=rules.respect_dnt, respect_gpc=rules.respect_gpc
            )
        if remembered is not None and remembered.since_s <= now_s <= remembered.until_s:
            resolved: ResolvedIdentity | None = remembered.resolved
            received: VisitorCookie | None = remembered.resolved.cookie
            no_cookie_until_s = remembered.no_cookie_until_s
        else:
            resolved, no_cookie_until_s = None, 0.0
            received = self._received_cookie(facts, now_s) if has_ours else None
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
            cookies = facts.cookies if has_ours or rules.resolver.spid is not None else ""
            return self._resolve(facts, cookies, received, now_s, in_background)
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
        self,
        facts: RequestFacts,
        cookies: str,
        received: VisitorCookie | None,
        now_s: float,
        in_background: bool,
    ) -> Exchange:
        rules = self._rules
        if received is None:
            facts._complete()  # noqa: SLF001  # RequestFacts is what users see
        secure = facts.scheme == "https"
        pending = rules.set_cookies.pending.find(cookies, secure=secure, now_s=now_s)
        known = received or pending.cookie
        resolved = rules.resolver.resolve(known, cookies, now_s=now_s, fresh_id=self._fresh_id)
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

    def _key(self, facts: RequestFacts) -> tuple[str, ...]:
        """Return what of a request decides who the visitor is, and whether that one has opted out."""
        text, names = self._in_names, self._names
        # Behind a comma there may be another cookie.
        pieces = [
            piece
            for piece in facts.cookies.split(";")
            if text in piece and (piece.startswith(names) or "," in piece or piece.lstrip().startswith(names))
        ]
        return (facts.scheme, *pieces)

    def _remember(self, facts: RequestFacts, resolved: ResolvedIdentity) -> None:
        key = self._key(facts)
        # Only what nothing but the cookies decides: SPiD's sessions end with time.
        if self._rules.resolver.spid is not None or sum(map(len, key)) > REMEMBERED_CHARS:
            return
        if len(self._visitors) >= REMEMBERED_VISITORS:
            self._visitors.clear()
        cookie = resolved.cookie
        since_s, until_s = self._rules.codec.validity_window(cookie)
        no_cookie_until_s = (
            cookie.issued_at_s + RENEW_AFTER_S if cookie.sdk_confirmed or cookie.sdk_cookie_sent else 0.0
        )
        self._visitors[key] = RememberedVisitor(resolved, since_s, until_s, no_cookie_until_s)
