"""ExchangeRules: what all exchanges of one tracker share, and how each of them begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .exchange import Exchange
from .identity import Identity
from .policy import opted_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from .anchor import AnchorCodec
    from .bots import BotDetector
    from .enrich import Enricher
    from .identity import IdMode
    from .policy import Consent
    from .request import RequestFacts
    from .resolution import Resolution, Resolver
    from .set_cookies import SetCookies


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRules:
    """Everything that all exchanges of one tracker share.

    `count` counts what happened, by name; `refuse` counts records that were accepted and are not sent.
    """

    anchors: AnchorCodec
    resolver: Resolver
    set_cookies: SetCookies
    token: str
    id_mode: IdMode
    bots: Literal["drop", "tag", "keep"]
    detector: BotDetector
    enricher: Enricher
    respect_dnt: bool
    respect_gpc: bool
    consent: Callable[[RequestFacts], Consent]
    left_alone: Callable[[RequestFacts], bool]
    refusal: Callable[[], str | None]
    count: Callable[[str], None]
    refuse: Callable[[str, int], None]

    def open(self, facts: RequestFacts, *, now_s: float, fresh_id: Callable[[], str]) -> Exchange:
        """Begin an exchange: decide whether we may track, and who the visitor is."""
        if self.refusal() is not None or self.left_alone(facts):
            return self.inert(facts, fresh_id=fresh_id)
        secure = facts.scheme == "https"
        came = self.anchors.find(facts.cookies, secure=secure, now_s=now_s) if facts.cookies else None
        if self.set_cookies.has_opted_out(facts) or opted_out(
            facts, token=self.token, respect_dnt=self.respect_dnt, respect_gpc=self.respect_gpc
        ):
            consent: Consent = "denied"
        else:
            consent = self.consent(facts)
        found: Resolution | None = None
        if consent == "granted":
            found = self.resolver.resolve(came, facts.cookies, now_s=now_s, fresh_id=fresh_id)
        # Whoever is not remembered has an ID all the same, for this request.
        identity = Identity(device_id=fresh_id()) if found is None else found.identity
        exchange = Exchange(
            rules=self,
            facts=facts,
            came=came,
            found=found,
            identity=identity,
            consent=consent,
            now_s=now_s,
            ignores_bots=self.bots == "keep",
        )
        if found is not None and identity.is_new and exchange.is_bot:
            exchange.identity = Identity(device_id=found.anchor.device_id)
        return exchange

    def inert(self, facts: RequestFacts, *, fresh_id: Callable[[], str]) -> Exchange:
        """Begin an exchange that tracks nothing and sets nothing, so that handlers need not know."""
        return Exchange(
            rules=self,
            facts=facts,
            came=None,
            found=None,
            identity=Identity(device_id=fresh_id()),
            consent="unknown",
            now_s=0.0,
            ignores_bots=True,
        )
