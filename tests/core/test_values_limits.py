"""Values: which are refused for their depth and size, and that none is dear."""

import collections
import dataclasses
import sys
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.components import needs_module
from support.values import NOW_MS, Colour, Hostile, Level, Nameless, Node, of_event, outcome, reason

from mixpanel_visitor.core.events.encoding import converted, encode_part
from mixpanel_visitor.core.events.record_builder import event_record, profile_record
from mixpanel_visitor.core.events.redaction import Redactor
from mixpanel_visitor.core.events.values import MAX_RECORD_BYTES, PROFILE
from mixpanel_visitor.emulator.rules import Event, check_event

# --- limits ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Deep:
    within: object


WIDE = dataclasses.make_dataclass("Wide", [(f"f{number}", int, 0) for number in range(255)])


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"b": {"c": {"d": 1}}}},
        [[[[1]]]],
        MappingProxyType({"a": {"b": {"c": {"d": 1}}}}),
        Deep(Deep(Deep(Deep(1)))),
        SimpleNamespace(a=SimpleNamespace(b=SimpleNamespace(c=SimpleNamespace(d=1)))),
        [Deep([[1]])],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_nested_too_deeply_is_refused(value):
    """Whatever it was made of: the limit is Mixpanel's on what is sent."""
    assert reason(value) == "too_deep"


@pytest.mark.parametrize(
    "value",
    [
        list(range(255)),
        tuple(range(255)),
        set(range(255)),
        range(255),
        range(10**9),
        collections.deque(range(255)),
        dict.fromkeys(range(255)).keys(),
        {str(number): 1 for number in range(255)},
        MappingProxyType({str(number): 1 for number in range(255)}),
        WIDE(),
        SimpleNamespace(**{f"f{number}": 1 for number in range(255)}),
        {"a": [0] * 255},
        "y" * MAX_RECORD_BYTES,
        b"y" * MAX_RECORD_BYTES,
        [["y" * 10_000] * 254] * 254,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_too_large_is_refused(value):
    """Whatever it was made of."""
    assert reason(value) == "too_large"


@needs_module("numpy")
def test_arrays_and_columns_have_the_same_limits():
    """Their size is asked before they are read."""
    import numpy as np

    assert reason(np.zeros(300)) == "too_large"
    assert reason(np.zeros((2, 300))) == "too_large"
    assert reason(np.zeros((1, 1, 1, 1))) == "too_deep"
    assert reason(np.broadcast_to(np.float64(0), 10**12)) == "too_large"


@needs_module("pandas")
def test_columns_have_the_same_limits():
    """A column of 300 rows is a list of 300 items."""
    import pandas as pd

    assert reason(pd.Series(range(300))) == "too_large"
    assert reason(pd.RangeIndex(10**12)) == "too_large"


def test_at_the_limit_is_accepted():
    """Mixpanel takes 254 items, 254 keys, three levels."""
    values = [list(range(254)), dict.fromkeys(map(str, range(254)), 1), [[[1]]], Deep(Deep(Deep(1)))]
    assert all(of_event(value)[0] for value in values)


# --- what it costs --------------------------------------------------------------------------------


class Counted(int):
    """Counts how often an item is asked for."""

    asked = 0


class Endless(collections.abc.Sequence):
    """A sequence that says it is short and never ends."""

    read = 0

    def __len__(self):
        return 1

    def __getitem__(self, index):
        Endless.read += 1
        return index


def test_a_list_that_lies_about_its_length_is_read_no_further_than_the_limit():
    """Nobody waits for its end."""
    Endless.read = 0
    assert reason(Endless()) == "too_large"
    assert Endless.read <= 300


def steps(call):
    """Count the lines of Python and the calls into C that a call makes."""
    number = 0

    def count(_frame, event, _argument):
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return number


DEAR = {
    "one long text": lambda size: "y" * size,
    "a decimal of five characters": lambda size: Decimal(f"1E+{size}"),
    "a decimal of many digits": lambda size: Decimal("9" * size),
    "an integer": lambda size: 1 << (4 * size),
    "a fraction": lambda size: Fraction((1 << size) + 1, 1 << size),
    "integers in a set": lambda size: {1 << (4 * size), 2 << (4 * size)},
    "integers as names": lambda size: {1 << (4 * size): 1},
    "a range": range,
    "a list": lambda size: [0] * size,
    "bytes": lambda size: b"\xff" * size,
    "a list that holds one list 254 times, and so on": lambda _size: [[[["x"] * 254] * 254] * 254] * 254,
    "a dict that holds itself 254 times": lambda _size: wide_knot(),
    "a deep list": lambda size: deep(size // 100),
    "a wide dict": lambda size: dict.fromkeys(range(size // 10), 0),
    "text that is longer in JSON": lambda size: "\u0001" * size,
}


def wide_knot():
    """A dict each of whose values is the dict."""
    itself: dict[str, object] = {}
    itself.update((str(number), itself) for number in range(254))
    return itself


def deep(levels):
    """A list in a list, so many of them."""
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("kind", DEAR)
def test_no_value_costs_more_steps_than_bytes_come_out(kind):
    """A value a hundred times as large takes as many steps, if it puts out no more."""

    def cost(size):
        value = DEAR[kind](size)

        def call():
            return outcome(lambda: of_event(value))

        call()
        return steps(call)

    assert cost(1_000_000) <= cost(10_000) + 3_000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", DEAR)
def test_no_value_holds_the_interpreter(kind):
    """Each took minutes or more where digits are written or lists are walked; the bound only ends hangs."""
    value = DEAR[kind](3_000_000)
    for limits in ({}, {"limits": PROFILE}):
        sent = outcome(lambda limits=limits: encode_part(converted({"x": value}, **limits)))
        assert sent in ("too_large", "too_deep") or len(sent) <= 10 * MAX_RECORD_BYTES


NESTED = {
    "lists": lambda number: [[] for _ in range(number)],
    "lists of one item": lambda number: [[0] for _ in range(number)],
    "objects": lambda number: [{} for _ in range(number)],
    "objects in an object": lambda number: {
        f"{each:x}": [{} for _ in range(100)] for each in range(number // 100)
    },
    "chains": lambda number: [deep(20) for _ in range(number // 20)],
    "one list in another": lambda number: [[[[] for _ in range(number)]]],
}


def profile_of(value):
    """Return the record of a profile with this value, and look in it for secrets."""
    update = {"$token": "t", "$distinct_id": "u", "$set": {"x": value}}
    clean = Redactor().clean
    return profile_record("engage", update, clean=lambda plain: clean(plain, lambda _name: None)).body


@pytest.mark.parametrize("kind", NESTED)
def test_thousands_of_lists_in_a_profile_are_read_together(kind):
    """Each of them took Python a step of its own: half a second for ninety thousand."""
    value = NESTED[kind](20_000)
    sent = []
    number = steps(lambda: sent.append(profile_of(value)))
    assert orjson.loads(sent[0])["$set"]["x"] == value
    assert number <= 3_000


def test_lists_in_an_event_are_read_together():
    """Mixpanel takes 254 lists of 254 lists."""
    value = [[[] for _ in range(254)] for _ in range(254)]
    assert steps(lambda: of_event(value)) <= 3_000
    assert of_event(value) == (value, [])


@pytest.mark.parametrize("number", [140_000, 1_000_000])
@pytest.mark.parametrize("kind", NESTED)
def test_lists_and_objects_of_a_profile_have_a_limit(kind, number):
    """Mixpanel documents 256 KB for one; what has more is refused before it is walked through."""
    value = NESTED[kind](number)
    reasons = []
    assert steps(lambda: reasons.append(outcome(lambda: profile_of(value)))) <= 3_000
    assert reasons == ["too_large"]


@pytest.mark.parametrize(
    "value",
    [
        ["y" * 100] * 2_700,
        {f"{number:06}": number for number in range(20_000)},
        [1 / 3] * 14_000,
        ["\u0001"] * 33_000,
        [Decimal(1) / 3] * 14_000,
    ],
    ids=["texts", "names", "numbers", "signs", "decimals"],
)
def test_the_limit_of_lists_and_objects_is_on_what_is_sent(value):
    """The limit is one of bytes of JSON, and of one property."""
    assert outcome(lambda: profile_of(value)) == "too_large"
    half = list(value)[: len(value) // 2]
    update = {"$token": "t", "$distinct_id": "u", "$set": {"x": half, "y": half, "z": "y" * 300_000}}
    assert profile_record("engage", update).body


def test_at_the_limit_of_a_profile_is_accepted():
    """256 KB are 262,144 bytes, with the brackets."""
    most = ["y" * 260_000, "y" * (262_144 - 260_007)]
    assert len(orjson.dumps(most)) == 262_144
    assert orjson.loads(profile_of(most))["$set"]["x"] == most
    assert outcome(lambda: profile_of([*most[:-1], most[-1] + "y"])) == "too_large"


def test_a_wide_value_that_holds_itself_is_cut():
    """It seems to be endless, and is cut where it begins again."""
    itself = [[] for _ in range(300)]
    itself[7].append(itself)
    assert orjson.loads(profile_of(itself))["$set"]["x"] == [*[[]] * 7, ["[...]"], *[[]] * 292]


def test_a_list_that_is_there_twice_is_sent_twice():
    """At different depths, too."""
    shared = list(range(20))
    value = [shared, [shared], *([0] * 20)]
    assert orjson.loads(profile_of(value))["$set"]["x"] == value


def test_a_secret_among_thousands_of_objects_is_found():
    """Reading them together leaves none out."""
    value = [*({"a": 1} for _ in range(1_000)), {"b": [{"password": "hush"}]}]
    assert b"hush" not in profile_of(value)


NUMBERS = (
    st.integers(-10_000, 10_000).map(lambda exponent: Decimal(f"7E{exponent}"))
    | st.integers(0, 40_000).map(lambda bits: -1 << bits)
    | st.fractions()
    | st.floats()
    | st.complex_numbers()
    | st.decimals(allow_nan=False)
)
LEAVES = (
    NUMBERS
    | st.decimals()
    | st.none()
    | st.booleans()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.timedeltas()
    | st.times()
    | st.uuids()
    | st.ip_addresses()
    | st.builds(Hostile)
    | st.builds(Nameless)
    | st.sampled_from([Colour.RED, Colour.THING, Level.HIGH, object, len, range(400), iter(())])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(collections.deque)
        | st.dictionaries(NUMBERS | st.text() | st.tuples(st.integers()), inner)
        | st.builds(Node, inner)
        | inner.map(lambda value: SimpleNamespace(a=value))
        | st.frozensets(NUMBERS | st.text())
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_any_value_is_sent_or_beyond_a_limit(value):
    """What is sent is JSON in one line, in no more steps than it has bytes, and Mixpanel takes it."""
    stamps = {"distinct_id": "u", "$insert_id": "i", "time": NOW_MS}
    event = {"event": "e", "properties": {**stamps, "x": value}}
    sent = []
    number = steps(lambda: sent.append(outcome(lambda: event_record(event).body)))
    (body,) = sent
    if isinstance(body, bytes):
        assert b"\n" not in body
        assert "x" in orjson.loads(body)["properties"]
        assert number <= 3_000 + 60 * len(body)
        assert isinstance(check_event(orjson.loads(body), endpoint="import", now_ms=NOW_MS), Event)
    else:
        assert body in ("too_deep", "too_large")
