"""Feature flags: which variant somebody gets, judged by the official library."""

from __future__ import annotations

import logging

import orjson
import pytest
from support.flags import DrawnFlags, OfficialFlags, a_b_test, definition, official_module, on_off

from mixpanel_visitor.core.flags import versions
from mixpanel_visitor.core.flags.definitions import (
    NO_DEFINITIONS,
    DefinitionsError,
    read_answer,
    read_entries,
)
from mixpanel_visitor.core.flags.evaluator import FlagContext, select
from mixpanel_visitor.core.flags.exposures import ExposureMemory
from mixpanel_visitor.core.flags.hashing import normalized_hash


def read(*flags):
    """Read definitions as Mixpanel serves them."""
    return read_answer(orjson.dumps({"code": 200, "flags": flags}), NO_DEFINITIONS)


def context_of(given, **more):
    """Return the context that the official library would be given as a dictionary."""
    ids = {name: value for name, value in given.items() if name != "custom_properties"}
    return FlagContext(ids, lambda: given.get("custom_properties"), **more)


def variants(definitions, given, **more):
    """Return all variants, key and value, by flag."""
    context = context_of(given, **more)
    selected = {key: select(flag, context) for key, flag in definitions.flags.items()}
    return {key: (variant.key, variant.value) for key, variant in selected.items() if variant is not None}


@pytest.mark.parametrize("seed", range(8))
def test_it_selects_what_the_official_library_selects(seed, caplog):
    """Over 2,560 drawn definitions in all, each in eight drawn contexts: 20,480 evaluations."""
    caplog.set_level(logging.CRITICAL)
    drawn, official = DrawnFlags(seed), OfficialFlags([])
    for _ in range(16):
        flags = [drawn.flag(f"flag-{number}") for number in range(20)]
        official.serve(flags)
        ours = read(*flags)
        assert not ours.malformed
        for _ in range(8):
            given = drawn.context()
            selected, raising = _official(official, given)
            assert {k: v for k, v in variants(ours, given).items() if k not in raising} == selected


def _official(official, given):
    """Return what the official library selects, and the flags for which it raises: a property is no text."""
    selected, raising = {}, set()
    for key in official.provider._flag_definitions:
        try:
            selected.update(official.variants_of(key, given))
        except AttributeError:
            raising.add(key)
    return selected, raising


def test_the_hash_is_the_official_one():
    """Whatever the text."""
    official_hash = official_module("utils").normalized_hash
    for text in ("", "a", "user-42", "ä\u0000ö", "$device:" + "0" * 36):
        assert normalized_hash(text, "salt") == official_hash(text, "salt")


VERSIONS = ["1", "v1.2", "1.2.3", "1.2.3-rc.1", "1.2.3-rc.1.2", "1.2.3-2", "1.2.3-10+b", "1.2.3+b-c", " 2.0 "]
INSTANTS = [
    *("2026-01-02T03:04:05Z", "2026-01-02t03:04:05.9z", "2026-01-02T04:04:05+01:00", "2026-01-02"),
    *("2026-02-30T00:00:00Z", "2026-01-02T03:04:05+99:00", "2026-01-02T03:04:05-00:30"),
]
OTHERS = ["01.2", "x", "", "1.2.3.4", "1" * 300, 3, None, True, 1.5, float("inf"), 10**25, -1500]
OPERANDS = [*VERSIONS, *INSTANTS, *OTHERS, 1_767_323_045_000]


@pytest.mark.parametrize("ours", [versions.semver_compare, versions.datetime_compare])
def test_versions_and_dates_compare_as_in_the_official_library(ours):
    """Each with each, by each operator."""
    theirs = getattr(official_module("custom_operators"), ours.__name__)
    for one in OPERANDS:
        for other in OPERANDS:
            for operator in ("<", "<=", ">", ">=", "===", "!==", "==", None):
                assert ours(one, operator, other) == theirs(one, operator, other), (one, operator, other)
    assert ours("1", "<") is False


def test_an_id_that_passes_gets_what_everybody_gets():
    """A share is not drawn for somebody who would be another one with the next request."""
    flags = [on_off("everybody"), on_off("half", 0.5), a_b_test("drawn")]
    passing = frozenset(("distinct_id", "device_id"))
    for number in range(50):
        given = {"distinct_id": f"$device:{number}", "device_id": str(number)}
        assert variants(read(*flags), given, passing=passing) == {"everybody": ("on", True)}


def test_a_user_who_logged_in_is_known_by_it_though_the_device_passes():
    """Flags by distinct ID are drawn."""
    flag = a_b_test("drawn", assigned_by="distinct_id")
    found = {
        variants(
            read(flag),
            {"distinct_id": f"user-{number}", "device_id": "1"},
            passing=frozenset(("device_id",)),
        )["drawn"][0]
        for number in range(50)
    }
    assert found == {"a", "b"}


def test_a_flag_that_cannot_be_read_costs_no_other():
    """It is named, with what is wrong."""
    broken = on_off("broken")
    del broken["ruleset"]["rollout"]
    definitions = read(on_off("fine"), broken, {"no": "key"}, 7)
    assert list(definitions.flags) == ["fine"]
    assert definitions.malformed == (
        "flag 'broken': rollout is missing",
        "entry 3: it has no key",
        "entry 4: it has no key",
    )


BROKEN = [
    {"ruleset": None},
    {"ruleset": {"variants": [], "rollout": [7]}},
    {"ruleset": {"variants": [{"key": "on"}], "rollout": []}},
    {"ruleset": {"variants": [{"key": "on", "value": 1, "split": "half"}], "rollout": []}},
    {"ruleset": {"variants": [], "rollout": [{}]}},
    {"ruleset": {"variants": [], "rollout": [{"rollout_percentage": True}]}},
    {"ruleset": {"variants": [], "rollout": [{"rollout_percentage": 1, "runtime_evaluation_rule": [1]}]}},
    {"ruleset": {"variants": [], "rollout": [], "test": {"users": {"user-1": 7}}}},
    {"context": None},
    {"hash_salt": 7},
]


@pytest.mark.parametrize("change", BROKEN)
def test_the_last_definition_that_could_be_read_is_kept(change):
    """Of that flag; the others are those of now."""
    before = read(on_off("checkout"), on_off("gone"))
    answer = orjson.dumps({"flags": [{**on_off("checkout"), **change}, on_off("new")]})
    after = read_answer(answer, before)
    assert after.flags == {"checkout": before.flags["checkout"], "new": read(on_off("new")).flags["new"]}
    assert len(after.malformed) == 1


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"flags": {}}', b'{"error": "no"}', b"\xff"])
def test_an_answer_without_flags_is_an_error(answer):
    """It says nothing about any flag."""
    with pytest.raises(DefinitionsError):
        read_answer(answer, NO_DEFINITIONS)


def test_definitions_are_the_same_in_another_process():
    """What was read is encoded, and read again."""
    definitions = read(*(DrawnFlags(1).flag(f"flag-{number}") for number in range(50)))
    assert read_entries(definitions.encoded()).flags == definitions.flags
    with pytest.raises(DefinitionsError):
        read_entries(b"{}")


def test_a_flag_without_variants_selects_nothing():
    """Where the official library raises."""
    given = {"distinct_id": "user-1", "device_id": "1"}
    assert variants(read(definition("empty", [], [{"rollout_percentage": 1}])), given) == {}


def test_a_value_that_can_be_changed_is_a_copy():
    """The definition is everybody's."""
    flag = definition("box", [{"key": "on", "value": {"size": [1]}}], [{"rollout_percentage": 1}])
    variant = select(read(flag).flags["box"], context_of({"device_id": "1"}))
    variant.own_value()["size"].append(2)
    assert variant.value == {"size": [1]}


def test_an_exposure_is_new_once_a_day():
    """For each visitor, flag and variant; its insert ID is that of every process."""
    memory, another = ExposureMemory(), ExposureMemory()
    first = memory.first_of_day("token", "device", "flag", "a", 86_400.0)
    assert first == another.first_of_day("token", "device", "flag", "a", 2 * 86_400.0 - 1)
    assert len(first) == 32
    assert memory.first_of_day("token", "device", "flag", "a", 90_000.0) == ""
    others = [("device", "flag", "b"), ("device", "flags", "a"), ("devices", "flag", "a")]
    assert all(memory.first_of_day("token", *each, 90_000.0) for each in others)
    assert memory.first_of_day("token", "device", "flag", "a", 2 * 86_400.0)


def test_the_oldest_exposures_are_forgotten():
    """So that memory is bounded."""
    memory = ExposureMemory(most=10)
    for number in range(100):
        memory.first_of_day("token", str(number), "flag", "a", 0.0)
    assert len(memory._sent) == 10
    assert memory.first_of_day("token", "0", "flag", "a", 0.0)
    assert not memory.first_of_day("token", "99", "flag", "a", 0.0)
