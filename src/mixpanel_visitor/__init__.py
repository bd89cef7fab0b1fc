"""One visitor ID for browser and backend, and events that reach Mixpanel.

Wrap an application with `mixpanel_visitor.asgi.VisitorMiddleware`, `mixpanel_visitor.wsgi.VisitorMiddleware`
or a framework's door (`mixpanel_visitor.starlette`, `mixpanel_visitor.flask`). Not affiliated with Mixpanel.

A name is imported when it is first asked for (PEP 562): who tracks with `current_visitor` in a module of
models does not pay for what delivers, nor does a test run for the pytest plugin.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.request import JobFacts as JobFacts
    from .core.request import RequestFacts as RequestFacts
    from .errors import InvalidEventError as InvalidEventError
    from .errors import MissingExtraError as MissingExtraError
    from .errors import MixpanelVisitorError as MixpanelVisitorError
    from .errors import NoRequestError as NoRequestError
    from .errors import NoVisitorError as NoVisitorError
    from .errors import SettingsError as SettingsError
    from .errors import SpoolError as SpoolError
    from .errors import SpoolFullError as SpoolFullError
    from .errors import SpoolUnavailableError as SpoolUnavailableError
    from .sdk import SpoolConsumer as SpoolConsumer
    from .settings import ServiceAccount as ServiceAccount
    from .settings import Settings as Settings
    from .settings.keywords import SettingsKeywords as SettingsKeywords
    from .tracking.context import current_visitor as current_visitor
    from .tracking.context import keep_visitor as keep_visitor
    from .tracking.offline_visitor import OfflineVisitor as OfflineVisitor
    from .tracking.stats import Stats as Stats
    from .tracking.tracker import Tracker as Tracker
    from .tracking.visitor import Visitor as Visitor

__all__ = [
    "InvalidEventError",
    "JobFacts",
    "MissingExtraError",
    "MixpanelVisitorError",
    "NoRequestError",
    "NoVisitorError",
    "OfflineVisitor",
    "RequestFacts",
    "ServiceAccount",
    "Settings",
    "SettingsError",
    "SettingsKeywords",
    "SpoolConsumer",
    "SpoolError",
    "SpoolFullError",
    "SpoolUnavailableError",
    "Stats",
    "Tracker",
    "Visitor",
    "current_visitor",
    "keep_visitor",
]

_MODULES = {
    "JobFacts": "core.request",
    "OfflineVisitor": "tracking.offline_visitor",
    "RequestFacts": "core.request",
    "ServiceAccount": "settings",
    "Settings": "settings",
    "SettingsKeywords": "settings.keywords",
    "SpoolConsumer": "sdk",
    "Stats": "tracking.stats",
    "Tracker": "tracking.tracker",
    "Visitor": "tracking.visitor",
    "current_visitor": "tracking.context",
    "keep_visitor": "tracking.context",
}

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415

        value = getattr(import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
