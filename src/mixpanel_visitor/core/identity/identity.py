"""Identity: who the visitor is to Mixpanel, and what log-in and log-out change.

Sources: Mixpanel's "ID management" pages for the Simplified and the Original ID Merge and for the legacy
system. A bare device ID as `distinct_id` would become a user of its own in a Simplified project and could
never be merged, so the anonymous `distinct_id` is always `$device:<device id>`, as the browser SDK sends it.
Only where an old release of that SDK keeps sending the bare ID do we send it as well, to agree with it.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex, TypeAlias, Union

from mixpanel_visitor.quoting import type_name

if TYPE_CHECKING:
    from uuid import UUID

IdMode = Literal["simplified", "original", "legacy", "spid"]
Source = Literal["cookie", "mixpanel", "spid", "spid-signed", "generated", "none"]

AnyId: TypeAlias = Union[str, SupportsIndex, "UUID"]
"""The types that are accepted as an ID: a str, an int of any kind, a UUID."""

DEVICE_PREFIX = "$device:"

NOBODY = ""
"""Mixpanel's distinct ID for an event that belongs to no user ("Server-side events with no user")."""

IDENTIFIED_EVENT = "Visitor identified"
"""The event that joins a device to a user in a Simplified project, if no event of the application does."""

DISALLOWED_IDS = frozenset(
    (
        "00000000-0000-0000-0000-000000000000",
        *("anon", "anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", "<nil>"),
        *("0", "-1", "true", "false", "[]", "{}"),
    )
)
"""IDs that Mixpanel refuses, because bugs send them for many people (reference: import-events)."""

MAX_ID_CHARS = 255
MAX_ID_BITS = 850
"""An int of more bits has more digits than an ID may have."""

_KINDS = "an ID is a str, an int or a UUID, not"
_TRUTH = f"{_KINDS} a bool, one for all people; give what identifies the user, such as user.id"
_FRACTION = f"{_KINDS} a float, which loses digits of long IDs; give the int or str that it was made of"
_NO_IDS = {
    "bool": _TRUTH,
    "bool_": _TRUTH,
    "float": _FRACTION,
    "float32": _FRACTION,
    "float64": _FRACTION,
    "bytes": f"{_KINDS} bytes, which may be in any encoding; decode them: user_id.decode()",
    "NoneType": f"{_KINDS} None; call this for somebody who is known, such as whoever is logged in",
}
"""Why these types are no IDs, by their names."""

_NONE_ID = "none"


class Identity(NamedTuple):
    """One visitor at one moment.

    `uid` is the SPiD visitor's ID, only set where the project counts by it instead of the user: in ID mode
    `spid`, and in `legacy` where SPiD is the first SDK. `unprefixed`: the browser's anonymous distinct ID
    lacks the `$device:`. `vouched`: the device ID was made by us, or SPiD has signed the uid.
    `device_unverified`: the device ID was not in our signed cookie, so no user is joined to it yet.
    """

    device_id: str | None
    user_id: str | None = None
    uid: str | None = None
    unprefixed: bool = False
    source: Source = "none"
    vouched: bool = False
    is_new: bool = False
    device_unverified: bool = False


class MergeEvent(NamedTuple):
    """An event that joins a device's history to a user's: its name, and its identity properties."""

    event: str
    properties: dict[str, object]


class Login(NamedTuple):
    """The result of a log-in: the identity afterwards, and what has to be sent to Mixpanel.

    `merge_events` are to be written now. `merge` is only needed if no other event of the visitor follows in
    this request: in a Simplified project any event that carries device and user joins the two.
    """

    identity: Identity
    merge_events: tuple[MergeEvent, ...] = ()
    merge: MergeEvent | None = None


def distinct_id(mode: IdMode, identity: Identity) -> str:
    """Return the distinct ID by which Mixpanel will count this visitor."""
    known_id = identity.user_id if identity.uid is None and mode != "spid" else identity.uid
    if known_id is not None:
        return known_id
    return anonymous_id(identity.device_id or _NONE_ID, unprefixed=identity.unprefixed)


def anonymous_id(device_id: str, *, unprefixed: bool = False) -> str:
    """Return the distinct ID of a device without a log-in."""
    return device_id if unprefixed else f"{DEVICE_PREFIX}{device_id}"


def identity_properties(mode: IdMode, identity: Identity) -> dict[str, object]:
    """Build the identity properties of an event, by the rules of the project's ID mode."""
    properties: dict[str, object] = {"distinct_id": distinct_id(mode, identity)}
    if mode == "legacy":
        return properties
    if mode == "spid" and identity.uid is not None:
        # What the browser sends after `mixpanel.identify(uid)`, which SPiD asks for, logged in or not.
        properties["$user_id"] = identity.uid
        return properties
    if identity.device_id is not None and not (identity.device_unverified and identity.user_id is not None):
        properties["$device_id"] = identity.device_id
    if mode != "spid" and identity.user_id is not None:
        properties["$user_id"] = identity.user_id
    return properties


def merge_events_between(
    mode: IdMode, user_id: str, device_id: str, *, unprefixed: bool = False
) -> tuple[MergeEvent, ...]:
    """Build the events that join a device's history to a user's.

    In an Original project that is `$identify`. A Simplified project ignores that event, and "at least one
    event after the identify call" has to carry `$device_id` and `$user_id`: so there it is an event like any
    other. A project that counts by SPiD's uid may be either, and is sent both.
    """
    merge_events = []
    if mode in ("original", "spid"):
        properties: dict[str, object] = {
            "distinct_id": user_id,
            "$identified_id": user_id,
            "$anon_id": anonymous_id(device_id, unprefixed=unprefixed),
        }
        merge_events.append(MergeEvent(event="$identify", properties=properties))
    if mode in ("simplified", "spid"):
        properties = {"distinct_id": user_id, "$device_id": device_id, "$user_id": user_id}
        merge_events.append(MergeEvent(event=IDENTIFIED_EVENT, properties=properties))
    return tuple(merge_events)


def alias_properties(mode: IdMode, identity: Identity, alias: str) -> dict[str, object]:
    """Build the properties of the `$create_alias` that a legacy project wants once, at registration."""
    return {"distinct_id": distinct_id(mode, identity), "alias": alias}


def log_in(
    mode: IdMode,
    before: Identity,
    user_id: str,
    *,
    linked: bool,
    fresh_device_id: str | None,
    earlier_id: str | None = None,
) -> Login:
    """Attach a user to the visitor.

    `linked`: Mixpanel already knows this pair of device and user. `fresh_device_id`: the new device ID if
    another user was logged in before; the two histories must not be merged. `earlier_id`: a device ID under
    which we tracked this visit before we knew the browser's.
    """
    after = before._replace(user_id=user_id)
    if mode == "spid":
        return Login(identity=after)  # only SPiD gives and changes the uid, logged in or not
    if fresh_device_id is not None:
        after = with_new_device(after, fresh_device_id)
        linked = False
        earlier_id = None
    if linked or mode == "legacy" or after.device_id is None:
        return Login(identity=after)
    merge_events = () if earlier_id is None else merge_events_between(mode, user_id, earlier_id)
    if after.device_unverified:
        return Login(identity=after, merge_events=merge_events)
    joined = merge_events_between(mode, user_id, after.device_id, unprefixed=after.unprefixed)
    if mode == "original":
        return Login(identity=after, merge_events=(*merge_events, *joined))
    return Login(identity=after, merge_events=merge_events, merge=joined[0])


def log_out(before: Identity, fresh_device_id: str) -> Identity:
    """Forget the user and start a new device, so that the next person is not merged with this one."""
    return with_new_device(before._replace(user_id=None), fresh_device_id)


def with_new_device(identity: Identity, fresh_device_id: str) -> Identity:
    """Return the identity with a fresh device ID; a SPiD uid belongs to the old device and is dropped."""
    return identity._replace(
        device_id=fresh_device_id,
        uid=None,
        unprefixed=False,
        source="generated",
        vouched=True,
        is_new=True,
        device_unverified=False,
    )


def from_any_id(mode: IdMode, any_id: str) -> Identity:
    """Return the identity for an ID: `$device:...` and UUIDs are device IDs, all else is a user's.

    In ID mode `spid` all else is a SPiD uid.
    """
    if any_id.startswith(DEVICE_PREFIX):
        return Identity(device_id=any_id.removeprefix(DEVICE_PREFIX), source="none")
    if is_uuid(any_id):
        return Identity(device_id=any_id, source="none")
    return from_known_ids(mode, device_id=None, user_id=any_id)


def from_known_ids(mode: IdMode, *, device_id: str | None, user_id: str | None) -> Identity:
    """Return the identity for IDs that the caller knows; in ID mode `spid` the user ID is the uid."""
    if mode == "spid":
        return Identity(device_id=device_id, uid=user_id)
    return Identity(device_id=device_id, user_id=user_id)


def is_uuid(value: str) -> bool:
    """Return whether a string has the shape of the device IDs that the SDK and we make: 8-4-4-4-12 hex."""
    parts = value.split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and all(
        character in "0123456789abcdefABCDEF" for part in parts for character in part
    )


def read_id(value: object) -> tuple[str, str | None]:
    """Return an ID as text, and why Mixpanel would refuse it; None: it is fine.

    A str is returned as it is; an int (anything that `operator.index` accepts: numpy's, an IntEnum) and a
    UUID as their text. All else is refused, each type with its own reason.
    """
    kind = type(value)
    text = value if kind is str else _id_text(value, kind)
    if isinstance(text, str):
        return text, id_refusal(text)
    return "", _NO_IDS.get(kind.__name__) or (
        f"{_KINDS} a {type_name(kind)}; give what identifies the user, such as user.id, or its str(...)"
    )


def _id_text(value: Any, kind: Any) -> str | None:
    if issubclass(kind, str):
        return str.__str__(value)
    if any((base.__module__, base.__name__) == ("uuid", "UUID") for base in kind.__mro__):
        return str(value)
    if kind.__name__ in _NO_IDS or not hasattr(kind, "__index__"):
        return None
    try:
        integer = operator.index(value)
    except Exception:  # numpy's arrays only look like numbers
        return None
    return str(integer) if integer.bit_length() <= MAX_ID_BITS else "9" * (MAX_ID_CHARS + 1)


def id_refusal(any_id: object) -> str | None:
    """Return why Mixpanel would refuse this as an ID; None: it is fine."""
    if not isinstance(any_id, str):
        return f"an ID must be a str, not {type(any_id).__name__}; use str(...)"
    unprefixed = any_id.removeprefix(DEVICE_PREFIX).strip()
    if not unprefixed:
        return "an ID must not be empty"
    if unprefixed.lower() in DISALLOWED_IDS:
        return f"Mixpanel refuses {any_id!r} as an ID, because bugs send it for many people"
    if len(any_id) > MAX_ID_CHARS:
        return f"an ID may have {MAX_ID_CHARS} characters, this one has {len(any_id)}"
    if not any_id.isascii() and any("\ud800" <= character <= "\udfff" for character in any_id):
        return "an ID must be valid Unicode, this one holds a lone surrogate"
    return None
