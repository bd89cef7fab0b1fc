"""The local Mixpanel: ingestion endpoints with the documented rules, and a view of what has arrived.

It also computes which events belong to one person, under each of Mixpanel's three ways to merge IDs.
"""

from __future__ import annotations

from .model import Arrival, Person, Profile, ProfileChange, Rejection, StoredEvent
from .people import IdMerge
from .server import LocalMixpanel
from .store import Store

__all__ = [
    "Arrival",
    "IdMerge",
    "LocalMixpanel",
    "Person",
    "Profile",
    "ProfileChange",
    "Rejection",
    "Store",
    "StoredEvent",
]
