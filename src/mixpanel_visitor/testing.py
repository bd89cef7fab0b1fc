"""For tests of applications: what did they track? With pytest, the fixture `mixpanel_events` is this.

    from mixpanel_visitor.testing import capture_events

    with capture_events() as events:
        client.post("/signup")
    events.assert_tracked("Signed up", plan="pro")

While it captures, no tracker of this process stores or sends anything, and bad input to `track` raises.
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
from .tracking import recorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .plan import Declared
    from .records import Endpoint, Record

__all__ = ["TrackedEvent", "TrackedEvents", "TrackedUpdate", "capture_events"]

_ANY = object()
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedEvent:
    """An event as Mixpanel would have got it, its properties decoded."""

    name: str
    properties: Mapping[str, Any]

    @property
    def distinct_id(self) -> str:
        """Whom Mixpanel would count it for; empty: nobody."""
        return str(self.properties.get("distinct_id", ""))

    @property
    def ids(self) -> frozenset[str]:
        """All IDs that it is tracked under: device, user, and the distinct one without `$device:`."""
        values = (self.properties.get(name) for name in ("distinct_id", "$device_id", "$user_id"))
        return frozenset(
            each.removeprefix(DEVICE_PREFIX) for each in values if isinstance(each, str) and each
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedUpdate:
    """A profile update: of a person (`engage`) or a group (`groups`)."""

    endpoint: Endpoint
    message: Mapping[str, Any]


class TrackedEvents:
    """What was tracked, oldest first; a sequence of `TrackedEvent`."""

    def __init__(self) -> None:
        self._events: list[TrackedEvent] = []
        self._updates: list[TrackedUpdate] = []

    @property
    def events(self) -> list[TrackedEvent]:
        """The events as a list, with those of responses whose body nobody has read."""
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
        """The events' names, in order."""
        return [event.name for event in self.events]

    def catch(self, records: Sequence[Record]) -> None:
        """Take what a tracker would have stored."""
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
        """Return what was tracked of one visitor: a device ID, a user ID or a distinct ID."""
        events = TrackedEvents()
        unprefixed_id = visitor_id.removeprefix(DEVICE_PREFIX)
        events._events = [event for event in self.events if unprefixed_id in event.ids]
        events._updates = [update for update in self.updates if _subject_id(update) == unprefixed_id]
        return events

    def find(self, event: str | Declared | type, /, **properties: Any) -> list[TrackedEvent]:
        """Return the events of this name with at least these properties; `...` stands for any value.

        `event` may be an instance of a class of the tracking plan, whose properties are wanted too, or the
        class itself.
        """
        name, wanted = _wanted(event, properties)
        return self._find(name, wanted)

    def _find(self, name: str, wanted: Mapping[str, Any]) -> list[TrackedEvent]:
        return [each for each in self.events if each.name == name and not _differences(each, wanted)]

    def assert_tracked(
        self, event: str | Declared | type, /, *, times: int | None = None, **properties: Any
    ) -> TrackedEvent:
        """Check that it was tracked, with at least these properties; give the last one that was.

        `event` and `...` are those of `find`. `times`: exactly so often. The message of a failure shows what
        came near.
        """
        __tracebackhide__ = True  # pytest shows the line of the test, and the message
        if times is not None and times < 1:
            raise ValueError("that it was not tracked is what assert_not_tracked is for")
        name, wanted = _wanted(event, properties)
        matching = self._find(name, wanted)
        if matching and (times is None or len(matching) == times):
            return matching[-1]
        description = f"{name!r}{_with(wanted)}"
        if matching:
            raise AssertionError(
                f"{description} was tracked {_times(len(matching))}, not {_times(times)}.\n{self._summary()}"
            )
        raise AssertionError(
            f"{description} was not tracked.\n{self._nearest(name, wanted)}{self._summary()}"
        )

    def assert_not_tracked(self, event: str | Declared | type | None = None, /, **properties: Any) -> None:
        """Check that no such event was tracked; without a name, that nothing was."""
        __tracebackhide__ = True
        name, wanted = ("", {}) if event is None else _wanted(event, properties)
        matching = self.events if event is None else self._find(name, wanted)
        if matching:
            lines = "\n".join(f"  {each.name}: {dict(each.properties)}" for each in matching[:_MAX_SHOWN])
            description = "Something" if event is None else f"{name!r}{_with(wanted)}"
            raise AssertionError(f"{description} was tracked {_times(len(matching))}:\n{lines}")

    def assert_order(self, *events: str) -> None:
        """Check that these were tracked one after the other, whatever else was between them."""
        __tracebackhide__ = True
        remaining = iter(self.names)
        for index, event in enumerate(events):
            if event not in remaining:
                before = f" after {' → '.join(map(repr, events[:index]))}" if index else ""
                raise AssertionError(f"{event!r} was not tracked{before}.\nTracked: {' → '.join(self.names)}")

    def _nearest(self, event: str, wanted: Mapping[str, Any]) -> str:
        same_name = [each for each in self.events if each.name == event]
        ranked = sorted(same_name, key=lambda each: len(_differences(each, wanted)))
        lines = []
        for each in ranked[:_MAX_SHOWN]:
            lines.append(f"  {each.name}:")
            for name, expected in _differences(each, wanted).items():
                actual = each.properties.get(name, _ANY)
                was = "missing" if actual is _ANY else repr(actual)
                lines.append(
                    f"    {name}: {was}, expected {'any value' if expected is ... else repr(expected)}"
                )
        return "Nearest:\n" + "\n".join(lines) + "\n" if lines else ""

    def _summary(self) -> str:
        counted = Counter(self.names)
        listed = ", ".join(f"{name!r}{f' x{count}' if count > 1 else ''}" for name, count in counted.items())
        return f"Tracked: {listed or 'nothing'}."


@contextlib.contextmanager
def capture_events() -> Iterator[TrackedEvents]:
    """Catch everything that any tracker of this process tracks within the block."""
    events = TrackedEvents()
    recorder.begin(events)
    try:
        yield events
    finally:
        recorder.end(events)


def _wanted(event: str | Declared | type, properties: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and properties of what is looked for."""
    if isinstance(event, str):
        return event, _as_json(properties)
    cls = event if isinstance(event, type) else type(event)
    name = getattr(cls, EVENT_NAME, None)
    if name is None:
        raise TypeError(f"{cls.__name__} is not declared in a tracking plan; look for an event by its name")
    values = {} if isinstance(event, type) else values_of(event)
    return name, _as_json({**values, **properties})


def _as_json(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they are after their way through JSON; `...` stays."""
    set_values = {name: value for name, value in properties.items() if value is not ...}
    encoded: dict[str, Any] = orjson.loads(encode(set_values))
    return {**dict.fromkeys(properties, ...), **encoded}


def _differences(event: TrackedEvent, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the wanted properties that the event has not, or has otherwise."""
    return {
        name: value
        for name, value in wanted.items()
        if name not in event.properties or (value is not ... and event.properties[name] != value)
    }


def _times(count: int | None) -> str:
    return "once" if count == 1 else f"{count} times"


def _with(wanted: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{name}={'...' if value is ... else repr(value)}" for name, value in wanted.items())
    return f" with {listed}" if listed else ""


def _subject_id(update: TrackedUpdate) -> str:
    return str(update.message.get("$distinct_id", "")).removeprefix(DEVICE_PREFIX)
