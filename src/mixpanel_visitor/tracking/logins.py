"""UserLogins: a framework's log-ins and log-outs become the visitor's `identify` and `reset`."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
from mixpanel_visitor.settings.parsers import hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from .visitor import Visitor


class UserLogins:
    """Identifies and resets visitors, by the ID that the setting `identify_users` gives a user."""

    def __init__(self, setting: bool | str | Callable[..., Any], key_of: Callable[[Any], object]) -> None:
        """Take the setting, and a function that returns a user's key, for the setting True.

        Raise `SettingsError` where the setting is a dotted name that leads to no function.
        """
        self._key_of = key_of
        self._log = RateLimitedLog()
        self._setting = _imported(setting) if isinstance(setting, str) else setting

    def log_in(self, visitor: Visitor, user: object, request: object) -> None:
        """Identify the visitor as this user, unless the setting returns None."""
        user_id = self._id_of(user, request)
        if user_id is not None:
            visitor.identify(user_id)

    def log_out(self, visitor: Visitor, user: object, request: object) -> None:
        """Reset the visitor, if `log_in` would identify this user.

        Frameworks also log out anonymous users, whose visitors stay the same.
        """
        if getattr(user, "is_authenticated", False) and self._id_of(user, request) is not None:
            visitor.reset()

    def _id_of(self, user: object, request: object) -> Any:
        try:
            if callable(self._setting):
                return self._setting(user, request)
            key = self._key_of(user) if self._setting else None
            return None if key is None else str(key)
        except Exception:
            self._log(
                logging.ERROR,
                "identify_users",
                "identify_users: the user's ID could not be had: the visitor stays who he was. Mend the "
                "callable; where there is none, give one that says which ID a user has.",
                exc_info=True,
            )
            return None


def _imported(dotted_name: str) -> Callable[..., Any]:
    """Import a function."""
    module, _, name = dotted_name.rpartition(".")
    function, problem = None, "it is None"
    try:
        function = hook(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError) as error:
        problem = str(error)
    if function is None:
        raise SettingsError(
            [f"identify_users={dotted_name!r}: {problem}; give the dotted name of a function, or itself"]
        )
    return function
