"""Subject digests: the IDs in a record, hashed, for people who opt out while records of theirs wait.

Pure. What is remembered of such a person is no ID but its digest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEVICE_PREFIX = "$device:"
_NAMES = ("distinct_id", "$device_id", "$user_id", "$distinct_id", "$anon_id", "$identified_id")


def digests(ids: Iterable[str]) -> set[str]:
    """Return the digests of IDs, 32 hex digits each; a device's is the same with and without `$device:`."""
    return {_digest(each) for each in ids if each}


def owners(body: bytes) -> set[str]:
    """Return the digests of all IDs in a record; none for what cannot be read."""
    try:
        message: Any = orjson.loads(body)
    except ValueError:
        return set()
    ids_found = set()
    for part in (message, message.get("properties")) if isinstance(message, dict) else ():
        if isinstance(part, dict):
            ids_found |= {value for name in _NAMES if isinstance(value := part.get(name), str)}
    return digests(ids_found)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.removeprefix(_DEVICE_PREFIX).encode(), digest_size=16).hexdigest()
