"""The settings source of a command: the environment, or a framework's settings before it.

A framework that runs our commands, as Django's `manage.py` does, gives a `SettingsSource` as click's `obj`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.settings.settings import near_misses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class SettingsSource:
    """Where settings are read from before the environment.

    `origin` completes "the settings ..." in messages. `read` returns the mapping and may raise
    `SettingsError`; it is called when a command needs a setting.
    """

    origin: str
    read: Callable[[], Mapping[str, Any]]


ENVIRONMENT = SettingsSource("in the environment", dict)


def current_source() -> SettingsSource:
    """Return the source of the command that is running."""
    context = click.get_current_context(silent=True)
    source = None if context is None else context.find_object(SettingsSource)
    return ENVIRONMENT if source is None else source


def resolve(*, require_secret: bool = True, **keywords: Any) -> Settings:
    """Return the settings of the running command; keywords win. Raise `SettingsError` with all mistakes."""
    return Settings.resolve(keywords, mapping=current_source().read(), require_secret=require_secret)


def setting_text(key: str) -> str:
    """Return one setting as text, unchecked, by its name in the environment; `""` where it is not given."""
    for source in (current_source().read(), os.environ):
        text = str(source.get(key) or "").strip()
        if text:
            return text
    return ""


def misspelt_settings() -> list[str]:
    """Return a line for each name that is no setting, and looks like a misspelt one."""
    try:
        mapping = current_source().read()
    except SettingsError:
        mapping = {}  # the source cannot be read; that is a finding of its own
    return near_misses(os.environ, mapping)
