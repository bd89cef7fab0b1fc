"""The door for OpenTelemetry: observable instruments for what a tracker counts.

```python
observe(tracker)  # with the global meter provider, or observe(tracker, meter_provider)
```

The names are those of the Prometheus collector with dots: `mixpanel_visitor.events.accepted` and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import MissingExtraError
from .figures import figures

try:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
except ImportError:
    raise MissingExtraError("opentelemetry-api", "opentelemetry") from None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .tracker import Tracker


def observe(tracker: Tracker, meter_provider: MeterProvider | None = None) -> None:
    """Register instruments that are read whenever metrics are exported; call it once for each tracker."""
    meter = get_meter("mixpanel_visitor", meter_provider=meter_provider)
    for figure in figures(tracker.stats()):
        create = (
            meter.create_observable_counter if figure.kind == "counter" else meter.create_observable_gauge
        )
        create(
            f"mixpanel_visitor.{figure.name}",
            callbacks=[_reader(tracker, figure.name)],
            unit=figure.unit,
            description=figure.description,
        )


def _reader(tracker: Tracker, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(_options: CallbackOptions) -> Iterable[Observation]:
        for figure in figures(tracker.stats()):
            if figure.name == name:
                for which, value in figure.values.items():
                    yield Observation(value, {figure.label: which} if figure.label else {})

    return read
