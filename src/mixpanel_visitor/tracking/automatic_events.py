"""Automatic events: those that the package tracks itself, from the state of an exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixpanel_visitor.core.enrichment.page_views import EVENT as PAGE_VIEW

if TYPE_CHECKING:
    from mixpanel_visitor.core.exchange import Exchange
    from mixpanel_visitor.core.identity.identity import MergeEvent

    from .event_builder import EventBuilder, Sink


def track_merge(event_builder: EventBuilder, sink: Sink, merge: MergeEvent) -> None:
    """Track the event that merges a device with a user."""
    event_builder.event(sink, merge.event, None, identity=merge.properties)


def track_page_view(event_builder: EventBuilder, exchange: Exchange, route: str | None) -> None:
    """Track a page view, as mixpanel-browser's `track_pageview` does; `route` is the template."""
    properties = exchange.request_properties.page_view(route)
    event_builder.event(exchange, PAGE_VIEW, properties, registered=exchange.registered)
