"""Evaluator: which variant of a flag a visitor gets, by the rules of Mixpanel's own Python library.

That library is not used for it: its constructor opens HTTP clients (httpx), it copies all variants for each
evaluation, and it logs a line for each missing flag. A test compares the two, variant by variant,
over thousands of drawn definitions and contexts.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import json_logic
from .hashing import normalized_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .definitions import Flag, Rollout, SelectedVariant, Variant

DISTINCT_ID = "distinct_id"
DEVICE_ID = "device_id"


class FlagContext:
    """The IDs and properties for which a flag is evaluated.

    `ids` has `distinct_id`, `device_id` and group keys. Those in `passing` end with this request and draw no
    variant, so that a person does not get another variant with each page, but one that everybody gets.
    `read_properties` is called if a rule needs them.
    """

    def __init__(
        self,
        ids: Mapping[str, Any],
        read_properties: Callable[[], Any],
        *,
        passing: frozenset[str] = frozenset(),
    ) -> None:
        self.ids = ids
        self.passing = passing
        self._read_properties = read_properties

    @cached_property
    def properties(self) -> Mapping[str, Any]:
        """The properties for rules: names and texts in one case; empty if there are none."""
        properties = self._read_properties()
        folded: Mapping[str, Any] = _folded(properties) if isinstance(properties, dict) else {}
        return folded


def select(flag: Flag, context: FlagContext) -> SelectedVariant | None:
    """Return the variant that the flag's rules select; None: none, so that the caller's default counts."""
    assignment = context.ids.get(flag.assigned_by)
    if not assignment:
        return None
    passing = flag.assigned_by in context.passing
    if DISTINCT_ID not in context.passing:
        tester_variant = flag.testers.get(context.ids.get(DISTINCT_ID) or "")
        if tester_variant and (variant := _forced_variant(flag, tester_variant)) is not None:
            return variant
    text = str(assignment)
    for index, rollout in enumerate(flag.rollouts):
        salt = f"{flag.key}rollout" if flag.salt is None else f"{flag.key}{flag.salt}{index}"
        is_in = rollout.share >= 1 if passing else normalized_hash(text, salt) < rollout.share
        if is_in and _applies(rollout, context):
            return _variant_of_rollout(flag, rollout, None if passing else text)
    return None


def _variant_of_rollout(flag: Flag, rollout: Rollout, text: str | None) -> SelectedVariant | None:
    """Return the rollout's variant for an ID; without a `text`, only if it need not be drawn."""
    if rollout.override is not None and (chosen := _forced_variant(flag, rollout.override)) is not None:
        return chosen
    drawn = 0.0 if text is None else normalized_hash(text, f"{flag.key}{flag.salt or ''}variant")
    selected: Variant | None = None
    upper_bound = 0.0
    for variant in flag.variants:
        selected = variant
        split = rollout.splits.get(variant.key, variant.split)
        upper_bound += split
        if text is None and 0 < split < 1:
            return None
        if drawn < upper_bound:
            break
    return None if selected is None else flag.selected(selected)


def _forced_variant(flag: Flag, key: str) -> SelectedVariant | None:
    for variant in flag.variants:
        if variant.key.casefold() == key.casefold():
            return flag.selected(variant, is_qa_tester=True)
    return None


def _applies(rollout: Rollout, context: FlagContext) -> bool:
    if rollout.rule is None and not rollout.exact:
        return True
    properties = context.properties
    if not properties:
        return False
    if rollout.rule is None:
        return all(_is_same_text(properties.get(name), text) for name, text in rollout.exact.items())
    try:
        return bool(json_logic.apply(rollout.rule, properties))
    except Exception:
        return False  # a rule may need other types than these properties have


def _is_same_text(value: Any, expected: str) -> bool:
    return isinstance(value, str) and value.casefold() == expected.casefold()


def _folded(value: Any) -> Any:
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, list):
        return [_folded(item) for item in value]
    if isinstance(value, dict):
        return {_folded(key): _folded(item) for key, item in value.items()}
    return value
