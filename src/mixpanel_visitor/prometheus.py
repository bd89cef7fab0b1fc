"""The door for Prometheus: a collector of what a tracker counts.

```python
from prometheus_client import REGISTRY

REGISTRY.register(VisitorCollector(tracker))
```

Each process counts what it was given; `mixpanel_visitor_spool_...` are metrics of the whole spool, the same
from every process that shares it. To alarm on: `spool_oldest_age_seconds`, `spool_dead_letters`, and
`events_refused_total`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import MissingExtraError
from .observability.metrics import by_name, collect_metrics
from .tracking.tracker import engine_of

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:
    raise MissingExtraError("prometheus-client", "prometheus") from None

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from .observability.metrics import ExportedMetric
    from .tracking.tracker import Tracker

_UNITS = {"s": "seconds", "By": "bytes"}


class VisitorCollector(Collector):
    """Collects the metrics of a tracker at each scrape; nothing is counted in between.

    Several trackers, `{"shop": tracker, "blog": other}`, share the names, and each has its label `tracker`.

    >>> from mixpanel_visitor import Tracker
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> registry.register(VisitorCollector(Tracker(enabled=False)))
    >>> registry.get_sample_value("mixpanel_visitor_events_accepted_total")
    0.0
    """

    def __init__(
        self, tracker: Tracker | Mapping[str, Tracker], *, namespace: str = "mixpanel_visitor"
    ) -> None:
        self._trackers = by_name(tracker)
        self._namespace = namespace

    def describe(self) -> Iterable[Metric]:
        """Name nothing before the first scrape, so that registering looks at no disk."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return all metrics of now but those that cannot be had: a scrape asks for others' as well."""
        families: dict[str, list[tuple[str, ExportedMetric]]] = {}
        for name, tracker in self._trackers.items():
            try:
                current = list(collect_metrics(tracker.stats()))
            except Exception:
                engine_of(tracker).failed("collect")
                continue
            for figure in current:
                families.setdefault(figure.name, []).append((name, figure))
        for named in families.values():
            yield self._family(named)

    def _family(self, named: list[tuple[str, ExportedMetric]]) -> Metric:
        figure = named[0][1]
        family = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        labels = [] if "" in self._trackers else ["tracker"]
        metric = family(
            f"{self._namespace}_{figure.name.replace('.', '_')}",
            figure.description,
            labels=[*labels, figure.label] if figure.label else labels,
            unit=_UNITS.get(figure.unit, ""),
        )
        for name, each in named:
            label_values = [name] if labels else []
            for label_value, value in each.values.items():
                metric.add_metric([*label_values, label_value] if figure.label else label_values, value)
        return metric
