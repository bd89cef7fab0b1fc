"""Times: what may be given as `time`, and the milliseconds that it becomes."""

import datetime as dt
import os
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from support.components import needs_module

from mixpanel_visitor.core.events.timestamps import time_ms
from mixpanel_visitor.errors import InvalidEventError

NOW_MS = 1_763_900_000_000
HOUR_MS = 3_600_000
EAST = dt.timezone(dt.timedelta(hours=2))


@pytest.fixture(params=["America/New_York", "Asia/Tokyo", "Asia/Kolkata", "UTC"])
def local_zone(request, monkeypatch):
    """The process is somewhere, and its clock says local time."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    os.environ.setdefault("TZ", "")
    os.environ.pop("TZ")
    time.tzset()


def refused(value):
    with pytest.raises(InvalidEventError) as caught:
        time_ms(value, now_ms=NOW_MS)
    assert caught.value.reason == "bad_time"
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, NOW_MS),
        (1_763_900_000, NOW_MS),
        (1_763_900_000.123, NOW_MS + 123),
        (1_763_900_000_123, NOW_MS + 123),
        (Decimal("1763900000.123"), NOW_MS + 123),
        (Decimal(1_763_900_000_123), NOW_MS + 123),
        (Fraction(3_527_800_001, 2), NOW_MS + 500),
        (dt.datetime(2025, 1, 1, tzinfo=dt.UTC), 1_735_689_600_000),
        (dt.datetime(2025, 1, 1, 2, tzinfo=EAST), 1_735_689_600_000),
        (NOW_MS + HOUR_MS, NOW_MS + HOUR_MS),
        (31_536_000, 31_536_000_000),
    ],
)
def test_a_given_time_becomes_milliseconds(given, expected):
    """Seconds, milliseconds and datetimes are understood, in any of Python's numbers; None is now."""
    assert time_ms(given, now_ms=NOW_MS) == expected


@pytest.mark.parametrize(
    "bad",
    [
        "now",
        b"1763900000",
        True,
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("sNaN"),
        12,
        2**60,
        10**400,
        Decimal("1E+200000"),
        NOW_MS + HOUR_MS + 1,
        dt.datetime.max.replace(tzinfo=dt.UTC),
        dt.datetime.min.replace(tzinfo=EAST),
        dt.datetime.max,  # noqa: DTZ901
        dt.datetime.min,  # noqa: DTZ901
        dt.date(2025, 1, 1),
        [1_763_900_000],
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_time_that_mixpanel_does_not_take_is_refused_at_the_call(bad):
    """Before 1971, more than an hour ahead, and what is no time."""
    assert len(refused(bad)) < 200


@pytest.mark.parametrize(
    ("bad", "unit"), [(1_763_900_000_000_000, "microseconds"), (1_763_900_000_000_000_000, "nanoseconds")]
)
def test_a_finer_unit_is_named(bad, unit):
    """Its reader learns by what to divide."""
    assert unit in refused(bad)


def test_a_datetime_without_a_zone_is_local_time(local_zone):
    """As `datetime.timestamp()` has it: `datetime.now()` is this moment wherever the process runs."""
    told = []
    naive = dt.datetime.fromtimestamp(NOW_MS / 1000)  # noqa: DTZ006  # that is the point
    assert time_ms(naive, now_ms=NOW_MS, on_naive=lambda: told.append(local_zone)) == NOW_MS
    assert told == [local_zone]


def test_a_datetime_with_a_zone_is_not_told_of(local_zone):
    """It is that moment, whatever the process's clock says."""
    aware = dt.datetime.fromtimestamp(NOW_MS / 1000, EAST)
    assert time_ms(aware, now_ms=NOW_MS, on_naive=lambda: pytest.fail(local_zone)) == NOW_MS


@needs_module("numpy")
def test_numpy_times(local_zone):
    """Its numbers are numbers, its dates are in UTC as its own "now" is, and NaT is now."""
    import numpy as np

    assert local_zone
    assert time_ms(np.int64(1_763_900_000), now_ms=NOW_MS) == NOW_MS
    assert time_ms(np.float32(1_700_000_000), now_ms=NOW_MS) == 1_700_000_000_000
    assert time_ms(np.datetime64("2025-01-01T00:00:00.5"), now_ms=NOW_MS) == 1_735_689_600_500
    assert time_ms(np.datetime64("2025-01-01"), now_ms=NOW_MS) == 1_735_689_600_000
    assert time_ms(np.datetime64("NaT", "s"), now_ms=NOW_MS) == NOW_MS
    for bad in (np.array([1_763_900_000] * 2), np.array(["2025-01-01"] * 2, "M8[s]"), np.complex128(1)):
        assert refused(bad)


@needs_module("pandas")
def test_pandas_times(local_zone):
    """A Timestamp is a datetime, with a zone or without; NaT and NA are now."""
    import pandas as pd

    told = []
    assert time_ms(pd.Timestamp("2025-01-01", tz="Asia/Tokyo"), now_ms=NOW_MS) == 1_735_657_200_000
    naive = pd.Timestamp(dt.datetime.fromtimestamp(NOW_MS / 1000))  # noqa: DTZ006
    assert time_ms(naive, now_ms=NOW_MS, on_naive=lambda: told.append(local_zone)) == NOW_MS
    assert told == [local_zone]
    assert time_ms(pd.NaT, now_ms=NOW_MS) == time_ms(pd.NA, now_ms=NOW_MS) == NOW_MS
