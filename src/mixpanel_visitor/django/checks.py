"""Checks: what `manage.py check` and every start of `runserver` say of our settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's name for it
from django.utils.module_loading import import_string

from mixpanel_visitor.errors import SettingsError

from .middleware import VisitorMiddleware
from .site import current_site

_CACHES = (
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
    "django.middleware.cache.CacheMiddleware",
)
_PLACE = "Put 'mixpanel_visitor.django.VisitorMiddleware' once, at the beginning of MIDDLEWARE."


def check_settings(**_more: Any) -> list[CheckMessage]:
    """Return an error for each mistake in the settings."""
    try:
        current_site()
    except SettingsError as error:
        return [Error(problem, id="mixpanel_visitor.E001") for problem in error.problems]
    return []


def check_middleware(**_more: Any) -> list[CheckMessage]:
    """Return what is wrong with the place of our middleware."""
    places = [index for index, name in enumerate(settings.MIDDLEWARE) if _is_ours(name)]
    if not places:
        return [
            Warning(
                "VisitorMiddleware is not in MIDDLEWARE: no request has a visitor.",
                hint=_PLACE,
                id="mixpanel_visitor.W001",
            )
        ]
    found: list[CheckMessage] = []
    if len(places) > 1:
        found.append(
            Warning(
                "VisitorMiddleware is more than once in MIDDLEWARE; the first one counts.",
                hint=_PLACE,
                id="mixpanel_visitor.W002",
            )
        )
    above = [name for name in settings.MIDDLEWARE[: places[0]] if name in _CACHES]
    if above:
        found.append(
            Warning(
                f"VisitorMiddleware is below {above[0]}: what is served from the cache has no visitor, and "
                "its page views are not tracked.",
                hint=_PLACE,
                id="mixpanel_visitor.W003",
            )
        )
    return found


def _is_ours(name: str) -> bool:
    try:
        return import_string(name) is VisitorMiddleware
    except ImportError:
        return False  # Django says so itself
