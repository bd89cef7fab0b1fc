"""RequestProperties: the properties that a request adds to events, worked out on demand, once."""

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
    """The properties of one request; `is_first`: it is the first known request of its visitor."""

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
        """True for a new visitor until `first_touch` has been called."""
        self.bot = bot
        self.encoded_common: EncodedCommon | None = None

    @property
    def parts(self) -> Sequence[EncodedPart]:
        """Event properties: browser, page, referrer, campaign, address; of one name the last counts."""
        if self._parts is None:
            self._parts = [NOWHERE]  # if it raises, later events go without
            self._parts = self._enricher.parts(self._facts, is_new=self._is_first, is_bot=bool(self.bot))
        return self._parts

    def first_touch(self) -> Mapping[str, Any]:
        """Return the first campaign's properties for a new visitor's profile; only once."""
        if not self.has_first_touch:
            return {}
        self.has_first_touch = False
        return self._enricher.first_touch(self._facts)

    def page_view(self, route: str | None) -> Mapping[str, Any]:
        """Return the further properties of a page view."""
        return self._enricher.page_view(self._facts, route)


class EmptyRequestProperties:
    """The properties outside of a request."""

    __slots__ = ()

    has_first_touch = False
    bot: BotKind = ""

    @property
    def parts(self) -> Sequence[EncodedPart]:
        """Event properties: only that the sender's address is not the visitor's."""
        return _NOWHERE_PARTS

    def first_touch(self) -> Mapping[str, Any]:
        """Return no properties: there is no campaign."""
        return {}

    def page_view(self, route: str | None) -> Mapping[str, Any]:
        """Return the route alone: there is no page."""
        return {} if route is None else {"route": route}


class CarriedRequestProperties(EmptyRequestProperties):
    """The properties of a visitor whom a request has exported with these event properties."""

    __slots__ = ("_event_properties", "_parts")

    def __init__(self, event_properties: Mapping[str, Any]) -> None:
        self._event_properties = event_properties
        self._parts: Sequence[EncodedPart] | None = None

    @property
    def parts(self) -> Sequence[EncodedPart]:
        """The request's event properties, with the address if the settings allowed it there."""
        if self._parts is None:
            self._parts = (encoded({"ip": NO_GEOLOCATION, **self._event_properties}),)
        return self._parts
