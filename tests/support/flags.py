"""Feature flags for tests: the official library as the judge, and definitions, simple and drawn."""

from __future__ import annotations

import datetime as dt
import json
import random
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from mixpanel_visitor.delivery.flags.fetcher import Answer
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

from .trackers import NOW_S, SECRET_KEY, TOKEN
from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mixpanel_visitor.delivery.flags.refresher import FlagFigures


def official_module(module: str) -> Any:
    """Return a module of `mixpanel.flags`; the test is skipped with a release of before there was one."""
    return pytest.importorskip(f"mixpanel.flags.{module}", exc_type=ModuleNotFoundError)


class OfficialFlags:
    """The official library's own evaluation of definitions, which it has read from an answer to it."""

    def __init__(self, flags: Iterable[dict[str, Any]], track: Callable[..., object] | None = None) -> None:
        config = official_module("types").LocalFlagsConfig(enable_polling=False)
        provider = official_module("local_feature_flags").LocalFeatureFlagsProvider
        self.provider = provider("token", config, "5", track or _ignore)
        self.serve(flags)

    def serve(self, flags: Iterable[dict[str, Any]]) -> None:
        """Answer it with these definitions; to make another one takes long, for it opens HTTP clients."""
        request = httpx.Request("GET", "https://api.mixpanel.com/flags/definitions")
        answer = httpx.Response(200, content=json.dumps({"flags": list(flags)}), request=request)
        self.provider._handle_response(answer, _NOW, _NOW)

    def variants(self, context: dict[str, Any]) -> dict[str, tuple[str, Any]]:
        """Return the variants (key and value) of this context by flag."""
        variants: dict[str, tuple[str, Any]] = {}
        for key in self.provider._flag_definitions:
            variants.update(self.variants_of(key, context))
        return variants

    def variants_of(self, key: str, context: dict[str, Any]) -> dict[str, tuple[str, Any]]:
        """Return the variant of one flag; empty: none. It raises where the library does."""
        none = official_module("types").SelectedVariant(None)
        variant = self.provider.get_variant(key, none, context, report_exposure=False)
        return {} if variant.variant_key is None else {key: (variant.variant_key, variant.variant_value)}


def _ignore(*_args: object) -> None:
    """Track nothing."""


_NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def on_off(key: str, share: float = 1.0, *, assigned_by: str = "device_id", **more: Any) -> dict[str, Any]:
    """Return the definition of a flag that is on for a share of people, and without a variant for others."""
    variants = [{"key": "on", "value": True, "is_control": False, "split": 1.0}]
    return definition(key, variants, [{"rollout_percentage": share}], assigned_by=assigned_by, **more)


def a_b_test(key: str, *, assigned_by: str = "device_id", **more: Any) -> dict[str, Any]:
    """Return the definition of an experiment: one half sees "a", the other "b"."""
    variants = [
        {"key": "a", "value": "a", "is_control": True, "split": 0.5},
        {"key": "b", "value": "b", "is_control": False, "split": 0.5},
    ]
    experiment = {"experiment_id": f"experiment-of-{key}", "is_experiment_active": True}
    rollout = [{"rollout_percentage": 1.0}]
    return definition(key, variants, rollout, assigned_by=assigned_by, **{**experiment, **more})


def definition(
    key: str,
    variants: list[dict[str, Any]],
    rollout: list[dict[str, Any]],
    *,
    assigned_by: str = "device_id",
    test: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a definition as Mixpanel serves it."""
    ruleset: dict[str, Any] = {"variants": variants, "rollout": rollout}
    if test is not None:
        ruleset["test"] = test
    named = {"id": f"id-{key}", "name": key, "key": key, "status": "enabled", "project_id": 7}
    return {**named, "context": assigned_by, "hash_salt": "a1b2", "ruleset": ruleset, **more}


class DrawnFlags:
    """Draws definitions and contexts that meet often: few IDs, few properties, all kinds of rules."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def flag(self, key: str, **more: Any) -> dict[str, Any]:
        """Draw a definition."""
        draw = self._draw
        names = draw.sample(["Control", "a", "b", "B2", "zeta"], draw.randint(1, 4))
        values = [True, False, None, 3, "red", {"size": [1, 2]}, ""]
        variants = [
            {
                "key": name,
                "value": draw.choice(values),
                "is_control": name == "Control",
                "split": draw.choice([0.0, 0.25, 0.5, 1.0, 0.1, 1 / 3]),
            }
            for name in names
        ]
        for variant in variants:
            if draw.random() < 0.1:
                del variant["split"]
        fields = {
            "assigned_by": draw.choice(["device_id", "distinct_id", "company"]),
            "hash_salt": draw.choice([None, "", "5f2", "äö"]),
            "experiment_id": draw.choice([None, "e1"]),
            "is_experiment_active": draw.choice([None, True, False]),
        }
        if draw.random() < 0.3:
            fields["test"] = {"users": {draw.choice(self._ids()): draw.choice([*names, "ZETA", "gone"])}}
        rollout = [self._rollout(names) for _ in range(draw.randint(0, 3))]
        return definition(key, variants, rollout, **{**fields, **more})

    def _rollout(self, names: list[str]) -> dict[str, Any]:
        draw = self._draw
        rollout: dict[str, Any] = {"rollout_percentage": draw.choice([0, 0.01, 0.33, 0.5, 0.9, 1, 1.0])}
        if draw.random() < 0.4:
            rollout["runtime_evaluation_rule"] = self._whole_rule()
        if draw.random() < 0.15:
            words = [("$browser", "Chrome"), ("plan", "PRO"), ("Plan", "pro"), ("size", "3"), ("gone", "x")]
            rollout["runtime_evaluation_definition"] = dict([draw.choice(words)])
        if draw.random() < 0.3:
            rollout["variant_override"] = {"key": draw.choice([*names, "CONTROL", "gone"])}
        if draw.random() < 0.3:
            rollout["variant_splits"] = {name: draw.choice([0, 0.2, 0.7, 1]) for name in names[:2]}
        return rollout

    def _whole_rule(self) -> dict[str, Any]:
        while not isinstance(rule := self.rule(2), dict):
            pass
        return rule

    def rule(self, depth: int) -> Any:
        """Draw a rule."""
        draw = self._draw
        if depth == 0 or draw.random() < 0.1:
            return draw.choice(
                [
                    *({"var": name} for name in ("plan", "size", "$os", "items.0", "nested.Deep", "gone")),
                    *({"var": ["gone", "pro"]}, "pro", "PRO", 3, 3.0, "3", "3.5", True, None, ["a", "pro"]),
                    *("v1.2", "1.10.0-rc.1", "2026-01-02T03:04:05Z", 1_767_323_045_000, "<", "===", 0, ""),
                ]
            )
        operands = [self.rule(depth - 1) for _ in range(draw.randint(1, 3))]
        compared = [self.rule(0), draw.choice(["<", "<=", ">", ">=", "===", "!==", "?"]), self.rule(0)]
        return draw.choice(
            [
                *(
                    {draw.choice(["==", "===", "!=", "!==", ">", ">=", "<", "<="]): operands}
                    for _ in range(4)
                ),
                *(
                    {draw.choice(["and", "or", "if", "?:", "!", "!!", "in", "cat"]): operands}
                    for _ in range(4)
                ),
                {draw.choice(["+", "*", "-", "/", "%", "min", "max", "merge", "count", "log"]): operands},
                {draw.choice(["missing", "missing_some", "unheard-of"]): operands},
                {"missing_some": [draw.choice([0, 1, 2]), ["plan", "gone", "size"]]},
                {"semver_compare": compared},
                {"datetime_compare": compared},
                {},
            ]
        )

    def context(self) -> dict[str, Any]:
        """Draw whom to evaluate for."""
        draw = self._draw
        context: dict[str, Any] = {"distinct_id": draw.choice(self._ids())}
        if draw.random() < 0.9:
            context["device_id"] = draw.choice([*self._ids(), ""])
        if draw.random() < 0.5:
            context["company"] = draw.choice(["Acme", 42, "", None])
        if draw.random() < 0.8:
            words = {
                "plan": draw.choice(["pro", "PRO", "free", 3, None]),
                "Size": draw.choice([3, 3.5, "3", "", True]),
                "$os": draw.choice(["v1.2.0", "1.10.0", "1.10.0-alpha", "Linux"]),
                "items": draw.choice([["A", "b"], "Ab", [], {"0": "x"}]),
                "nested": {"deep": draw.choice(["2026-01-02T03:04:05+01:00", "2025-12-31T23:59:59Z", 1])},
                "$browser": draw.choice(["Chrome", "chrome", "Firefox"]),
            }
            kept = draw.sample(list(words), draw.randint(0, len(words)))
            context["custom_properties"] = {name: words[name] for name in kept}
        return context

    def _ids(self) -> list[str]:
        return [f"$device:{number:04x}" for number in range(40)] + [f"user-{number}" for number in range(40)]


def answer_of(*flags: Any, etag: str = "") -> Answer:
    """Return what Mixpanel answers to a server that asks for definitions."""
    return Answer(body=json.dumps({"code": 200, "flags": flags}).encode(), etag=etag)


def flag_tracker(
    *flags: dict[str, Any], dependencies: dict[str, Any] | None = None, **settings: Any
) -> Tracker:
    """Return a tracker that knows these flags, delivers to nobody, and asks nobody."""
    given: dict[str, Any] = {"token": TOKEN, "secret_key": SECRET_KEY, "spool": "memory:", "flags": "local"}
    tracker = Tracker(
        **{**given, **settings},
        dependencies=Dependencies(
            **{
                "fetch_flags": lambda _etag: answer_of(*flags),
                "post": _accept,
                "clock": lambda: NOW_S,
                **(dependencies or {}),
            }
        ),
    )
    tracker.start()
    assert wait_until(lambda: figures(tracker)["definitions"] == len(flags), PATIENCE_S)
    return tracker


def figures(tracker: Tracker) -> FlagFigures:
    """Return the part of a tracker's stats about flags."""
    found = tracker.stats()["flags"]
    assert found is not None
    return found


def _accept(endpoint: str, bodies: Sequence[bytes]) -> Response:
    body = b'{"code":200,"num_records_imported":%d,"status":"OK"}' % len(bodies)
    return Response(status=200, body=body if endpoint == "import" else b"1")
