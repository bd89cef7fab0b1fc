"""Everything that can be configured, from keywords, a mapping (Flask's config) or the environment.

`model` is the table of settings, `sources` finds their values, `parsers` and its neighbours check them. All
mistakes are found at once and raised as one `SettingsError`.
"""

from .service_account import ServiceAccount as ServiceAccount
from .settings import Settings as Settings

__all__ = ["ServiceAccount", "Settings"]
