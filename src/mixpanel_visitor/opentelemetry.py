"""The door for OpenTelemetry: observable instruments for what a tracker counts.

```python
observe(tracker)  # with the global meter provider, or observe(tracker, meter_provider)
```

The names are those of the Prometheus collector with dots: `mixpanel_visitor.events.accepted` and so on.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from .errors import MissingExtraError
from .observability.metrics import by_name, collect_metrics

try:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
except ImportError:
    raise MissingExtraError("opentelemetry-api", "opentelemetry") from None

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .observability.metrics import ExportedMetric
    from .tracking.tracker import Tracker


FRESH_S = 1.0
"""So long a look at the tracker serves: an export asks one instrument after the other, for one moment."""


def observe(tracker: Tracker | Mapping[str, Tracker], meter_provider: MeterProvider | None = None) -> None:
    """Register instruments that are read whenever metrics are exported; to be called once.

    Several trackers, `{"shop": tracker, "blog": other}`, share the names, and each has its attribute
    `tracker`.

    >>> from mixpanel_visitor import Tracker
    >>> observe(Tracker(enabled=False))
    """
    meter = get_meter("mixpanel_visitor", meter_provider=meter_provider)
    look = _Look(by_name(tracker))
    for figure in collect_metrics({}):
        create = (
            meter.create_observable_counter if figure.kind == "counter" else meter.create_observable_gauge
        )
        create(
            f"mixpanel_visitor.{figure.name}",
            callbacks=[partial(look.read, figure.name)],
            unit=figure.unit,
            description=figure.description,
        )


class _Look:
    """The metrics of one moment, for all instruments of an export."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = trackers
        self._figures: dict[str, dict[str, ExportedMetric]] = {}
        self._taken_s = float("-inf")

    def read(self, name: str, _options: CallbackOptions) -> Iterator[Observation]:
        now_s = time.monotonic()
        if now_s - self._taken_s >= FRESH_S:
            self._figures = {
                of: {figure.name: figure for figure in collect_metrics(tracker.stats())}
                for of, tracker in self._trackers.items()
            }
            self._taken_s = now_s
        for of, current in self._figures.items():
            figure = current[name]
            for which, value in figure.values.items():
                labels = {"tracker": of} if of else {}
                yield Observation(value, {**labels, figure.label: which} if figure.label else labels)
