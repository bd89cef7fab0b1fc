"""Checks: what `manage.py check` and every start of `runserver` say of our settings.

| ID | what is wrong |
|---|---|
| `mixpanel_visitor.E001` | a setting |
| `mixpanel_visitor.E002` | there is no token, or none that can be one |
| `mixpanel_visitor.W001` | the middleware is absent |
| `mixpanel_visitor.W002` | the middleware is there twice |
| `mixpanel_visitor.W003` | the middleware is below a cache |
| `mixpanel_visitor.W004` | Django believes a proxy's headers, and we were not given the proxy |
| `mixpanel_visitor.W005` | APPEND_SLASH redirects the hand-over |
| `mixpanel_visitor.W006` | the session's cookie has a domain, ours has not |

`SILENCED_SYSTEM_CHECKS` takes them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's name for it
from django.middleware.cache import CacheMiddleware, FetchFromCacheMiddleware, UpdateCacheMiddleware
from django.middleware.common import CommonMiddleware
from django.urls import is_valid_path
from django.utils.module_loading import import_string

from mixpanel_visitor.errors import SettingsError

from .middleware import VisitorMiddleware
from .site import current_site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.settings import Settings

_CACHES = (UpdateCacheMiddleware, FetchFromCacheMiddleware, CacheMiddleware)
_PLACE = "Put 'mixpanel_visitor.django.VisitorMiddleware' once, at the beginning of MIDDLEWARE."
_SETTING = re.compile(r"\w+")


def check_settings(**_more: Any) -> list[CheckMessage]:
    """Return an error for each mistake in the settings."""
    try:
        current_site()
    except SettingsError as error:
        return [_mistake(problem) for problem in error.problems]
    return []


def check_middleware(**_more: Any) -> list[CheckMessage]:
    """Return what is wrong with the place of our middleware."""
    classes = list(_middleware())
    positions = [index for index, each in enumerate(classes) if each is VisitorMiddleware]
    if not positions:
        return [_warning("W001", "VisitorMiddleware is not in MIDDLEWARE: no request has a visitor.", _PLACE)]
    messages: list[CheckMessage] = []
    if len(positions) > 1:
        messages.append(
            _warning("W002", "VisitorMiddleware is in MIDDLEWARE more than once; the first counts.", _PLACE)
        )
    cache = next((each for each in classes[: positions[0]] if _is_a(each, *_CACHES)), None)
    if cache is not None:
        messages.append(
            _warning(
                "W003",
                f"VisitorMiddleware is below {cache.__module__}.{cache.__qualname__}: what is served from "
                "the cache has no visitor, and its page views are not tracked.",
                _PLACE,
            )
        )
    return messages


def check_surroundings(**_more: Any) -> list[CheckMessage]:
    """Return where Django's settings and ours, both right, do not go together."""
    try:
        visitor_settings = current_site().tracker.settings
    except SettingsError:
        return []  # `check_settings` says so
    return [
        *_check_proxies(visitor_settings),
        *_check_handover_path(visitor_settings),
        *_check_cookie_domain(visitor_settings),
    ]


def _check_proxies(visitor_settings: Settings) -> Iterator[CheckMessage]:
    names = [name for name in ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST") if getattr(settings, name)]
    if names and not visitor_settings.trusted_proxies:
        yield _warning(
            "W004",
            f"{names[0]} says that a proxy is in front of this site, and trusted_proxies names none: every "
            "visitor has the proxy's address, and Mixpanel takes all of them to be where it is.",
            "Set MIXPANEL_VISITOR_TRUSTED_PROXIES to the proxy's networks, as in ['10.0.0.0/8'].",
        )


def _check_handover_path(visitor_settings: Settings) -> Iterator[CheckMessage]:
    path = visitor_settings.handover_path
    if path is None or not settings.APPEND_SLASH or not settings.ROOT_URLCONF:
        return
    above: list[Any] = []
    for each in _middleware():
        if each is VisitorMiddleware:
            break
        above.append(each)
    else:
        return  # `check_middleware` says so
    if not any(_is_a(each, CommonMiddleware) for each in above):
        return
    if is_valid_path(f"{path}/") and not is_valid_path(path):
        yield _warning(
            "W005",
            f"VisitorMiddleware is below CommonMiddleware, and a URL pattern matches {path}/: APPEND_SLASH "
            "redirects the hand-over there, and the browser's own ID never arrives.",
            f"{_PLACE} Or set MIXPANEL_VISITOR_HANDOVER_PATH to a path that no pattern matches.",
        )


def _check_cookie_domain(visitor_settings: Settings) -> Iterator[CheckMessage]:
    domain = settings.SESSION_COOKIE_DOMAIN
    if domain and visitor_settings.cookie_domain is None:
        yield _warning(
            "W006",
            f"SESSION_COOKIE_DOMAIN is {domain!r}, and the visitor cookie has no domain: who logs in on one "
            "host is logged in on the others as well, but is another visitor there.",
            f"Set MIXPANEL_VISITOR_COOKIE_DOMAIN = {domain.removeprefix('.')!r}.",
        )


def _mistake(problem: str) -> Error:
    """Return the error for a problem, which says what is wrong and then the fix, or what is right."""
    message, _, fix = problem.partition("; ")
    if not fix:
        message, _, fix = problem.partition(": ")
    name = _SETTING.match(problem)
    code = "E002" if name is not None and name[0] == "token" else "E001"
    return Error(message, hint=fix or None, id=f"mixpanel_visitor.{code}")


def _warning(code: str, message: str, fix: str) -> Warning:
    return Warning(message, hint=fix, id=f"mixpanel_visitor.{code}")


def _middleware() -> Iterator[Any]:
    """Yield the classes that MIDDLEWARE names; None for a name that leads nowhere: Django says so itself."""
    for name in settings.MIDDLEWARE:
        try:
            yield import_string(name)
        except ImportError:
            yield None


def _is_a(each: Any, *classes: type) -> bool:
    return isinstance(each, type) and issubclass(each, classes)
