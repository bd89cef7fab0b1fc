"""Everything that can be configured, from keywords, a mapping (Flask's config) or the environment.

`model` is the table of settings, `sources` finds their values, `parsers` and its neighbours check them. All
mistakes are found at once and raised as one `SettingsError`.
"""

from .model import Settings as Settings
from .service_account import ServiceAccount as ServiceAccount

__all__ = ["ServiceAccount", "Settings"]
