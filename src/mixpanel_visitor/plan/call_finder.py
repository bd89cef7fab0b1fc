"""Call finder: the calls of `track` in a source file, as far as they are known from its syntax."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple

from .differences import ANY_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IGNORE = "# plan: ignore"
"""A call with this comment on one of its lines is skipped."""

_ID_FIRST = ("tracker", "mixpanel", "mp")
"""Names of objects whose `track` takes the distinct ID before the event: ours, and the official library's."""


_OFFICIAL_NAMES = ("distinct_id", "event_name", "properties", "meta")
"""The official library's parameters; ours takes other properties as keywords."""


class Call(NamedTuple):
    """One call of `track`: the event's name, or the class of its instance; both None where it is computed.

    `properties` are the literal ones, with ANY_VALUE for a computed value; `complete`: there are no others.
    """

    line: int
    event: str | None
    cls: str | None
    properties: Mapping[str, Any]
    complete: bool


def calls(source: bytes) -> Iterator[Call]:
    """Yield the calls of `track` in a file; raise SyntaxError or ValueError where it is not Python.

    >>> [call] = calls(b'visitor.track("Signed up", {"plan": "pro"})')
    >>> call.event, call.properties, call.complete
    ('Signed up', {'plan': 'pro'}, True)
    """
    tree = ast.parse(source)
    lines = source.decode("utf-8", "replace").splitlines()
    names = _constants(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr != "track" or not (node.args or _keyword(node, "event_name")):
            continue
        if any(IGNORE in line for line in lines[node.lineno - 1 : node.end_lineno]):
            continue
        yield _read(node, node.func.value, names)


def _read(node: ast.Call, receiver: ast.expr, names: Mapping[str, str]) -> Call:
    event_name = _keyword(node, "event_name")
    has_id = event_name is not None or (
        len(node.args) > 1
        and (_text(node.args[1], names) is not None or _last_name(receiver).lower() in _ID_FIRST)
    )
    event, *remaining = [event_name] if event_name is not None else node.args[1:] if has_id else node.args
    remaining += [each for each in (_keyword(node, "properties"),) if has_id and each is not None]
    name = _text(event, names)
    cls = _last_name(event.func) if isinstance(event, ast.Call) else None
    properties, complete = _properties(remaining[0] if remaining else None)
    for keyword in node.keywords:
        if keyword.arg is None:
            complete = False
        elif not (has_id and keyword.arg in _OFFICIAL_NAMES):
            properties[keyword.arg] = _value(keyword.value)
    return Call(node.lineno, name, cls, properties, complete)


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in node.keywords if keyword.arg == name), None)


def _constants(tree: ast.Module) -> dict[str, str]:
    """Return the names that a module sets once, to a string."""
    constants: dict[str, str | None] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(node, (ast.Assign, ast.AnnAssign)):
                text = node.value.value if isinstance(node.value, ast.Constant) else None
                is_new = target.id not in constants
                constants[target.id] = text if is_new and isinstance(text, str) else None
    return {name: text for name, text in constants.items() if text is not None}


def _text(node: ast.expr, names: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return names.get(node.id) if isinstance(node, ast.Name) else None


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _properties(node: ast.expr | None) -> tuple[dict[str, Any], bool]:
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return {}, True
    if not isinstance(node, ast.Dict):
        return {}, False
    literals: dict[str, Any] = {}
    complete = True
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            literals[key.value] = _value(value)
        else:
            complete = False
    return literals, complete


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ANY_VALUE
