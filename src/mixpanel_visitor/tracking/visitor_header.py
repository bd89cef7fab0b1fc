"""The header in which a visitor travels with a request from one service to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixpanel_visitor.core.carried_exchange import HEADER, NOT_TRACKED

from . import context
from .tracker import engine_of

if TYPE_CHECKING:
    from .tracker import Tracker

__all__ = ["HEADER", "header_for"]


def header_for(tracker: Tracker, host: str | None) -> str | None:
    """Return the value of the header for a request to this host; None: it must not have one.

    Only hosts that `visitor_header_hosts` names get it, and only while there is a current visitor.
    """
    engine = engine_of(tracker)
    if not host or not is_named(host.lower(), engine.settings.visitor_header_hosts):
        return None
    visitor = context.get_current()
    if visitor is None:
        return None
    return engine.exports.as_of_now(visitor.export()) or NOT_TRACKED


def is_named(host: str, names: tuple[str, ...]) -> bool:
    """Return whether a host is one of these; `.example.com` stands for all names below.

    >>> is_named("billing.internal", (".internal",)), is_named("example.com", (".example.com",))
    (True, False)
    """
    return any(host.endswith(name) if name.startswith(".") else host == name for name in names)
