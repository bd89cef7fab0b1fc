"""Requests: what we read of Django's request, whichever handler has made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from django.conf import settings

from mixpanel_visitor.asgi import SCOPE_KEY
from mixpanel_visitor.core.request import facts_from_environ, facts_from_scope
from mixpanel_visitor.tracking.visitor import Visitor
from mixpanel_visitor.wsgi import VISITOR_KEY

if TYPE_CHECKING:
    from django.http import HttpRequest

    from mixpanel_visitor.core.request import RequestFacts


def facts_of(request: HttpRequest) -> RequestFacts:
    """Read the request as its server has it; its scheme and host are those that Django takes it to have.

    Django knows them by SECURE_PROXY_SSL_HEADER and USE_X_FORWARDED_HOST.
    """
    scope: Any = vars(request).get("scope")  # getattr would cost an exception where there is none
    if scope is not None:
        facts = facts_from_scope(scope)
    else:
        facts = facts_from_environ(request.META)
        if not request.path.isascii():
            facts.path = quote(request.path)  # WSGIRequest has decoded what stood in the environ
    facts.scheme = "https" if request.scheme == "https" else "http"
    if settings.USE_X_FORWARDED_HOST:
        inner_host = facts.host  # read first: reading the request would set it again
        facts.host = request.META.get("HTTP_X_FORWARDED_HOST") or inner_host
    return facts


def visitor_of(request: Any) -> Visitor | None:
    """Return the visitor that the request has already: from us, or from a middleware around Django.

    The request may also be one around Django's, such as Django REST framework's.
    """
    # By its dictionary: each attribute that is not there would cost an exception.
    attributes = vars(request)
    if "META" not in attributes:
        attributes = vars(getattr(request, "_request", request))
    visitor = attributes.get("visitor")
    if not isinstance(visitor, Visitor):
        scope = attributes.get("scope")
        visitor = attributes.get("META", {}).get(VISITOR_KEY) if scope is None else scope.get(SCOPE_KEY)
    return visitor if isinstance(visitor, Visitor) else None


def route_of(request: HttpRequest) -> str | None:
    """Return the pattern of the URL that Django has found, without a regular expression's ends."""
    route = getattr(request.resolver_match, "route", None)
    if not isinstance(route, str):
        return None
    return f"{request.META.get('SCRIPT_NAME', '')}/{route.removeprefix('^').removesuffix('$')}"
