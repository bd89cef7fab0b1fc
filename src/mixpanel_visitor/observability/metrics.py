"""Metrics: the counts of `Tracker.stats()` as a flat list for metrics systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["counter", "gauge"]


class ExportedMetric(NamedTuple):
    """One metric: its name with dots, its unit (UCUM), a description, and its values by label value.

    Without a `label` the only key is the empty string.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    values: Mapping[str, float]
    label: str = ""


Tracked = TypeVar("Tracked")


def by_name(trackers: Tracked | Mapping[str, Tracked]) -> dict[str, Tracked]:
    """Return trackers by the value of their label `tracker`, which is `""` for a single tracker."""
    return dict(trackers) if isinstance(trackers, Mapping) else {"": trackers}


def collect_metrics(stats: Mapping[str, Any]) -> Iterator[ExportedMetric]:
    """Yield the metrics of `Tracker.stats()`; those without a count have no values.

    >>> metrics = {metric.name: metric for metric in collect_metrics({"accepted": 3})}
    >>> metrics["events.accepted"].values, metrics["spool.size"].values
    ({'': 3.0}, {})
    """
    spool, sender, flags = stats.get("spool", {}), stats.get("sender", {}), stats.get("flags") or {}
    for source, key, name, kind, unit, description in _UNLABELLED:
        value = {"": stats, "spool": spool, "sender": sender, "flags": flags}[source].get(key)
        yield ExportedMetric(name, kind, unit, description, {} if value is None else {"": float(value)})
    for source, key, name, unit, description, label in _LABELLED:
        values = {"": stats, "sender": sender}[source].get(key, {})
        by_label = {str(label_value): float(value) for label_value, value in values.items()}
        yield ExportedMetric(name, "counter", unit, description, by_label, label)
    endpoints = sender.get("lanes", {})
    paused = {endpoint: float(bool(status.get("paused_until_s"))) for endpoint, status in endpoints.items()}
    yield ExportedMetric(
        "paused", "gauge", "1", "Whether sending to this endpoint waits (1) or not.", paused, "endpoint"
    )


_UNLABELLED: tuple[tuple[str, str, str, Kind, str, str], ...] = (
    ("", "accepted", "events.accepted", "counter", "{event}", "Calls of track and its like."),
    ("", "delivered", "events.delivered", "counter", "{event}", "Acknowledged by Mixpanel."),
    ("", "dead_lettered", "events.dead_lettered", "counter", "{event}", "Refused by Mixpanel, set aside."),
    ("", "pending", "events.pending", "gauge", "{event}", "Of this process: in open requests or the spool."),
    ("spool", "pending", "spool.records", "gauge", "{record}", "Waiting in the spool, of all processes."),
    (
        "spool",
        "dead_lettered",
        "spool.dead_letters",
        "gauge",
        "{record}",
        "In the dead letters of the spool.",
    ),
    ("spool", "bytes", "spool.size", "gauge", "By", "Size of the spool."),
    ("spool", "oldest_age_s", "spool.oldest_age", "gauge", "s", "How long the oldest record waits."),
    ("spool", "corrupt_bytes", "spool.corrupt", "counter", "By", "Damaged bytes that were met."),
    ("spool", "leader", "spool.leader", "gauge", "1", "Whether this process delivers (1) or another."),
    ("sender", "batches", "requests", "counter", "{request}", "Requests to Mixpanel."),
    (
        "sender",
        "ambiguous",
        "events.ambiguous",
        "counter",
        "{event}",
        "Set aside, for they may have arrived.",
    ),
    (
        "sender",
        "duplicates_possible",
        "events.repeated",
        "counter",
        "{event}",
        "Sent again, may be there twice.",
    ),
    ("sender", "shortfall", "events.shortfall", "counter", "{event}", "Acknowledged but not imported."),
    ("sender", "errors", "errors", "counter", "{error}", "Errors of the sender or its spool."),
    ("sender", "clock_offset_s", "clock_offset", "gauge", "s", "Mixpanel's clock minus this host's."),
    ("flags", "definitions", "flags.definitions", "gauge", "{flag}", "Feature flags that are known here."),
    ("flags", "age_s", "flags.age", "gauge", "s", "How long ago their definitions were fetched."),
    ("flags", "fetched", "flags.fetched", "counter", "{request}", "Answers with definitions of flags."),
    ("flags", "failed", "flags.failed", "counter", "{request}", "Requests for them that failed."),
    (
        "flags",
        "malformed",
        "flags.malformed",
        "counter",
        "{request}",
        "Answers with a malformed part.",
    ),
)

_LABELLED = (
    ("", "refused", "events.refused", "{event}", "Not accepted, by reason.", "reason"),
    ("", "notes", "notes", "{note}", "What happened besides, by name.", "note"),
    ("sender", "http", "responses", "{response}", "Mixpanel's answers by status; 0: none came.", "status"),
    (
        "sender",
        "retried",
        "requests.retried",
        "{request}",
        "Requests to be sent again, by trouble.",
        "trouble",
    ),
)
