"""Events and profile updates in Mixpanel's shape: reserved names, limits, stamps.

Limits are those of the reference ("Import Events"): a name, fewer than 255 properties, three levels of
nesting, lists of fewer than 255 items, and for people and groups the operations of `/engage` and `/groups`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import quoted
from mixpanel_visitor.records import Record

from .encoding import checked_size, encode, encode_part, encode_text
from .identity import DISALLOWED_IDS, refusal
from .scrubbing import FLAT_TYPES as _FLAT

if TYPE_CHECKING:
    from mixpanel_visitor.records import Endpoint

MAX_NAME_CHARS = 255
MAX_PROPERTIES = 255
MAX_DEPTH = 3
MAX_LIST_ITEMS = 255
EARLIEST_TIME_MS = 31_536_000_000
"""Mixpanel takes times from 1971 on."""

IDENTITY_PROPERTIES = ("distinct_id", "$device_id", "$user_id", "token")
IDENTITY_EVENTS = ("$identify", "$create_alias", "$merge")

PROFILE_OPERATIONS = (
    "$set",
    "$set_once",
    "$add",
    "$append",
    "$union",
    "$remove",
    "$unset",
    "$delete",
)

_STR = frozenset((str,))
_INSERT_ID = re.compile(r"[A-Za-z0-9-]{1,36}")
_SECONDS_BELOW = 100_000_000_000  # as milliseconds this is 1973; as seconds it is the year 5138


def event_record(event: Mapping[str, Any]) -> Record:
    """Check a whole event, `{"event": name, "properties": {...}}`, and give it its final bytes."""
    name = event.get("event")
    properties = event.get("properties")
    _check_name(name)
    if not isinstance(properties, dict):
        raise InvalidEventError(
            "bad_properties", f"properties must be a dict, not {type(properties).__name__}"
        )
    _check_properties(properties)
    insert_id = properties.get("$insert_id")
    if (
        not isinstance(insert_id, str)
        or not _INSERT_ID.fullmatch(insert_id)
        or insert_id.lower() in DISALLOWED_IDS
    ):
        raise InvalidEventError(
            "bad_insert_id", f"$insert_id must be 1 to 36 of A-Z a-z 0-9 and '-', not {quoted(insert_id)}"
        )
    if name not in IDENTITY_EVENTS:
        why = refusal(properties.get("distinct_id"))
        if why is not None:
            raise InvalidEventError("banned_id", why)
    return Record("import", encode(event))


class Stamps(NamedTuple):
    """What all events of one visitor in one request have in common, encoded once.

    `taken` are the names that an event of its own words must not use, or it is made in the long way;
    `middle` is what stands between the event's name and its time.
    """

    identity: object
    taken: frozenset[str]
    number: int
    middle: bytes


def common_stamps(identity: object, properties: Mapping[str, Any], *, ours: bool) -> Stamps | None:
    """Make the stamps of these properties; None where each event has to be checked by itself.

    `ours`: all of them are of our own making, and fit.
    """
    if refusal(properties.get("distinct_id")) is not None:
        return None
    if not ours:
        _check_properties(properties)
    middle = b',"properties":{%b,"time":' % encode_part(properties)
    return Stamps(identity, _taken(tuple(properties)), len(properties) + 2, middle)


@lru_cache(256)
def _taken(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset((*names, *IDENTITY_PROPERTIES, "time", "$insert_id"))


def stamped_record(
    name: str, properties: Mapping[str, Any], stamps: Stamps, *, plain: bool, time_ms: int, insert_id: str
) -> Record:
    """Make the record of an event whose `properties` use none of the names that are taken.

    `plain`: their names are known to be strings, and their values to hold no others.
    """
    encoded_name = _encoded_name(name) if type(name) is str else _checked_name(name)
    if not plain or len(properties) + stamps.number >= MAX_PROPERTIES:
        _check_properties(properties, more=stamps.number)
    head = encoded_name, stamps.middle, time_ms, insert_id.encode()
    if properties:
        body = b'{"event":%b%b%d,"$insert_id":"%b",%b}}' % (*head, encode_part(properties))
    else:
        body = b'{"event":%b%b%d,"$insert_id":"%b"}}' % head
    return Record("import", checked_size(body))


def _checked_name(name: str) -> bytes:
    _check_name(name)
    return encode_text(name)


_encoded_name = lru_cache(1024)(_checked_name)  # of the same few names most events are


def profile_record(endpoint: Endpoint, update: Mapping[str, Any]) -> Record:
    """Check a people or group update, `{"$distinct_id": ..., "$set": {...}}`, and give it its final bytes."""
    operations = [name for name in PROFILE_OPERATIONS if name in update]
    if len(operations) != 1:
        raise InvalidEventError(
            "bad_update",
            f"an update holds exactly one of {', '.join(PROFILE_OPERATIONS)}, not {operations or 'none'}",
        )
    if endpoint == "engage":
        why = refusal(update.get("$distinct_id"))
        if why is not None:
            raise InvalidEventError("banned_id", why)
    elif not (isinstance(update.get("$group_key"), str) and update.get("$group_key")):
        raise InvalidEventError("bad_update", "a group update needs a group key, such as 'company'")
    elif update.get("$group_id") in (None, ""):
        raise InvalidEventError("bad_update", "a group update needs the group's ID, such as 'Acme'")
    _check_operand(operations[0], update[operations[0]])
    return Record(endpoint, encode(update))


def time_ms(value: Any) -> int:
    """Give a caller's `time` as integer milliseconds since the epoch; takes seconds and datetimes too."""
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=dt.UTC)
        milliseconds: int = round(value.timestamp() * 1000)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53:
        milliseconds = round(value * 1000) if abs(value) < _SECONDS_BELOW else round(value)
    else:
        raise InvalidEventError(
            "bad_time",
            f"time must be seconds or milliseconds since 1970, or a datetime, not {quoted(value)}",
        )
    if milliseconds < EARLIEST_TIME_MS:
        raise InvalidEventError("bad_time", f"time must be after 1971, {quoted(value)} is not")
    return milliseconds


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise InvalidEventError(
            "bad_name",
            f"the event's name must be a str, not {type(name).__name__}: track('Signed up', ...); for "
            "classes of a tracking plan the tracker needs the setting plan=",
        )
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise InvalidEventError(
            "bad_name",
            f"the event's name must have 1 to {MAX_NAME_CHARS} characters, this one has {len(name)}",
        )


def _check_properties(properties: Mapping[str, Any], *, more: int = 0) -> None:
    if len(properties) + more >= MAX_PROPERTIES:
        raise InvalidEventError(
            "too_many_properties",
            f"it has {len(properties) + more} properties and Mixpanel takes fewer than {MAX_PROPERTIES}",
        )
    if _STR.issuperset(map(type, properties)) and _FLAT.issuperset(map(type, properties.values())):
        return
    for key, value in properties.items():
        if type(key) is not str and not isinstance(key, str):
            raise InvalidEventError("bad_properties", f"property names are strings, not {quoted(key)}")
        if type(value) not in _FLAT and isinstance(value, (dict, list, tuple)):
            _check_nested(key, value, 1)


def _check_nested(key: str, value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidEventError(
            "too_deep", f"property {quoted(key)} is nested more than {MAX_DEPTH} levels deep; flatten it"
        )
    if isinstance(value, dict):
        if len(value) >= MAX_PROPERTIES:
            raise InvalidEventError("too_large", f"property {quoted(key)} has {len(value)} keys")
        items: Any = value.values()
    else:
        if len(value) >= MAX_LIST_ITEMS:
            raise InvalidEventError(
                "too_large",
                f"property {quoted(key)} is a list of {len(value)} items, Mixpanel takes fewer than 255",
            )
        items = value
    for item in items:
        if isinstance(item, (dict, list, tuple)):
            _check_nested(key, item, depth + 1)


def _check_operand(operation: str, operand: Any) -> None:
    if operation == "$delete":
        return
    if operation == "$unset":
        if not isinstance(operand, (list, tuple)) or not all(isinstance(name, str) for name in operand):
            raise InvalidEventError("bad_update", "$unset takes a list of property names")
        return
    if not isinstance(operand, Mapping):
        raise InvalidEventError(
            "bad_update", f"{operation} takes a dict of properties, not {type(operand).__name__}"
        )
    if not all(isinstance(name, str) for name in operand):
        raise InvalidEventError("bad_update", f"{operation}: property names are strings")
    if operation == "$add":
        for key, value in operand.items():
            if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
                raise InvalidEventError("bad_update", f"$add needs numbers, {quoted(key)} is {quoted(value)}")
    if operation == "$union":
        for key, value in operand.items():
            if not isinstance(value, (list, tuple, set, frozenset)):
                raise InvalidEventError("bad_update", f"$union needs lists, {quoted(key)} is {quoted(value)}")
