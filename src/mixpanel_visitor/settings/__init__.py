"""Everything that can be configured, from keywords, a mapping (Flask's config) or the environment.

`settings` is the table of settings, `sources` reads their values, `parsers` and its neighbours check each of
them, `validation` checks them together. All mistakes are raised at once, as one `SettingsError`.
"""

from .service_account import ServiceAccount as ServiceAccount
from .settings import Settings as Settings

__all__ = ["ServiceAccount", "Settings"]
