"""Records of events and profile updates: the rules for names, IDs and sizes.

Limits are those of the reference ("Import Events"): a name, fewer than 255 properties, three levels of
nesting, lists of fewer than 255 items, and for people and groups the operations of `/engage` and `/groups`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter, length_hint
from typing import TYPE_CHECKING, Any, NamedTuple

from mixpanel_visitor.core.identity.identity import DISALLOWED_IDS, id_refusal, identity_properties, read_id
from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import quoted, type_name
from mixpanel_visitor.records import Record

from .encoding import checked_size, converted, encode_part, encode_text, encoded, plain_value, written
from .values import (
    MAX_PROFILE_PROPERTY_BYTES,
    MAX_RECORD_BYTES,
    PROFILE,
    ignore_stringified,
    nested_too_large,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpanel_visitor.core.identity.identity import Identity, IdMode
    from mixpanel_visitor.records import Endpoint

    from .encoding import EncodedPart
    from .values import OnStringified

MAX_NAME_CHARS = 255
MAX_PROPERTIES = 255

_ID_PROPERTIES = (
    "distinct_id", "$device_id", "$user_id", "alias", "$identified_id", "$anon_id", "$anon_distinct_id",
)  # fmt: skip

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

_INSERT_ID = re.compile(r"[A-Za-z0-9-]{1,36}")


def event_record(
    event: Mapping[str, Any], *, on_stringified: OnStringified = ignore_stringified, is_plain: bool = False
) -> Record:
    """Return the record of a whole event, `{"event": name, "properties": {...}}`, in its final bytes.

    `is_plain`: its properties are converted already. `on_stringified` is called for values that become
    their text.
    """
    name: Any = event.get("event")
    properties = event.get("properties")
    _check_name(name)
    if not isinstance(properties, Mapping):
        raise InvalidEventError(
            "bad_properties", f"properties must be a dict, not {type_name(type(properties))}"
        )
    with_ids = _with_ids(properties)
    plain = with_ids if is_plain else converted(with_ids, on_stringified)
    _check_size(plain)
    insert_id = plain.get("$insert_id")
    if (
        not isinstance(insert_id, str)
        or not _INSERT_ID.fullmatch(insert_id)
        or insert_id.lower() in DISALLOWED_IDS
    ):
        raise InvalidEventError(
            "bad_insert_id", f"$insert_id must be 1 to 36 of A-Z a-z 0-9 and '-', not {quoted(insert_id)}"
        )
    if name not in IDENTITY_EVENTS:
        _, reason = read_id(with_ids.get("distinct_id"))
        if reason is not None:
            raise InvalidEventError("banned_id", reason)
    return Record(
        "import", written({**event, "event": str.__str__(name), "properties": plain}, on_stringified)
    )


def _with_ids(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the properties with those IDs as texts that are numbers or UUIDs."""
    changed: dict[str, Any] = {}
    for name in _ID_PROPERTIES:
        any_id = properties.get(name)
        if any_id is not None and type(any_id) is not str:
            text, reason = read_id(any_id)
            if reason is None:
                changed[name] = text
    merged_ids = properties.get("$distinct_ids")
    if isinstance(merged_ids, (list, tuple)):
        changed["$distinct_ids"] = [
            any_id if reason else text for any_id in merged_ids for text, reason in [read_id(any_id)]
        ]
    return {**properties, **changed} if changed else properties


class EncodedCommon(NamedTuple):
    """What all events of one visitor in one request have in common, joined once.

    `reserved_names`: an event whose own properties use one of these is not built from this;
    `middle` is the JSON between the event's name and its time.
    """

    identity: object
    reserved_names: frozenset[str]
    property_count: int
    middle: bytes


_names_of, _body_of = attrgetter("names"), attrgetter("body")


def join_parts(identity: object, parts: Sequence[EncodedPart]) -> EncodedCommon | None:
    """Return these parts joined; None: two of them have a property of the same name."""
    reserved_names, property_count = _reserved_names(*map(_names_of, parts))
    if property_count is None:
        return None
    middle = b',"properties":{%b,"time":' % b",".join(filter(None, map(_body_of, parts)))
    return EncodedCommon(identity, reserved_names, property_count, middle)


@lru_cache(1024)
def _reserved_names(*parts: tuple[str, ...]) -> tuple[frozenset[str], int | None]:
    """Return the names in these parts, and the number of properties; None: one name is used twice."""
    names = [name for part in parts for name in part]
    used = frozenset(names)
    count = len(names) + 2 if len(used) == len(names) else None
    return used.union(IDENTITY_PROPERTIES, ("time", "$insert_id")), count


@lru_cache(4096)
def encoded_identity(mode: IdMode, identity: Identity) -> EncodedPart | None:
    """Return the identity properties of an event; None: Mixpanel would refuse the ID."""
    properties = identity_properties(mode, identity)
    return None if id_refusal(properties["distinct_id"]) is not None else encoded(properties)


def record_with_common(
    name: str,
    properties: Mapping[str, Any],
    common: EncodedCommon,
    time_ms: int,
    insert_id: str,
    on_stringified: OnStringified = ignore_stringified,
) -> Record:
    """Return the record of an event whose plain `properties` use no reserved name, and are not too long."""
    encoded_name = _encoded_name(name) if type(name) is str else _checked_name(name)
    count = len(properties) + common.property_count
    if count >= MAX_PROPERTIES:
        raise _too_many(count)
    middle = common.middle
    if properties:
        own = encode_part(properties, on_stringified)
        body = b'{"event":%b%b%d,"$insert_id":"%b",%b}}' % (
            encoded_name,
            middle,
            time_ms,
            insert_id.encode(),
            own,
        )
    else:
        body = b'{"event":%b%b%d,"$insert_id":"%b"}}' % (encoded_name, middle, time_ms, insert_id.encode())
    return Record("import", checked_size(body))


def _checked_name(name: str) -> bytes:
    _check_name(name)
    return encode_text(name)


_encoded_name = lru_cache(1024)(_checked_name)  # most events have one of a few names


def profile_record(
    endpoint: Endpoint,
    update: Mapping[str, Any],
    *,
    on_stringified: OnStringified = ignore_stringified,
    clean: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda plain: plain,
) -> Record:
    """Return the record of a people or group update, `{"$distinct_id": ..., "$set": {...}}`.

    `clean` takes the converted properties, and returns them without secrets.
    """
    operations = [name for name in PROFILE_OPERATIONS if name in update]
    if len(operations) != 1:
        raise InvalidEventError(
            "bad_update",
            f"an update holds exactly one of {', '.join(PROFILE_OPERATIONS)}, not {operations or 'none'}",
        )
    operation = operations[0]
    updated = dict(update)
    if endpoint == "engage":
        updated["$distinct_id"], reason = read_id(update.get("$distinct_id"))
        if reason is not None:
            raise InvalidEventError("banned_id", reason)
    _check_kind(operation, update[operation])
    plain = {
        name: clean(converted(value, on_stringified, limits=PROFILE))
        if name == operation and isinstance(value, Mapping)
        else plain_value(value, on_stringified, name=name)
        for name, value in updated.items()
    }
    if endpoint == "groups":
        _check_group(plain)
    _check_operand(operation, plain[operation])
    body = written(plain, on_stringified)
    if len(body) > MAX_PROFILE_PROPERTY_BYTES:
        _check_nested(plain[operation])
    return Record(endpoint, body)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise InvalidEventError(
            "bad_name",
            f"the event's name must be a str, not {type_name(type(name))}: track('Signed up', ...); for "
            "classes of a tracking plan the tracker needs the setting plan=",
        )
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise InvalidEventError(
            "bad_name",
            f"the event's name must have 1 to {MAX_NAME_CHARS} characters, this one has {len(name)}",
        )


def _check_size(properties: Mapping[str, Any]) -> None:
    """Refuse too many properties, or too long ones, before they are written."""
    if len(properties) >= MAX_PROPERTIES:
        raise _too_many(len(properties))
    # The length of texts; 0 for values without a length.
    if sum(map(length_hint, properties.values())) >= MAX_RECORD_BYTES:
        raise InvalidEventError(
            "too_large",
            f"its texts have more than {MAX_RECORD_BYTES:,} characters, and Mixpanel takes less; send "
            "fewer or shorter properties",
        )


def _too_many(count: int) -> InvalidEventError:
    return InvalidEventError(
        "too_many_properties",
        f"it has {count} properties and Mixpanel takes fewer than {MAX_PROPERTIES}",
    )


def _check_group(update: Mapping[str, Any]) -> None:
    key, group_id = update.get("$group_key"), update.get("$group_id")
    if not (isinstance(key, str) and key):
        raise InvalidEventError("bad_update", "a group update needs a group key, such as 'company'")
    # A number stays one: the browser SDK sends it so, and Mixpanel compares it with the events' value.
    if isinstance(group_id, bool) or not isinstance(group_id, (str, int, float)) or group_id == "":
        raise InvalidEventError(
            "bad_update", f"a group update needs the group's ID, such as 'Acme', not {quoted(group_id)}"
        )


def _check_nested(operand: Any) -> None:
    """Refuse a list or object that is too large in JSON, because of long numbers or escapes."""
    for name, value in operand.items() if type(operand) is dict else ():
        if type(value) in (list, dict) and len(written(value)) > MAX_PROFILE_PROPERTY_BYTES:
            raise InvalidEventError("too_large", nested_too_large(name))


def _check_kind(operation: str, operand: Any) -> None:
    if operation == "$delete":
        return
    if operation == "$unset":
        if not isinstance(operand, (list, tuple)) or not all(isinstance(name, str) for name in operand):
            raise InvalidEventError("bad_update", "$unset takes a list of property names")
    elif not isinstance(operand, Mapping):
        raise InvalidEventError(
            "bad_update", f"{operation} takes a dict of properties, not {type_name(type(operand))}"
        )


def _check_operand(operation: str, operand: Any) -> None:
    if operation == "$add":
        for key, value in operand.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InvalidEventError("bad_update", f"$add needs numbers, {quoted(key)} is {quoted(value)}")
    if operation == "$union":
        for key, value in operand.items():
            if not isinstance(value, list):
                raise InvalidEventError("bad_update", f"$union needs lists, {quoted(key)} is {quoted(value)}")
