"""JsonLogic: the rules of a rollout, applied to properties as Mixpanel's own Python library applies them.

That library evaluates by the package `json-logic`; it is as odd (it evaluates all operands, and no rules in
lists). A test compares the two over drawn rules.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

from .versions import datetime_compare, semver_compare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MISSING = object()


def apply(rule: Any, properties: Mapping[str, Any]) -> Any:
    """Return the result of a rule; raise any exception if it makes no sense for these properties."""
    if not isinstance(rule, dict):
        return rule
    operator, operands = next(iter(rule.items()))
    if not isinstance(operands, list):
        operands = [operands]
    values = [apply(operand, properties) for operand in operands]
    if operator == "var":
        return _variable(properties, *values)
    if operator == "missing":
        return _missing(properties, *values)
    if operator == "missing_some":
        return _missing_some(properties, *values)
    return _OPERATORS[operator](*values)


def _variable(properties: Any, name: Any, default: Any = None) -> Any:
    value = properties
    try:
        for key in str(name).split("."):
            try:
                value = value[key]
            except TypeError:
                value = value[int(key)]
    except (KeyError, TypeError, ValueError):
        return default
    return value


def _missing(properties: Any, *names: Any) -> list[Any]:
    if names and isinstance(names[0], list):
        names = tuple(names[0])
    return [name for name in names if _variable(properties, name, _MISSING) is _MISSING]


def _missing_some(properties: Any, required: Any, names: Any) -> list[Any]:
    if required < 1:
        return []
    missing = _missing(properties, list(names))
    return [] if len(names) - len(missing) >= required else missing


def _if(*operands: Any) -> Any:
    for index in range(0, len(operands) - 1, 2):
        if operands[index]:
            return operands[index + 1]
    return operands[-1] if len(operands) % 2 else None


def _soft_equals(left: Any, right: Any) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return str(left) == str(right)
    if isinstance(left, bool) or isinstance(right, bool):
        return bool(left) is bool(right)
    return bool(left == right)


def _hard_equals(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def _less(left: Any, right: Any, *further: Any) -> Any:
    if not {type(left), type(right)}.isdisjoint((int, float)):
        try:
            left, right = float(left), float(right)
        except TypeError:
            return False
    return left < right and (not further or _less(right, *further))


def _less_or_equal(left: Any, right: Any, *further: Any) -> Any:
    return (_less(left, right) or _soft_equals(left, right)) and (
        not further or _less_or_equal(right, *further)
    )


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return float(value) if "." in value else int(value)
    return value


def _minus(*operands: Any) -> Any:
    if len(operands) == 1:
        return -_number(operands[0])
    return _number(operands[0]) - _number(operands[1])


def _product(*operands: Any) -> Any:
    product: Any = 1
    for operand in operands:
        product *= float(operand)
    return product


def _merge(*operands: Any) -> list[Any]:
    merged: list[Any] = []
    for operand in operands:
        merged += operand if isinstance(operand, list) else [operand]
    return merged


_OPERATORS: dict[str, Callable[..., Any]] = {
    "==": _soft_equals,
    "===": _hard_equals,
    "!=": lambda left, right: not _soft_equals(left, right),
    "!==": lambda left, right: not _hard_equals(left, right),
    ">": lambda left, right: _less(right, left),
    ">=": lambda left, right: _less(right, left) or _soft_equals(left, right),
    "<": _less,
    "<=": _less_or_equal,
    "!": lambda value: not value,
    "!!": bool,
    "%": lambda left, right: left % right,
    "and": lambda *values: reduce(lambda all_of, value: all_of and value, values, True),
    "or": lambda *values: reduce(lambda any_of, value: any_of or value, values, False),
    "?:": lambda condition, yes, no: yes if condition else no,
    "if": _if,
    "log": lambda value: value,
    "in": lambda item, items: item in items if hasattr(items, "__contains__") else False,
    "cat": lambda *values: "".join(map(str, values)),
    "+": lambda *values: sum(map(_number, values)),
    "*": _product,
    "-": _minus,
    "/": lambda left, right=None: left if right is None else float(left) / float(right),
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
    "merge": _merge,
    "count": lambda *values: sum(1 for value in values if value),
    "semver_compare": semver_compare,
    "datetime_compare": datetime_compare,
}
