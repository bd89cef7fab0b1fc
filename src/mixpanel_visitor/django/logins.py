"""Logins: what Django's signals tell of log-in and log-out becomes `identify` and `reset`.

They also come with requests that have not passed our middleware, as those of the test client's `force_login`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
from mixpanel_visitor.tracking.visitor import Visitor

from .site import current_site

if TYPE_CHECKING:
    from django.dispatch import Signal

_log = RateLimitedLog()


def listen(logged_in: Signal, logged_out: Signal) -> None:
    """Listen to Django's two signals; may be called more than once."""
    logged_in.connect(_identify, dispatch_uid="mixpanel_visitor")
    logged_out.connect(_reset, dispatch_uid="mixpanel_visitor")


def _identify(*, request: Any, user: Any, **_more: Any) -> None:
    visitor = getattr(request, "visitor", None)
    if isinstance(visitor, Visitor):
        user_id = _id_of(user, request)
        if user_id is not None:
            visitor.identify(user_id)


def _reset(*, request: Any, user: Any, **_more: Any) -> None:
    """Log out who was logged in: an anonymous visitor who asks for it keeps his device ID."""
    visitor = getattr(request, "visitor", None)
    if isinstance(visitor, Visitor) and user is not None and _id_of(user, request) is not None:
        visitor.reset()


def _id_of(user: Any, request: Any) -> Any:
    """Return the ID that the setting `identify_users` gives a user; None: none."""
    setting: Any = current_site().tracker.settings.identify_users
    if not callable(setting):
        return str(user.pk) if setting else None
    try:
        return setting(user, request)
    except Exception:
        _log(
            logging.ERROR,
            "identify_users",
            "the identify_users callable raised: the visitor stays who he was. Mend the callable.",
            exc_info=True,
        )
        return None
