"""RequestProperties: what a request says of its visitor besides who it is, worked out on demand, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixpanel_visitor.core.events.encoding import encoded

from .client_address import NO_GEOLOCATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mixpanel_visitor.core.events.encoding import EncodedPart
    from mixpanel_visitor.core.events.record_builder import EncodedCommon
    from mixpanel_visitor.core.request import RequestFacts

    from .bots import BotKind
    from .enricher import Enricher


NOWHERE = encoded({"ip": NO_GEOLOCATION})
_NOWHERE_PARTS = (NOWHERE,)


class RequestProperties:
    """One look at a request; `is_first`: it is the first that is known of its visitor."""

    __slots__ = (
        "_enricher",
        "_facts",
        "_is_first",
        "_parts",
        "bot",
        "encoded_common",
        "has_first_touch",
    )

    def __init__(self, enricher: Enricher, facts: RequestFacts, bot: BotKind, *, is_first: bool) -> None:
        self._enricher = enricher
        self._facts = facts
        self._is_first = is_first
        self._parts: Sequence[EncodedPart] | None = None
        self.has_first_touch = is_first
        """Whether there may be a first touch that nobody has taken yet."""
        self.bot = bot
        self.encoded_common: EncodedCommon | None = None

    @property
    def parts(self) -> Sequence[EncodedPart]:
        """Event properties: browser, page, referrer, campaign, address; the last one of a name counts."""
        if self._parts is None:
            self._parts = [NOWHERE]  # should it fail: then events go without
            self._parts = self._enricher.parts(self._facts, is_new=self._is_first, is_bot=bool(self.bot))
        return self._parts

    def first_touch(self) -> Mapping[str, Any]:
        """Return what the first campaign puts on a new visitor's profile; once."""
        if not self.has_first_touch:
            return {}
        self.has_first_touch = False
        return self._enricher.first_touch(self._facts)

    def page_view(self, route: str | None) -> Mapping[str, Any]:
        """Return what a page view says besides."""
        return self._enricher.page_view(self._facts, route)


class EmptyRequestProperties:
    """Outside of a request there is nothing to look at."""

    __slots__ = ()

    has_first_touch = False
    bot: BotKind = ""

    @property
    def parts(self) -> Sequence[EncodedPart]:
        """There is only to say that the address is not the visitor's."""
        return _NOWHERE_PARTS

    def first_touch(self) -> Mapping[str, Any]:
        """There is no campaign."""
        return {}

    def page_view(self, route: str | None) -> Mapping[str, Any]:
        """There is no page."""
        return {} if route is None else {"route": route}


class CarriedRequestProperties(EmptyRequestProperties):
    """Outside of the request that has said these event properties."""

    __slots__ = ("_event_properties", "_parts")

    def __init__(self, event_properties: Mapping[str, Any]) -> None:
        self._event_properties = event_properties
        self._parts: Sequence[EncodedPart] | None = None

    @property
    def parts(self) -> Sequence[EncodedPart]:
        """What the request has said; the address as well, where the settings allowed it there."""
        if self._parts is None:
            self._parts = (encoded({"ip": NO_GEOLOCATION, **self._event_properties}),)
        return self._parts
