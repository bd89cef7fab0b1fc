"""Configuration: Django's settings as the mapping that our settings are read from."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from mixpanel_visitor.errors import SettingsError

PREFIX = "MIXPANEL_"

_FUNCTIONS = frozenset(
    f"MIXPANEL_VISITOR_{name}"
    for name in (
        *("CONSENT", "BEFORE_SEND", "EXTRA_PROPERTIES", "REQUEST_FILTER", "BOT_DETECTOR", "PLAN"),
        "IDENTIFY_USERS",
    )
)
"""Settings that may be given as the dotted name of what they are."""


def concerns(name: str) -> bool:
    """Return whether a setting of Django's is one that we read."""
    return name.startswith(PREFIX) or name in ("SECRET_KEY", "SECRET_KEY_FALLBACKS")


def configured(settings: Any) -> dict[str, Any]:
    """Read what concerns us; raises `SettingsError` where a dotted name leads nowhere."""
    values = {name: getattr(settings, name) for name in dir(settings) if name.startswith(PREFIX)}
    problems: list[str] = []
    for name in _FUNCTIONS.intersection(values):
        value = values[name]
        if isinstance(value, str) and "." in value:
            try:
                values[name] = import_string(value)
            except ImportError as error:
                problems.append(f"{name}={value!r}: {error}; give the dotted name of a function, or itself")
    if problems:
        raise SettingsError(sorted(problems))
    try:
        values["SECRET_KEY"] = settings.SECRET_KEY
    except ImproperlyConfigured:
        return values  # an empty one: we may have a key of our own
    # Django has the latest of them first; with us the latest is the last, and signs.
    values["SECRET_KEY_FALLBACKS"] = list(reversed(settings.SECRET_KEY_FALLBACKS))
    return values
