"""Profiles: Mixpanel's documented rules for a profile update, and its effect.

Pure: objects in; the accepted update, a Problem or a profile's new properties out.

Source: the profile pages of Mixpanel's reference with its OpenAPI file. Known departures from that file:

- `/groups` takes a number as `$group_id`, as the browser SDK does ("a valid Mixpanel property type").
- `/groups` refuses `$distinct_id`, as Mixpanel does (mixpanel/mixpanel-swift#539).
- the file asks for `$set` in a group's `$delete` and for `$unset` in its `$union`, which are slips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import orjson

from .rules import MAX_RECORD_BYTES, Problem, invalid, is_banned, is_text, missing

ProfileEndpoint = Literal["engage", "groups"]

PEOPLE_OPERATIONS = frozenset(
    {"$set", "$set_once", "$add", "$union", "$append", "$remove", "$unset", "$delete"}
)
GROUP_OPERATIONS = PEOPLE_OPERATIONS - {"$add", "$append"}

_MAX_DEPTH = 64  # no documented limit; ours, far below what the JSON encoder can write


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An accepted profile update: of a person (`group_key` is empty) or of a group."""

    token: str
    group_key: str
    profile_id: str | int | float
    operation: str
    operand: Any


def check_update(item: Any, *, endpoint: ProfileEndpoint) -> Update | Problem:
    """Check one update of a request to `/engage` or `/groups`; `item` is any JSON as orjson reads it."""
    if not isinstance(item, dict):
        return Problem(field="", message="must be a JSON object")
    if not is_text(item.get("$token")):
        return missing("$token")
    identity = _check_profile_id(item, endpoint)
    if isinstance(identity, Problem):
        return identity
    group_key, profile_id = identity
    operations = [key for key in item if key in PEOPLE_OPERATIONS]
    allowed = PEOPLE_OPERATIONS if endpoint == "engage" else GROUP_OPERATIONS
    if len(operations) != 1:
        listed = f"found {', '.join(operations)}" if operations else "found none"
        return Problem(
            field=operations[1] if operations else "",
            message=f"must have exactly one operation of {', '.join(sorted(allowed))}: {listed}",
        )
    operation = operations[0]
    if operation not in allowed:
        return invalid(operation, "not available for groups")
    operand = item[operation]
    problem = _check_operand(operation, operand)
    if problem is not None:
        return problem
    if _deeper_than(operand, _MAX_DEPTH):
        return invalid(operation, "nested too deep")
    if len(orjson.dumps(operand)) >= MAX_RECORD_BYTES:
        return invalid(operation, f"update must be smaller than {MAX_RECORD_BYTES} bytes")
    return Update(
        token=item["$token"],
        group_key=group_key,
        profile_id=profile_id,
        operation=operation,
        operand=operand,
    )


def applied(properties: dict[str, Any], operation: str, operand: Any) -> dict[str, Any]:
    """Return a profile's properties after an update other than `$delete`; the arguments do not change.

    >>> applied({"plan": "free", "visits": 1}, "$add", {"visits": 2})
    {'plan': 'free', 'visits': 3}

    A value of another kind than the operation needs is where the reference is silent: `$add` then counts
    from 0, `$append` and `$union` start from a list with that value in it, `$remove` does nothing.
    """
    after = dict(properties)
    if operation == "$unset":
        for key in operand:
            after.pop(key, None)
        return after
    for key, value in operand.items():
        current = after.get(key)
        match operation:
            case "$set":
                after[key] = value
            case "$set_once":
                after.setdefault(key, value)
            case "$add":
                after[key] = _sum(current, value)
            case "$append":
                after[key] = [*_as_list(current), value]
            case "$union":
                after[key] = _union(_as_list(current), value)
            case "$remove" if isinstance(current, list):
                removed = _identity(value)
                after[key] = [each for each in current if _identity(each) != removed]
    return after


def _check_profile_id(
    item: dict[str, Any], endpoint: ProfileEndpoint
) -> tuple[str, str | int | float] | Problem:
    if endpoint == "engage":
        distinct_id = item.get("$distinct_id")
        if not isinstance(distinct_id, str) or not distinct_id.strip():
            return Problem(field="$distinct_id", message="$distinct_id, missing or empty")
        if is_banned(distinct_id):
            return invalid("$distinct_id", f"{distinct_id!r} is not allowed")
        return "", distinct_id
    if "$distinct_id" in item:
        return invalid("$distinct_id", "not allowed in a group's update")
    group_key, group_id = item.get("$group_key"), item.get("$group_id")
    if not isinstance(group_key, str) or not group_key.strip():
        return missing("$group_key")
    if isinstance(group_id, str):
        return (group_key, group_id) if group_id.strip() else missing("$group_id")
    if _is_number(group_id):
        return group_key, group_id
    return missing("$group_id") if group_id is None else invalid("$group_id", "must be a string")


def _check_operand(operation: str, operand: Any) -> Problem | None:
    if operation == "$delete":
        return None  # "The $delete object value is ignored"
    if operation == "$unset":
        if isinstance(operand, list) and operand and all(isinstance(name, str) for name in operand):
            return None
        return invalid(operation, "must be a list of property names that is not empty")
    if not isinstance(operand, dict):
        return invalid(operation, "must be an object")
    if operation == "$add":
        for key, value in operand.items():
            if not _is_number(value):
                return invalid(f"$add.{key}", "must be a number")
    if operation == "$union":
        if not operand:
            return invalid(operation, "must have at least one property")
        for key, values in operand.items():
            if not isinstance(values, list) or not values or not all(map(_is_scalar, values)):
                return invalid(f"$union.{key}", "must be a list of strings or numbers that is not empty")
    return None


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if levels == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_deeper_than(each, levels - 1) for each in inner)


def _sum(current: Any, value: float) -> int | float:
    total = value + (current if _is_number(current) else 0)
    # JSON's encoder takes integers of 64 bits only.
    return total if isinstance(total, float) or -(2**63) <= total < 2**64 else float(total)


def _as_list(current: Any) -> list[Any]:
    if current is None:
        return []
    return current if isinstance(current, list) else [current]


def _union(current: list[Any], values: list[Any]) -> list[Any]:
    merged = list(current)
    known = {_identity(each) for each in merged}
    for value in values:
        key = _identity(value)
        if key not in known:
            known.add(key)
            merged.append(value)
    return merged


def _identity(value: Any) -> bytes:
    # Python says True == 1 == 1.0, JSON does not.
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)
