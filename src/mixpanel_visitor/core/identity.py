"""Identity: who the visitor is to Mixpanel, and what log-in and log-out change.

Sources: Mixpanel's "ID management" pages for the Simplified and the Original ID Merge and for the legacy
system. A bare device ID as `distinct_id` would become a user of its own in a Simplified project and could
never be merged, so the anonymous `distinct_id` is always `$device:<device id>`, as the browser SDK sends it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

IdMode = Literal["simplified", "original", "legacy", "spid"]
Source = Literal["cookie", "mixpanel", "spid", "spid-signed", "generated", "none"]

DEVICE_PREFIX = "$device:"

DISALLOWED_IDS = frozenset(
    (
        "00000000-0000-0000-0000-000000000000",
        *("anon", "anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", "<nil>"),
        *("0", "-1", "true", "false", "[]", "{}"),
    )
)
"""IDs that Mixpanel refuses, because bugs send them for many people (reference: import-events)."""

MAX_ID_CHARS = 255

_NONE_ID = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One visitor at one moment. `vouched`: the device ID was made or confirmed by us on this host."""

    device_id: str | None
    user_id: str | None = None
    source: Source = "none"
    vouched: bool = False
    is_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a log-in comes to: the identity afterwards, and the identity event to send, if any."""

    identity: Identity
    event: str | None
    properties: dict[str, object]


def distinct_id(identity: Identity) -> str:
    """Give exactly what Mixpanel will count this visitor by."""
    if identity.user_id is not None:
        return identity.user_id
    return f"{DEVICE_PREFIX}{identity.device_id or _NONE_ID}"


def identity_properties(mode: IdMode, identity: Identity) -> dict[str, object]:
    """Build the identity properties of an event, by the rules of the project's ID mode."""
    counted_by = distinct_id(identity)
    if mode == "legacy":
        return {"distinct_id": counted_by}
    if mode == "spid" and identity.user_id is not None:
        return {"distinct_id": counted_by, "$user_id": counted_by}
    properties: dict[str, object] = {"distinct_id": counted_by}
    if identity.device_id is not None:
        properties["$device_id"] = identity.device_id
    if identity.user_id is not None:
        properties["$user_id"] = identity.user_id
    return properties


def log_in(
    mode: IdMode, before: Identity, user_id: str, *, linked: bool, fresh_device_id: str | None
) -> Login:
    """Attach a user to the visitor.

    `linked`: this pair of device and user has been told to Mixpanel already. `fresh_device_id`: the new
    device ID where another user was here before; the two histories must not be merged.
    """
    after = replace(before, user_id=user_id)
    if fresh_device_id is not None:
        after = replace(after, device_id=fresh_device_id, source="generated", vouched=True, is_new=True)
        linked = False
    event: str | None = None
    properties: dict[str, object] = {}
    if mode == "original" and not linked and after.device_id is not None:
        event = "$identify"
        properties = {
            "distinct_id": user_id,
            "$identified_id": user_id,
            "$anon_id": f"{DEVICE_PREFIX}{after.device_id}",
        }
    return Login(identity=after, event=event, properties=properties)


def log_out(before: Identity, fresh_device_id: str) -> Identity:
    """Forget the user and start a new device, so that the next person is not merged with this one."""
    return replace(
        before,
        user_id=None,
        device_id=fresh_device_id,
        source="generated",
        vouched=True,
        is_new=True,
    )


def from_any_id(any_id: str) -> Identity:
    """Read an ID outside of a request: `$device:...` and UUIDs are device IDs, all else is a user's."""
    if any_id.startswith(DEVICE_PREFIX):
        return Identity(device_id=any_id.removeprefix(DEVICE_PREFIX), source="none")
    if is_uuid(any_id):
        return Identity(device_id=any_id, source="none")
    return Identity(device_id=None, user_id=any_id, source="none")


def is_uuid(value: str) -> bool:
    """Tell whether a string has the shape of the device IDs that the SDK and we make: 8-4-4-4-12 hex."""
    parts = value.split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and all(
        character in "0123456789abcdefABCDEF" for part in parts for character in part
    )


def refusal(any_id: object) -> str | None:
    """Say why Mixpanel would refuse this as an ID; None: it is fine."""
    if not isinstance(any_id, str):
        return f"an ID must be a str, not {type(any_id).__name__}; use str(...)"
    bare = any_id.removeprefix(DEVICE_PREFIX).strip()
    if not bare:
        return "an ID must not be empty"
    if bare.lower() in DISALLOWED_IDS:
        return f"Mixpanel refuses {any_id!r} as an ID, because bugs send it for many people"
    if len(any_id) > MAX_ID_CHARS:
        return f"an ID may have {MAX_ID_CHARS} characters, this one has {len(any_id)}"
    if not any_id.isascii() and any("\ud800" <= character <= "\udfff" for character in any_id):
        return "an ID must be valid Unicode, this one holds a lone surrogate"
    return None
