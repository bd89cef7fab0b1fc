"""Definitions: the feature flags of a project, as Mixpanel serves them for local evaluation.

They are read one by one: a malformed flag does not affect the others. Its last readable definition stays in
use.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping


class DefinitionsError(ValueError):
    """Definitions that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One of a flag's values, and the share of people who get it, from 0 to 1."""

    key: str
    value: Any
    split: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedVariant:
    """The variant that the rules have selected, with the further properties of its exposure event."""

    key: str
    value: Any
    experiment_id: Any = None
    is_experiment_active: Any = None
    is_qa_tester: bool | None = None

    def own_value(self) -> Any:
        """Return the value; a mutable one as a copy, because all requests share the definition."""
        return self.value if isinstance(self.value, (str, bool, int, float)) else copy.deepcopy(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One rule: for whom it is, and which variant they get.

    It is for a `share` of all IDs, from 0 to 1, with which `rule` (JsonLogic; None: none) is true. `exact` is
    its older form: properties and their values. `override` is the variant of all, `splits` replaces shares.
    """

    share: float
    rule: Any
    exact: Mapping[str, str]
    override: str | None
    splits: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag. `assigned_by` names the ID that decides: `device_id`, `distinct_id` or a group's key.

    `variants` are in the order of their keys. `testers` are variants by distinct ID. `entry` is the
    definition as it was served.
    """

    key: str
    assigned_by: str
    salt: str | None
    variants: tuple[Variant, ...]
    rollouts: tuple[Rollout, ...]
    testers: Mapping[str, str]
    experiment_id: Any
    is_experiment_active: Any
    entry: Mapping[str, Any]

    def variant_of(self, variant_key: str) -> SelectedVariant | None:
        """Return the variant with this key, which was selected elsewhere; None: it exists no more."""
        for variant in self.variants:
            if variant.key == variant_key:
                return self.selected(variant)
        return None

    def selected(self, variant: Variant, *, is_qa_tester: bool | None = None) -> SelectedVariant:
        """Return a variant as the selected one."""
        return SelectedVariant(
            key=variant.key,
            value=variant.value,
            experiment_id=self.experiment_id,
            is_experiment_active=self.is_experiment_active,
            is_qa_tester=is_qa_tester,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """All flags by their keys; `malformed` has a line for each entry that could not be read."""

    flags: Mapping[str, Flag]
    malformed: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """Return the flags' definitions as `read_entries` takes them."""
        return orjson.dumps([flag.entry for flag in self.flags.values()])


NO_DEFINITIONS = Definitions(flags={})


def read_answer(body: bytes, before: Definitions) -> Definitions:
    """Read Mixpanel's response; a malformed flag has its definition of `before`.

    Raise `DefinitionsError` if the response as a whole cannot be read.

    >>> read_answer(b'{"flags": [{"key": "on-sale"}]}', NO_DEFINITIONS).malformed
    ("flag 'on-sale': ruleset is missing",)
    """
    response = _loaded(body)
    if not isinstance(response, dict) or not isinstance(response.get("flags"), list):
        raise DefinitionsError("the answer has no list of flags")
    return _read(response["flags"], before)


def read_entries(encoded: bytes) -> Definitions:
    """Read definitions that `Definitions.encoded` has returned, here or in another process."""
    entries = _loaded(encoded)
    if not isinstance(entries, list):
        raise DefinitionsError("they are no list")
    return _read(entries, NO_DEFINITIONS)


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DefinitionsError(f"not JSON: {error}") from None


def _read(entries: list[Any], before: Definitions) -> Definitions:
    flags: dict[str, Flag] = {}
    malformed: list[str] = []
    for index, entry in enumerate(entries):
        key = entry.get("key") if isinstance(entry, dict) else None
        if not isinstance(key, str) or not key:
            malformed.append(f"entry {index + 1}: it has no key")
            continue
        try:
            flags[key] = _flag(key, entry)
        except (DefinitionsError, RecursionError) as error:
            malformed.append(f"flag {key!r}: {str(error) or 'it is too deep'}")
            if key in before.flags:
                flags[key] = before.flags[key]
    return Definitions(flags=flags, malformed=tuple(malformed))


def _flag(key: str, entry: dict[str, Any]) -> Flag:
    ruleset = _item(entry, "ruleset", dict)
    variants = [_variant(item) for item in _item(ruleset, "variants", list)]
    return Flag(
        key=key,
        assigned_by=_item(entry, "context", str),
        salt=_item(entry, "hash_salt", str, optional=True),
        variants=tuple(sorted(variants, key=lambda variant: variant.key)),
        rollouts=tuple(_rollout(item) for item in _item(ruleset, "rollout", list)),
        testers=_testers(_item(ruleset, "test", dict, optional=True)),
        experiment_id=entry.get("experiment_id"),
        is_experiment_active=entry.get("is_experiment_active"),
        entry=entry,
    )


def _variant(entry: Any) -> Variant:
    if not isinstance(entry, dict) or "value" not in entry:
        raise DefinitionsError("a variant has no value")
    return Variant(
        key=_item(entry, "key", str), value=entry["value"], split=_share(entry.get("split"), "split") or 0.0
    )


def _rollout(entry: Any) -> Rollout:
    if not isinstance(entry, dict):
        raise DefinitionsError("a rollout is no object")
    override = _item(entry, "variant_override", dict, optional=True)
    share = _share(entry.get("rollout_percentage"), "rollout_percentage")
    if share is None:
        raise DefinitionsError("rollout_percentage is missing")
    splits = _item(entry, "variant_splits", dict, optional=True) or {}
    rule = _item(entry, "runtime_evaluation_rule", dict, optional=True)
    exact = _item(entry, "runtime_evaluation_definition", dict, optional=True)
    return Rollout(
        share=share,
        rule=with_folded_leaves(rule) if rule else None,
        exact=_texts(exact or {}, "runtime_evaluation_definition"),
        override=None if override is None else _item(override, "key", str),
        splits={key: _share(split, "variant_splits") or 0.0 for key, split in splits.items()},
    )


def _testers(test: dict[str, Any] | None) -> Mapping[str, str]:
    users = None if test is None else _item(test, "users", dict, optional=True)
    return _texts(users or {}, "test.users")


def _texts(entry: dict[str, Any], name: str) -> Mapping[str, str]:
    if not all(isinstance(value, str) for value in entry.values()):
        raise DefinitionsError(f"{name} has a value that is no text")
    return entry


def _share(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DefinitionsError(f"{name} is no number")
    return value


def _item(entry: dict[str, Any], name: str, kind: type, *, optional: bool = False) -> Any:
    value = entry.get(name)
    if value is None and optional:
        return None
    if not isinstance(value, kind):
        problem = "is missing" if value is None else f"is no {_KINDS[kind]}"
        raise DefinitionsError(f"{name} {problem}")
    return value


_KINDS: dict[type, str] = {dict: "object", list: "list", str: "text"}


def with_folded_leaves(value: Any) -> Any:
    """Return a rule with its texts in one case, like the properties to which it is applied."""
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, list):
        return [with_folded_leaves(item) for item in value]
    if isinstance(value, dict):
        return {key: with_folded_leaves(item) for key, item in value.items()}
    return value
