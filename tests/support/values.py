"""Values of many types for tests, and what an event says of one."""

import dataclasses
import enum

import orjson
import pytest

from mixpanel_visitor.core.events.record_builder import event_record
from mixpanel_visitor.errors import InvalidEventError

NOW_MS = 1_763_900_000_000


class Colour(enum.Enum):
    RED = "red"
    THING = object()


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Node:
    next: object = None


class Nameless:
    """Something that nobody knows."""

    def __str__(self):
        return "nameless " * 100


class Hostile:
    """Raises at whatever is done with it."""

    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __len__ = __iter__ = __hash__ = __str__


def of_event(value):
    """Return what an event says of this value, and the types that it told of."""
    told = []
    stamps = {"distinct_id": "u", "$insert_id": "i", "time": NOW_MS}
    record = event_record(
        {"event": "e", "properties": {**stamps, "x": value}},
        on_stringified=lambda name, kind: told.append((name, kind)),
    )
    return orjson.loads(record.body)["properties"]["x"], told


def outcome(make):
    """Return the bytes that `make` gives, or the reason why it gives none."""
    try:
        return make()
    except InvalidEventError as error:
        return error.reason


def reason(value):
    """Return why an event with this value is refused."""
    with pytest.raises(InvalidEventError) as caught:
        of_event(value)
    return caught.value.reason
