"""Differences: how properties differ from a schema, one by one, with spelling suggestions.

A value is compared as Mixpanel gets it: encoded. This checks types, choices, items and nested properties of
JSON Schema; bounds and patterns are checked by the model itself.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mixpanel_visitor.core.events.encoding import plain_value
from mixpanel_visitor.core.events.json_values import FLAT_TYPES
from mixpanel_visitor.core.events.record_builder import IDENTITY_PROPERTIES
from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import one_line
from mixpanel_visitor.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY_VALUE = object()
"""Stands for an unknown value, which fits any schema."""

_MIXPANELS_OWN = frozenset((*IDENTITY_PROPERTIES, "time", "ip"))
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
_TYPE_TEXTS = {"array": "a list", "object": "an object", "integer": "an integer", "null": "null"}
_NAME_CHARS = 100
_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 60


class Difference(NamedTuple):
    """One property that differs from the plan: its path and the problem; without a `path`, the event itself.

    `value` is the repr of the value: for tests only, because in a log it could be personal data. `word` may
    be a misspelling of one of the `known` words; the closest one is looked up only when the text is made,
    which takes a hundred times as long as the comparison.
    """

    path: str
    problem: str
    value: str = ""
    word: str = ""
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self._text(f"{self.value} is {self.problem}" if self.value else self.problem)

    @property
    def without_value(self) -> str:
        """The text for a log."""
        return self._text(f"is {self.problem}" if self.value else self.problem)

    def _text(self, problem: str) -> str:
        hint = did_you_mean(self.word, self.known) if self.known else ""
        return f"{one_line(self.path)}: {problem}{hint}" if self.path else f"{problem}{hint}"


def is_mixpanels_own(name: str) -> bool:
    """Return whether a property is in Mixpanel's vocabulary, which a plan does not have to repeat."""
    return name.startswith(("$", "mp_")) or name in _MIXPANELS_OWN


def differences(
    schema: Mapping[str, Any], properties: Mapping[str, Any], *, path: str = "", complete: bool = True
) -> Iterator[Difference]:
    """Yield how properties differ from an object's schema; with `complete=False` none counts as missing.

    >>> schema = {"properties": {"plan": {"enum": ["free", "pro"]}}, "required": ["plan"]}
    >>> [str(each) for each in differences(schema, {"pln": "pro"})]
    ["plan: missing, must be 'free' or 'pro'", "pln: unknown; did you mean 'plan'?"]
    """
    known = schema.get("properties", {})
    for name in schema.get("required", ()) if complete else ():
        if name not in properties:
            yield Difference(f"{path}{name}", f"missing, must be {expected(known.get(name, {}))}")
    for name, value in properties.items():
        if name in known:
            yield from _value_differences(known[name], value, f"{path}{name}")
        elif path == "" and isinstance(name, str) and is_mixpanels_own(name):
            continue
        elif known or "properties" in schema:
            unused = tuple(each for each in known if each not in properties) or tuple(known)
            name_shown = str(name)[:_NAME_CHARS]
            yield Difference(f"{path}{name_shown}", "unknown", word=name_shown, known=unused)


def expected(schema: Mapping[str, Any]) -> str:
    """Return in words what a schema accepts.

    >>> expected({"type": "array", "items": {"type": "string"}})
    'a list, each a string'
    """
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(expected(each) for each in schema["anyOf"]))
    choices = _choices(schema)
    if choices is not None:
        *others, last = (repr(choice) for choice in choices)
        return f"{', '.join(others)} or {last}" if others else last
    kind = schema.get("type")
    if kind is None:
        return "anything"
    if kind == "array" and schema.get("items"):
        return f"a list, each {expected(schema['items'])}"
    if kind == "string" and str(schema.get("format", "")).startswith("date"):
        return "a date"
    return _TYPE_TEXTS.get(kind, f"a {kind}")


def _value_differences(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[Difference]:
    if value is ANY_VALUE:
        return
    try:
        encoded = _as_json(value)
    except InvalidEventError:
        return  # the encoder reports it, with a better message
    objects = [each for each in schema.get("anyOf", [schema]) if "properties" in each]
    if isinstance(encoded, dict) and len(objects) == 1:
        yield from differences(objects[0], encoded, path=f"{path}.")
    elif not _fits(schema, encoded):
        expected_text = expected(schema)
        problem = f"{expected(_schema_of(encoded))}, must be {expected_text}"
        choices = _choices(schema) or []
        str_choices = tuple(choice for choice in choices if isinstance(choice, str))
        if type(encoded) in {type(choice) for choice in choices}:
            problem = f"none of the choices, must be {expected_text}"
        word, known = (encoded[:_NAME_CHARS], str_choices) if isinstance(encoded, str) else ("", ())
        yield Difference(path, problem, _shorten.repr(encoded), word, known)


def _as_json(value: Any) -> Any:
    """Return a value as it is in JSON."""
    if type(value) in FLAT_TYPES:
        return value
    return plain_value(value, name="value")


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return any(_fits(each, value) for each in options)
    choices = _choices(schema)
    if choices is not None:
        return any(value == choice and type(value) is type(choice) for choice in choices)
    kind = schema.get("type")
    if kind is None:
        return True
    if kind == "array":
        items = schema.get("items")
        return isinstance(value, list) and (
            not isinstance(items, Mapping) or all(_fits(items, each) for each in value)
        )
    if kind == "object":
        return isinstance(value, dict) and not any(differences(schema, value, path="."))
    if kind == "string" and str(schema.get("format", "")).startswith("date"):
        return isinstance(value, str) and _DATE.fullmatch(value) is not None
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return bool(_schema_of(value).get("type") == kind)


def _choices(schema: Mapping[str, Any]) -> list[Any] | None:
    choices: list[Any] | None = schema.get("enum")
    return [schema["const"]] if choices is None and "const" in schema else choices


def _schema_of(value: Any) -> dict[str, str]:
    for kind, name in (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (list, "array"),
        (dict, "object"),
    ):
        if isinstance(value, kind):
            return {"type": name}
    return {"type": "null"}
