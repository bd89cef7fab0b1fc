"""ExchangeOpener: begins exchanges. It decides whether a request may be tracked, and who its visitor is."""

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
"""How many visitors are remembered by their cookies, and how long these may be together."""

REMEMBERED_HEADERS = 1024
"""How many whole Cookie headers are remembered with their visitor: most requests repeat one."""

_MP = "mp"
"""The beginning of all cookie names of mixpanel-browser, and of ours unless the settings change it."""

_PREFIXES = ("", "__", "__Host-")


class RememberedVisitor(NamedTuple):
    """The visitor in some cookies, from when to when they are valid, until when none has to be set."""

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
        own_name = rules.codec.name(secure=False)
        self._name_fragment = _MP if _MP in own_name else ""
        stems = (_MP,) if own_name.startswith(_MP) else (_MP, own_name)
        self._name_starts = tuple(
            f"{space}{prefix}{stem}" for space in (" ", "") for prefix in _PREFIXES for stem in stems
        )

    def open(self, facts: RequestFacts, now_s: float, in_background: bool = False) -> Exchange:
        """Begin an exchange. `in_background`: its records are committed by a thread, not by the caller."""
        rules = self._rules
        if rules.refusal() is not None or (rules.is_excluded is not None and rules.is_excluded(facts)):
            return self.open_inert(facts)
        has_id_cookies = True
        header_key = (facts.scheme, facts.cookies)
        remembered = self._headers.get(header_key)
        if remembered is None:
            key = self._key(facts)
            has_id_cookies = len(key) > 1
            remembered = self._visitors.get(key)
            if remembered is not None and len(facts.cookies) <= REMEMBERED_CHARS:
                if len(self._headers) >= REMEMBERED_HEADERS:
                    self._headers.clear()
                self._headers[header_key] = remembered
        if remembered is not None or not has_id_cookies:
            # The same cookies as before, or none that we read: there is no opt-out among them.
            is_opted_out = facts.has_privacy_signal and privacy_signal_set(
                facts, rules.respect_dnt, rules.respect_gpc
            )
        else:
            is_opted_out = rules.set_cookies.has_opted_out(facts) or opted_out(
                facts, token=rules.token, respect_dnt=rules.respect_dnt, respect_gpc=rules.respect_gpc
            )
        if remembered is not None and remembered.since_s <= now_s <= remembered.until_s:
            resolved: ResolvedIdentity | None = remembered.resolved
            received: VisitorCookie | None = remembered.resolved.cookie
            no_cookie_until_s = remembered.no_cookie_until_s
        else:
            resolved, no_cookie_until_s = None, 0.0
            received = self._received_cookie(facts, now_s) if has_id_cookies else None
        consent: Consent = "granted"
        if is_opted_out:
            consent = "denied"
        elif rules.consent is not None:
            consent = rules.consent(facts)
        if consent != "granted":
            # Without consent the visitor has an ID for this request only.
            return Exchange(
                rules, facts, Identity(device_id=self._fresh_id()), consent, now_s, received, in_background
            )
        if resolved is None:
            cookies = facts.cookies if has_id_cookies or rules.resolver.spid is not None else ""
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
        """Begin an exchange that tracks nothing and sets no cookie; handlers use it like any other."""
        identity = Identity(device_id=self._fresh_id())
        properties = RequestProperties(self._rules.enricher, facts, "", is_first=True)
        return Exchange(self._rules, facts, identity, "unknown", request_properties=properties)

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
        known_cookie = received or pending.cookie
        resolved = rules.resolver.resolve(known_cookie, cookies, now_s=now_s, fresh_id=self._fresh_id)
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
            resumes=received is None and known_cookie is not None,
            withheld=received is None and withholds_cookies(facts),
        )
        if resolved.identity.is_new and resolved.identity.uid is None:
            self._keep_anonymous(exchange, resolved)
        if pending.user_id is not None and not resolved.cookie.belongs_to(pending.user_id):
            exchange.resume_log_in(pending.user_id, self._fresh_id)
        return exchange

    def _keep_anonymous(self, exchange: Exchange, resolved: ResolvedIdentity) -> None:
        """Create no person for a new device ID that no browser will store."""
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
        """Return the parts of a request that decide who the visitor is and whether they have opted out."""
        part, starts = self._name_fragment, self._name_starts
        # Behind a comma there may be another cookie.
        pairs = [
            pair
            for pair in facts.cookies.split(";")
            if part in pair and (pair.startswith(starts) or "," in pair or pair.lstrip().startswith(starts))
        ]
        return (facts.scheme, *pairs)

    def _remember(self, facts: RequestFacts, resolved: ResolvedIdentity) -> None:
        key = self._key(facts)
        # With SPiD not only the cookies decide: its sessions end with time.
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
