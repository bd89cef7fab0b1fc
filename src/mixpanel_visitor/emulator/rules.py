"""Rules: Mixpanel's documented rules for one event.

Pure: objects in, the accepted event or a Problem out; the clock is an argument. They are written from
Mixpanel's reference and not shared with `core.events`: a mistake in a shared rule would be in the sender
and in its judge at once, and no test could see it.

Sources: "Import Events", "Track Events", "Create Identity", "Create Alias" and "Merge Identities" of
Mixpanel's reference, with its OpenAPI files. Where they are silent the stricter reading is taken: what
passes here passes there. One known departure from the files: `/track` takes fractions of a second, as the
official library and the browser SDK send them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import orjson

EventEndpoint = Literal["import", "track"]

MAX_RECORDS = 2_000
MAX_RECORD_BYTES = 1024 * 1024
MAX_KEYS = 255
MAX_ITEMS = 255
MAX_DEPTH = 3
MAX_NAME_CHARS = 255
EARLIEST_MS = 31_536_000_000
AHEAD_MS = 3_600_000
TRACK_AGE_MS = 5 * 86_400_000

BANNED_IDS = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "anon",
        "anonymous",
        "nil",
        "none",
        "null",
        "n/a",
        "na",
        "undefined",
        "unknown",
        "<nil>",
        "0",
        "-1",
        "true",
        "false",
        "[]",
        "{}",
    }
)
"""The reference lists them in lower case; here "None" and "NULL" are refused as well."""

IDENTITY_EVENTS = frozenset({"$identify", "$create_alias", "$merge"})

_INSERT_ID = re.compile(r"[A-Za-z0-9-]{1,36}")
_MILLISECONDS_FROM = 100_000_000_000  # as milliseconds this is 1973; as seconds it is the year 5138
_IMPORT_REQUIRES = ("time", "distinct_id", "$insert_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a record is refused: the `field` at fault and a `message` in Mixpanel's manner."""

    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An accepted event.

    `properties` are JSON with sorted keys, so that equal properties are equal bytes. `insert_id` is None
    where the event has none, which only `/track` allows: such an event is never a duplicate.
    """

    name: str
    time_ms: int
    distinct_id: str
    insert_id: str | None
    properties: bytes


def check_event(item: Any, *, endpoint: EventEndpoint, now_ms: int) -> Event | Problem:
    """Check one event of a request to `/import` or `/track`; `now_ms` is the server's clock.

    >>> check_event({"properties": {}}, endpoint="track", now_ms=0)
    Problem(field='event', message="'event' must not be missing or blank")

    `item` is any JSON as orjson reads it. A time in the future (up to an hour) is overwritten with `now_ms`,
    as documented: that changes what the event is deduplicated by.
    """
    if not isinstance(item, dict):
        return Problem(field="", message="must be a JSON object")
    name = item.get("event")
    if not isinstance(name, str) or not name.strip():
        return missing("event")
    if len(name) > MAX_NAME_CHARS:
        return invalid("event", f"must have at most {MAX_NAME_CHARS} characters")
    properties = item.get("properties")
    if not isinstance(properties, dict):
        return missing("properties") if properties is None else invalid("properties", "must be an object")
    problem = (
        _check_properties(properties) or _check_required(name, properties, endpoint) or _check_ids(properties)
    )
    if problem is not None:
        return problem
    time = properties.get("time")
    if time is None:
        time_ms = now_ms
    else:
        checked_time = _time_ms(time, endpoint, now_ms)
        if isinstance(checked_time, Problem):
            return checked_time
        time_ms = checked_time
        if time_ms > now_ms:
            time_ms = now_ms
            properties = {**properties, "time": now_ms if time >= _MILLISECONDS_FROM else now_ms // 1000}
    encoded = orjson.dumps(properties, option=orjson.OPT_SORT_KEYS)
    if len(encoded) + len(name) >= MAX_RECORD_BYTES:
        return Problem(field="", message=f"event must be smaller than {MAX_RECORD_BYTES} bytes")
    return Event(
        name=name,
        time_ms=time_ms,
        distinct_id=properties.get("distinct_id") or "",
        insert_id=properties.get("$insert_id"),
        properties=encoded,
    )


def is_banned(value: str) -> bool:
    """Return whether Mixpanel refuses this `distinct_id` or `$insert_id`, as bugs send it for many."""
    return value.strip().lower() in BANNED_IDS


def is_text(value: Any) -> TypeGuard[str]:
    """Return whether this is a string that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def missing(field: str) -> Problem:
    """Return the problem of a missing field, in Mixpanel's words."""
    return Problem(field=field, message=f"'{field}' must not be missing or blank")


def invalid(field: str, reason: str) -> Problem:
    """Return the problem of an invalid field, in Mixpanel's words."""
    return Problem(field=field, message=f"'{field}' is invalid: {reason}")


def _check_properties(properties: dict[str, Any]) -> Problem | None:
    if len(properties) >= MAX_KEYS:
        return invalid("properties", f"must have fewer than {MAX_KEYS} properties")
    for key, value in properties.items():
        if isinstance(value, (dict, list)):
            problem = _check_nested(f"properties.{key}", value, 1)
            if problem is not None:
                return problem
    return None


def _check_nested(field: str, value: dict[str, Any] | list[Any], depth: int) -> Problem | None:
    # Lists count as a level too: the reference speaks of objects only, the stricter reading is taken.
    if depth > MAX_DEPTH:
        return invalid(field, f"must not be nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        if len(value) >= MAX_KEYS:
            return invalid(field, f"must have fewer than {MAX_KEYS} keys")
        values: Any = value.values()
    else:
        if len(value) >= MAX_ITEMS:
            return invalid(field, f"must have fewer than {MAX_ITEMS} elements")
        values = value
    for inner in values:
        if isinstance(inner, (dict, list)):
            problem = _check_nested(field, inner, depth + 1)
            if problem is not None:
                return problem
    return None


def _check_required(name: str, properties: dict[str, Any], endpoint: EventEndpoint) -> Problem | None:
    # Merge Identities asks for the token although /import knows it from the credentials.
    if (endpoint == "track" or name == "$merge") and not is_text(properties.get("token")):
        return missing("properties.token")
    if name in IDENTITY_EVENTS:
        return _check_identity(name, properties)
    if endpoint == "import":
        for key in _IMPORT_REQUIRES:
            if properties.get(key) is None:
                return missing(f"properties.{key}")
    return None


def _check_identity(name: str, properties: dict[str, Any]) -> Problem | None:
    """`$identify`, `$create_alias` and `$merge` have their own required properties, and no others."""
    if name == "$merge":
        pair = properties.get("$distinct_ids")
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(is_text, pair)):
            return invalid("properties.$distinct_ids", "must be a list of the two distinct_ids to merge")
        return None
    if name == "$create_alias":
        required: tuple[str, ...] = ("distinct_id", "alias")
    elif "$anon_distinct_id" in properties:  # the browser SDK's form
        required = ("distinct_id", "$anon_distinct_id")
    else:
        required = ("$identified_id", "$anon_id")
    for key in required:
        if not is_text(properties.get(key)):
            return missing(f"properties.{key}")
    if properties.get("distinct_id") == "":
        return missing("properties.distinct_id")  # mixpanel/mixpanel-python#132
    return None


def _check_ids(properties: dict[str, Any]) -> Problem | None:
    distinct_id = properties.get("distinct_id")
    if distinct_id is not None:
        if not isinstance(distinct_id, str):
            return invalid("properties.distinct_id", "must be a string")
        if is_banned(distinct_id):
            return invalid("properties.distinct_id", f"{distinct_id!r} is not allowed")
    insert_id = properties.get("$insert_id")
    if insert_id is not None:
        if not isinstance(insert_id, str) or not _INSERT_ID.fullmatch(insert_id):
            return invalid("properties.$insert_id", "must be 1 to 36 bytes of alphanumeric characters or '-'")
        if is_banned(insert_id):
            return invalid("properties.$insert_id", f"{insert_id!r} is not allowed")
    return None


def _time_ms(time: Any, endpoint: EventEndpoint, now_ms: int) -> int | Problem:
    field = "properties.time"
    is_whole = isinstance(time, int) or (
        isinstance(time, float) and (endpoint == "track" or time.is_integer())
    )
    if isinstance(time, bool) or not is_whole:
        return invalid(field, "must be specified as seconds since epoch")
    # Compared before it is made an int: a huge float has none.
    time_ms = time if time >= _MILLISECONDS_FROM else time * 1000
    if time_ms < EARLIEST_MS:
        return invalid(field, "must not be before 1971-01-01")
    if time_ms > now_ms + AHEAD_MS:
        return invalid(field, "must not be more than 1 hour in the future")
    if endpoint == "track" and time_ms < now_ms - TRACK_AGE_MS:
        return invalid(field, "must not be more than 5 days in the past, use /import for older events")
    return int(time_ms)
