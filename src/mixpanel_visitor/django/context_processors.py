"""Context processors: `"mixpanel_visitor.django.context_processors.visitor"` in TEMPLATES."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .requests import visitor_of

if TYPE_CHECKING:
    from django.http import HttpRequest


def visitor(request: HttpRequest) -> dict[str, Any]:
    """Return `visitor` and `visitor_id` for templates; nothing where the request has no visitor."""
    current = visitor_of(request)
    return {} if current is None else {"visitor": current, "visitor_id": current.id}
