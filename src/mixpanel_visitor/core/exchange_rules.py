"""ExchangeRules: what all exchanges of one tracker share, and how each of them begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .exchange import Exchange
from .identity import Identity
from .policy import opted_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from .anchor import Anchor, AnchorCodec
    from .bots import BotDetector
    from .enrich import Enricher
    from .identity import IdMode
    from .policy import Consent
    from .request import RequestFacts
    from .resolution import Resolution, Resolver
    from .set_cookies import SetCookies


RECALLED = 1024
RECALLED_CHARS = 4096
"""So many Cookie headers are remembered with what they said, and none that is longer."""


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
    recent: dict[tuple[str, str], Resolution] = field(default_factory=dict, repr=False)

    def open(self, facts: RequestFacts, *, now_s: float, fresh_id: Callable[[], str]) -> Exchange:
        """Begin an exchange: decide whether we may track, and who the visitor is."""
        if self.refusal() is not None or self.left_alone(facts):
            return self.inert(facts, fresh_id=fresh_id)
        recalled = self._recall(facts, now_s=now_s)
        came = recalled.anchor if recalled else self._came(facts, now_s=now_s)
        if self.set_cookies.has_opted_out(facts) or opted_out(
            facts, token=self.token, respect_dnt=self.respect_dnt, respect_gpc=self.respect_gpc
        ):
            consent: Consent = "denied"
        else:
            consent = self.consent(facts)
        found: Resolution | None = None
        if consent == "granted":
            found = recalled or self.resolver.resolve(came, facts.cookies, now_s=now_s, fresh_id=fresh_id)
            if recalled is None and found.anchor is came and not found.links:
                self._remember(facts, found)
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

    def _came(self, facts: RequestFacts, *, now_s: float) -> Anchor | None:
        if not facts.cookies:
            return None
        return self.anchors.find(facts.cookies, secure=facts.scheme == "https", now_s=now_s)

    def _recall(self, facts: RequestFacts, *, now_s: float) -> Resolution | None:
        """Give what the very same Cookie header said before: a page's requests mostly send the same."""
        found = self.recent.get((facts.scheme, facts.cookies))
        return found if found is not None and self.anchors.is_fresh(found.anchor, now_s=now_s) else None

    def _remember(self, facts: RequestFacts, found: Resolution) -> None:
        # Only what nothing but the header decides: SPiD's sessions end with time.
        if self.resolver.spid is not None or len(facts.cookies) > RECALLED_CHARS:
            return
        if len(self.recent) >= RECALLED:
            self.recent.clear()
        self.recent[facts.scheme, facts.cookies] = found

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
