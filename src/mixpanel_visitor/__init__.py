"""One visitor ID for browser and backend, and events that reach Mixpanel.

Wrap an application with `mixpanel_visitor.asgi.VisitorMiddleware`, `mixpanel_visitor.wsgi.VisitorMiddleware`
or a framework's door (`mixpanel_visitor.starlette`, `mixpanel_visitor.flask`). Not affiliated with Mixpanel.
"""

from .context import current_visitor as current_visitor
from .errors import InvalidEventError as InvalidEventError
from .errors import MissingExtraError as MissingExtraError
from .errors import MixpanelVisitorError as MixpanelVisitorError
from .errors import NoVisitorError as NoVisitorError
from .errors import SettingsError as SettingsError
from .errors import SpoolError as SpoolError
from .errors import SpoolFullError as SpoolFullError
from .errors import SpoolUnavailableError as SpoolUnavailableError
from .settings import Settings as Settings
from .tracker import Tracker as Tracker
from .visitor import Visitor as Visitor

__all__ = [
    "InvalidEventError",
    "MissingExtraError",
    "MixpanelVisitorError",
    "NoVisitorError",
    "Settings",
    "SettingsError",
    "SpoolError",
    "SpoolFullError",
    "SpoolUnavailableError",
    "Tracker",
    "Visitor",
    "current_visitor",
]
