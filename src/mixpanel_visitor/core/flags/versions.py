"""Versions and dates: the two comparisons of Mixpanel's rules that JsonLogic does not have."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_VERSION_CHARS = 256
_MAX_EPOCH_MS = 2**63
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

# The pattern that semver.org suggests.
_VERSION = re.compile(
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
)
_INSTANT = re.compile(
    r"^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.\d+)?(?:(Z)|([+-])(\d{2}):(\d{2}))$"
)
_COMPARISONS: dict[str, Callable[[int], bool]] = {
    "===": lambda order: order == 0,
    "!==": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


def semver_compare(*values: Any) -> bool:
    """Compare two versions (semver 2.0.0) by an operator in the middle; other texts are never equal.

    A leading `v` is dropped, and missing parts are 0: `v2.1` is 2.1.0.
    """
    if len(values) != 3 or not all(isinstance(value, str) for value in values):
        return False
    actual, operator, target = values
    if max(len(actual), len(target)) > MAX_VERSION_CHARS:
        return False
    versions = [_whole_version(text) for text in (actual, target)]
    if not all(_VERSION.match(version) for version in versions):
        return False
    return _compared(operator, _version_order(*versions))


def datetime_compare(*values: Any) -> bool:
    """Compare an instant (RFC 3339) with milliseconds since 1970, in whole seconds."""
    if len(values) != 3 or not isinstance(values[1], str):
        return False
    actual_s, target_s = _seconds_of_text(values[0]), _seconds_of_ms(values[2])
    if actual_s is None or target_s is None:
        return False
    return _compared(values[1], actual_s - target_s)


def _compared(operator: str, order: int) -> bool:
    comparison = _COMPARISONS.get(operator)
    return comparison is not None and comparison(order)


def _whole_version(text: str) -> str:
    text = text.strip()
    if text[:1] in ("v", "V"):
        text = text[1:]
    ends = [index for index in (text.find("-"), text.find("+")) if index >= 0]
    end = min(ends, default=len(text))
    parts = text[:end].split(".")
    parts += ["0"] * (3 - len(parts))
    return ".".join(parts) + text[end:]


def _version_order(left: str, right: str) -> int:
    (left_core, left_pre), (right_core, right_pre) = _parts(left), _parts(right)
    for left_part, right_part in zip(left_core, right_core, strict=True):
        if order := _number_order(left_part, right_part):
            return order
    # A release, which has no pre-release part, is later than its pre-releases (semver 11.3).
    if not left_pre or not right_pre:
        return bool(right_pre) - bool(left_pre)
    for left_part, right_part in zip(left_pre, right_pre, strict=False):
        if order := _identifier_order(left_part, right_part):
            return order
    return _order(len(left_pre), len(right_pre))


def _parts(version: str) -> tuple[list[str], list[str]]:
    core, dash, pre_release = version.partition("+")[0].partition("-")
    return core.split("."), pre_release.split(".") if dash else []


def _number_order(left: str, right: str) -> int:
    # Without leading zeros the longer one is larger; there may be any number of digits.
    return _order((len(left), left), (len(right), right))


def _identifier_order(left: str, right: str) -> int:
    are_numbers = [bool(re.fullmatch("[0-9]+", text)) for text in (left, right)]
    if all(are_numbers):
        return _number_order(left, right)
    if any(are_numbers):
        return -1 if are_numbers[0] else 1
    return _order(left, right)


def _order(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


def _seconds_of_text(value: Any) -> int | None:
    fields = _INSTANT.match(value.strip().upper()) if isinstance(value, str) else None
    if fields is None:
        return None
    offset_s = 0
    if fields[7] is None:
        hours, minutes = int(fields[9]), int(fields[10])
        if hours > 23 or minutes > 59:
            return None
        offset_s = (hours * 3600 + minutes * 60) * (-1 if fields[8] == "-" else 1)
    year, month, day, hour, minute, second = (int(fields[group]) for group in range(1, 7))
    try:
        instant = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    return int((instant - _EPOCH).total_seconds()) - offset_s


def _seconds_of_ms(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    milliseconds = int(value)
    if abs(milliseconds) >= _MAX_EPOCH_MS:
        return None
    seconds = abs(milliseconds) // 1000
    return -seconds if milliseconds < 0 else seconds
