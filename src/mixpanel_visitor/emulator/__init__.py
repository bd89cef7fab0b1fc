"""The local Mixpanel: its ingestion endpoints with the documented rules, and what has arrived, to look at."""

from __future__ import annotations

from .arrivals import Arrival, Profile, ProfileChange, Rejection, StoredEvent
from .server import LocalMixpanel
from .store import Store

__all__ = ["Arrival", "LocalMixpanel", "Profile", "ProfileChange", "Rejection", "Store", "StoredEvent"]
