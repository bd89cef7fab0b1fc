"""The door for Prometheus: a collector of what a tracker counts.

```python
from prometheus_client import REGISTRY

REGISTRY.register(VisitorCollector(tracker))
```

Each process counts what it was given; `mixpanel_visitor_spool_...` are figures of the whole spool, the same
from every process that shares it. To alarm on: `spool_oldest_age_seconds`, `spool_dead_letters`, and
`events_refused_total`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import MissingExtraError
from .figures import figures
from .tracker import engine_of

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:
    raise MissingExtraError("prometheus-client", "prometheus") from None

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from .tracker import Tracker

_UNITS = {"s": "seconds", "By": "bytes"}


class VisitorCollector(Collector):
    """Gives the figures of `tracker` at each scrape; nothing is counted in between."""

    def __init__(self, tracker: Tracker, *, namespace: str = "mixpanel_visitor") -> None:
        self._tracker = tracker
        self._namespace = namespace

    def describe(self) -> Iterable[Metric]:
        """Name nothing before the first scrape, so that registering looks at no disk."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give all figures of now; none where they cannot be had, for a scrape asks for others' as well."""
        try:
            current = list(figures(self._tracker.stats()))
        except Exception:
            engine_of(self._tracker).failed("collect")
            return
        for figure in current:
            family = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
            metric = family(
                f"{self._namespace}_{figure.name.replace('.', '_')}",
                figure.description,
                labels=[figure.label] if figure.label else [],
                unit=_UNITS.get(figure.unit, ""),
            )
            for which, value in figure.values.items():
                metric.add_metric([which] if figure.label else [], value)
            yield metric
