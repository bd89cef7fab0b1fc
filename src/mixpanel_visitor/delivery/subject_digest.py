"""Subject digests: the IDs in a record, hashed, for people who opt out while their records wait.

Pure. Spools remember these digests, and no ID of a person who has opted out.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEVICE_PREFIX = "$device:"
_ID_PROPERTIES = ("distinct_id", "$device_id", "$user_id", "$distinct_id", "$anon_id", "$identified_id")


def digests(ids: Iterable[str]) -> set[str]:
    """Return the digests of IDs, 32 hex digits each; a device's is the same with and without `$device:`."""
    return {_digest(each) for each in ids if each}


def owners(body: bytes) -> set[str]:
    """Return the digests of all IDs in a record; none where it cannot be read."""
    try:
        message: Any = orjson.loads(body)
    except ValueError:
        return set()
    ids = set()
    for part in (message, message.get("properties")) if isinstance(message, dict) else ():
        if isinstance(part, dict):
            ids |= {value for name in _ID_PROPERTIES if isinstance(value := part.get(name), str)}
    return digests(ids)


def _digest(subject_id: str) -> str:
    return hashlib.blake2b(subject_id.removeprefix(_DEVICE_PREFIX).encode(), digest_size=16).hexdigest()
