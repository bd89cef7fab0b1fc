"""Logins: what Django's signals tell of log-in and log-out becomes `identify` and `reset`.

They also come with requests that have not passed our middleware, as those of the test client's `force_login`,
and with those of Django REST framework, which have what Django's request has.

Staff who look at the site as another user (impersonation) stay who they are. Such a log-in says so by keeping
Django from noting it as the user's last one, as django-hijack and django-loginas do.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out

from mixpanel_visitor.tracking.visitor import Visitor

from .site import current_site

_LAST_LOGIN = "update_last_login"
"""The name under which Django's own receiver is connected."""

_site_notes_last_login = False


def listen() -> None:
    """Listen to Django's two signals; may be called more than once."""
    user_logged_in.connect(_identify, dispatch_uid="mixpanel_visitor")
    user_logged_out.connect(_reset, dispatch_uid="mixpanel_visitor")


def learn_last_login() -> None:
    """Learn whether this site notes last log-ins; to be called when all apps are ready, outside a log-in."""
    global _site_notes_last_login
    _site_notes_last_login = _notes_last_login()


def _notes_last_login() -> bool:
    # It is disconnected in the whole process: a log-in in another thread at that very moment is taken for an
    # impersonation as well. Django does not note it either.
    return any(key[0] == _LAST_LOGIN for key, *_ in list(user_logged_in.receivers))


def _identify(*, request: Any, user: Any, **_more: Any) -> None:
    visitor = getattr(request, "visitor", None)
    if not isinstance(visitor, Visitor) or (_site_notes_last_login and not _notes_last_login()):
        return
    current_site().logins.log_in(visitor, user, request)


def _reset(*, request: Any, user: Any, **_more: Any) -> None:
    visitor = getattr(request, "visitor", None)
    if isinstance(visitor, Visitor) and not _ends_impersonation(request):
        current_site().logins.log_out(visitor, user, request)


def _ends_impersonation(request: Any) -> bool:
    """Return whether this is django-loginas, which logs the user out and then the member of staff in."""
    flag = getattr(settings, "LOGINAS_FROM_USER_SESSION_FLAG", "loginas_from_user")
    return flag in getattr(request, "session", ())
