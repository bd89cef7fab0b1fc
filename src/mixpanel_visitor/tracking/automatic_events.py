"""Automatic events: those that the package writes itself, from an exchange's visit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixpanel_visitor.core.enrichment.page_views import EVENT as PAGE_VIEW

if TYPE_CHECKING:
    from mixpanel_visitor.core.exchange import Exchange
    from mixpanel_visitor.core.identity.identity import MergeEvent

    from .event_builder import EventBuilder, Sink


def track_merge(writer: EventBuilder, sink: Sink, merge: MergeEvent) -> None:
    """Write the event that joins what was tracked on a device to a user."""
    writer.event(sink, merge.event, None, identity=merge.properties)


def track_page_view(writer: EventBuilder, exchange: Exchange, route: str | None) -> None:
    """Write a page view, as mixpanel-browser's `track_pageview` does; `route` is the template."""
    properties = exchange.request_properties.page_view(route)
    writer.event(exchange, PAGE_VIEW, properties, registered=exchange.registered)
