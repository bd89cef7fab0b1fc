"""SiteRules: what all exchanges of one tracker share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from .enrichment.request_properties import RequestProperties

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.records import Record

    from .enrichment.bots import BotDetector
    from .enrichment.enricher import Enricher
    from .enrichment.page_views import PageViews
    from .identity.identity import IdMode
    from .identity.resolver import IdentityResolver
    from .identity.visitor_cookie import VisitorCookieCodec
    from .policy import Consent
    from .request import RequestFacts
    from .response_cookies import ResponseCookies


class Unfinished(Protocol):
    """A request or job that may have queued records: an `Exchange` or a `DetachedExchange`."""

    @property
    def holds_back(self) -> bool:
        """Whether records are queued that `take` does not return yet."""
        ...

    def take(self) -> list[Record]:
        """Return and remove the queued records that may leave."""
        ...

    def forget(self) -> None:
        """Drop the queued records."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRules:
    """Everything that all exchanges of one tracker share.

    `count` counts what happened, by name; `refuse` counts records that were accepted and are not sent;
    `refusal` returns why nothing on the site is tracked at this moment (None: requests are tracked).
    """

    codec: VisitorCookieCodec
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
    page_views: PageViews | None = None
    unfinished: set[Unfinished] = field(default_factory=set, repr=False)
    """Requests and jobs that have tracked something and have not ended."""

    def request_properties(self, facts: RequestFacts, *, is_first: bool) -> RequestProperties:
        """Return the properties of a request; `is_first`: it is the first known request of its visitor."""
        bot = "" if self.bots == "keep" else self.detector.kind(facts)
        return RequestProperties(self.enricher, facts, bot, is_first=is_first)
