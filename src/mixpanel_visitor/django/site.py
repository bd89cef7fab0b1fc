"""Site: the tracker of this Django process, and what the middleware needs of it.

There is one, made when it is first asked for, and made anew when `override_settings` changes a setting.
"""

from __future__ import annotations

import threading
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from mixpanel_visitor.tracking.logins import UserLogins
from mixpanel_visitor.tracking.own_endpoints import OwnEndpoints
from mixpanel_visitor.tracking.tracker import Tracker, engine_of

from .configuration import concerns, configured


class Site:
    """A tracker with what is behind it."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.engine = engine_of(tracker)
        self.endpoints = OwnEndpoints(self.engine)
        self.endings = self.endpoints.endings
        self.behind_proxies = bool(tracker.settings.trusted_proxies)
        self.stores_before = tracker.settings.durability != "after-response"
        self.logins = UserLogins(tracker.settings.identify_users, lambda user: user.pk)


_site: Site | None = None
_lock = threading.Lock()


def current_site() -> Site:
    """Return the site of the settings as they are now; raises `SettingsError` where they are wrong."""
    return _site or _made()


def get_tracker() -> Tracker:
    """Return the tracker of this Django process, for jobs: `get_tracker().visitor("user-42")`."""
    return current_site().tracker


def _made() -> Site:
    global _site
    with _lock:
        if _site is None:
            _site = Site(Tracker.from_mapping(configured(settings)))
        return _site


def _forget(*, setting: str, **_more: Any) -> None:
    global _site
    if concerns(setting):
        with _lock:
            former, _site = _site, None
        if former is not None:
            former.engine.drain(0)  # its spool may be the next one's


setting_changed.connect(_forget, dispatch_uid="mixpanel_visitor")
