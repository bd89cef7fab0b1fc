"""Assertions on what an application tracks, for its tests. With pytest, use the fixture `mixpanel_events`.

    from mixpanel_visitor.testing import capture_events

    with capture_events() as events:
        client.post("/signup")
    events.assert_tracked("Signed up", plan="pro")

During the capture no tracker of this process stores or sends anything, and bad input to `track` raises.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from .core.events.encoding import encode
from .core.identity.identity import DEVICE_PREFIX
from .plan.models import EVENT_NAME, values_of
from .tracking import forced_flags, recorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .plan import Declared
    from .records import Endpoint, Record

__all__ = ["TrackedEvent", "TrackedEvents", "TrackedUpdate", "capture_events", "force_flags"]

_MISSING = object()
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedEvent:
    """An event as Mixpanel would get it, with its properties decoded.

    >>> TrackedEvent(name="Signed up", properties={"distinct_id": "user-42"}).distinct_id
    'user-42'
    """

    name: str
    properties: Mapping[str, Any]

    @property
    def distinct_id(self) -> str:
        """The ID that Mixpanel would count it for; empty where it has none."""
        return str(self.properties.get("distinct_id", ""))

    @property
    def ids(self) -> frozenset[str]:
        """All IDs of the event: device ID, user ID, and the distinct ID without `$device:`."""
        values = (self.properties.get(name) for name in ("distinct_id", "$device_id", "$user_id"))
        return frozenset(
            each.removeprefix(DEVICE_PREFIX) for each in values if isinstance(each, str) and each
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedUpdate:
    """A profile update, of a person (`engage`) or a group (`groups`)."""

    endpoint: Endpoint
    message: Mapping[str, Any]


class TrackedEvents:
    """The tracked events, oldest first: a sequence of `TrackedEvent`."""

    def __init__(self) -> None:
        self._events: list[TrackedEvent] = []
        self._updates: list[TrackedUpdate] = []

    @property
    def events(self) -> list[TrackedEvent]:
        """The events as a list, including those of responses whose body was not read yet."""
        self._collect()
        return self._events

    @property
    def updates(self) -> list[TrackedUpdate]:
        """The profile updates."""
        self._collect()
        return self._updates

    def _collect(self) -> None:
        if recorder.active() is self:
            recorder.collect()

    def __iter__(self) -> Iterator[TrackedEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, index: int) -> TrackedEvent:
        return self.events[index]

    @property
    def names(self) -> list[str]:
        """The events' names, oldest first."""
        return [event.name for event in self.events]

    def catch(self, records: Sequence[Record]) -> None:
        """Add records that a tracker would have stored."""
        for record in records:
            message = orjson.loads(record.body)
            if record.endpoint == "import":
                self._events.append(TrackedEvent(name=message["event"], properties=message["properties"]))
            else:
                self._updates.append(TrackedUpdate(endpoint=record.endpoint, message=message))

    def clear(self) -> None:
        """Forget what was tracked so far."""
        self.events.clear()
        self.updates.clear()

    def of(self, visitor_id: str) -> TrackedEvents:
        """Return the events and updates of one visitor, by device ID, user ID or distinct ID."""
        events = TrackedEvents()
        unprefixed_id = visitor_id.removeprefix(DEVICE_PREFIX)
        events._events = [event for event in self.events if unprefixed_id in event.ids]
        events._updates = [update for update in self.updates if _subject_id(update) == unprefixed_id]
        return events

    def find(self, event: str | Declared | type, /, **properties: Any) -> list[TrackedEvent]:
        """Return the events of this name with at least these properties; `...` stands for any value.

        `event` may also be an instance of a class of the tracking plan, whose properties are compared too, or
        the class itself.
        """
        name, wanted = _wanted(event, properties)
        return self._find(name, wanted)

    def _find(self, name: str, wanted: Mapping[str, Any]) -> list[TrackedEvent]:
        return [each for each in self.events if each.name == name and not _differences(each, wanted)]

    def assert_tracked(
        self, event: str | Declared | type, /, *, times: int | None = None, **properties: Any
    ) -> TrackedEvent:
        """Check that an event was tracked with at least these properties; return the last such event.

        `event` and `...` are as in `find`. With `times` it must be tracked exactly so many times. Raise
        AssertionError with the most similar events.
        """
        __tracebackhide__ = True  # pytest shows the line of the test, and the message
        if times is not None and times < 1:
            raise ValueError(
                "times must be at least 1; use assert_not_tracked for an event that must not be tracked"
            )
        name, wanted = _wanted(event, properties)
        matching = self._find(name, wanted)
        if matching and (times is None or len(matching) == times):
            return matching[-1]
        description = f"{name!r}{_with_properties(wanted)}"
        if matching:
            raise AssertionError(
                f"{description} was tracked {_times(len(matching))}, not {_times(times)}.\n{self._summary()}"
            )
        raise AssertionError(
            f"{description} was not tracked.\n{self._nearest(name, wanted)}{self._summary()}"
        )

    def assert_not_tracked(self, event: str | Declared | type | None = None, /, **properties: Any) -> None:
        """Check that no such event was tracked; without an `event`, that none was."""
        __tracebackhide__ = True
        name, wanted = ("", {}) if event is None else _wanted(event, properties)
        matching = self.events if event is None else self._find(name, wanted)
        if matching:
            lines = "\n".join(f"  {each.name}: {dict(each.properties)}" for each in matching[:_MAX_SHOWN])
            description = "Something" if event is None else f"{name!r}{_with_properties(wanted)}"
            raise AssertionError(f"{description} was tracked {_times(len(matching))}:\n{lines}")

    def assert_order(self, *events: str) -> None:
        """Check that these were tracked in this order; others may be between them."""
        __tracebackhide__ = True
        remaining = iter(self.names)
        for index, event in enumerate(events):
            if event not in remaining:
                earlier = f" after {' → '.join(map(repr, events[:index]))}" if index else ""
                raise AssertionError(
                    f"{event!r} was not tracked{earlier}.\nTracked: {' → '.join(self.names)}"
                )

    def _nearest(self, event: str, wanted: Mapping[str, Any]) -> str:
        same_name = [each for each in self.events if each.name == event]
        ranked = sorted(same_name, key=lambda each: len(_differences(each, wanted)))
        lines = []
        for each in ranked[:_MAX_SHOWN]:
            lines.append(f"  {each.name}:")
            for name, expected in _differences(each, wanted).items():
                actual = each.properties.get(name, _MISSING)
                shown = "missing" if actual is _MISSING else repr(actual)
                lines.append(
                    f"    {name}: {shown}, expected {'any value' if expected is ... else repr(expected)}"
                )
        return "Nearest:\n" + "\n".join(lines) + "\n" if lines else ""

    def _summary(self) -> str:
        counts = Counter(self.names)
        text = ", ".join(f"{name!r}{f' x{count}' if count > 1 else ''}" for name, count in counts.items())
        return f"Tracked: {text or 'nothing'}."


@contextlib.contextmanager
def capture_events() -> Iterator[TrackedEvents]:
    """Capture what the trackers of this process track within the block.

    >>> from mixpanel_visitor import Tracker
    >>> with capture_events() as events:
    ...     tracker = Tracker()
    ...     tracker.track("user-42", "Signed up", {"plan": "pro"})
    >>> events.names, events.assert_tracked("Signed up", plan="pro").distinct_id
    (['Signed up'], 'user-42')
    """
    events = TrackedEvents()
    recorder.begin(events)
    try:
        yield events
    finally:
        recorder.end(events)


@contextlib.contextmanager
def force_flags(values: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Say what feature flags are within the block, for all visitors; all others have their default.

    Values may be set while it runs. Nothing is fetched for it, the setting `flags` does not matter, and no
    exposure is tracked.

    >>> from mixpanel_visitor import Tracker
    >>> visitor = Tracker(enabled=False).visitor("user-42")
    >>> with force_flags({"new-checkout": True}) as flags:
    ...     flags["layout"] = "wide"
    ...     visitor.flag("new-checkout"), visitor.flag("layout"), visitor.flag("other", default="no")
    (True, 'wide', 'no')
    """
    forced = dict(values or {})
    forced_flags.begin(forced)
    try:
        yield forced
    finally:
        forced_flags.end(forced)


def _wanted(event: str | Declared | type, properties: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and properties to look for."""
    if isinstance(event, str):
        return event, _as_json(properties)
    cls = event if isinstance(event, type) else type(event)
    name = getattr(cls, EVENT_NAME, None)
    if name is None:
        raise TypeError(f"{cls.__name__} is not declared in a tracking plan; look for an event by its name")
    values = {} if isinstance(event, type) else values_of(event)
    return name, _as_json({**values, **properties})


def _as_json(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they are once encoded and decoded; `...` stays."""
    set_values = {name: value for name, value in properties.items() if value is not ...}
    encoded: dict[str, Any] = orjson.loads(encode(set_values))
    return {**dict.fromkeys(properties, ...), **encoded}


def _differences(event: TrackedEvent, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the wanted properties that are missing in the event, or different."""
    return {
        name: value
        for name, value in wanted.items()
        if name not in event.properties or (value is not ... and event.properties[name] != value)
    }


def _times(count: int | None) -> str:
    return "once" if count == 1 else f"{count} times"


def _with_properties(wanted: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name}={'...' if value is ... else repr(value)}" for name, value in wanted.items())
    return f" with {text}" if text else ""


def _subject_id(update: TrackedUpdate) -> str:
    return str(update.message.get("$distinct_id", "")).removeprefix(DEVICE_PREFIX)
