"""The application's own settings, where they are given in code and not in the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from mixpanel_visitor.cli.import_object import ImportSpec, load
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS = "mixpanel_visitor."

EXTENSION = "mixpanel_visitor"
"""Where the Flask extension keeps its tracker."""


def settings_of_application(target: str) -> Settings:
    """Import the application named by `target`; return its settings. Raise `SettingsError` as it would.

    It may be a Tracker, an application wrapped with the middleware, a Flask application with the extension,
    or a Starlette one with the middleware added.
    """
    spec = ImportSpec(
        "app",
        "shop.main:app",
        "application with the middleware, and no Tracker",
        lambda candidate: _find(candidate) is not None,
        alternatives=("application", "create_app()", "make_app()"),
    )
    try:
        source = _find(load(target, spec))
    except click.ClickException as error:
        if isinstance(error.__cause__, SettingsError):
            raise error.__cause__ from error
        raise
    if isinstance(source, Tracker):
        return source.settings
    assert source is not None
    return Settings.resolve(source)


def _find(candidate: object) -> Tracker | Mapping[str, object] | None:
    """Return an object's tracker, or the keywords from which a Starlette application makes one; else None."""
    extensions = getattr(candidate, "extensions", None)
    candidates = [candidate, getattr(candidate, "tracker", None)]
    candidates += [extensions.get(EXTENSION)] if isinstance(extensions, dict) else []
    tracker = next((each for each in candidates if isinstance(each, Tracker)), None)
    added = getattr(candidate, "user_middleware", None)
    if tracker is not None or not isinstance(added, list):
        return tracker
    for middleware in added:
        middleware_class = getattr(middleware, "cls", None)
        if isinstance(middleware_class, type) and any(
            base.__module__.startswith(_OURS) for base in middleware_class.__mro__
        ):
            keywords = dict(cast("dict[str, object]", middleware.kwargs))
            shared = keywords.pop("tracker", None)
            return shared if isinstance(shared, Tracker) else keywords
    return None
