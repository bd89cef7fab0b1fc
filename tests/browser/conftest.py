"""The browser, the servers and the journeys through them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from zlib import crc32

import pytest
from support.components import needs, needs_module

NEEDED = (needs("npm"), needs_module("playwright"), needs_module("trustme"))
HERE = Path(__file__).parent
ALWAYS_IN_BOTH_WAYS = {"test_log_in", "test_log_out", "test_sites", "test_collector", "test_flags"}
BROWSERS = {"chromium": (needs("chromium"),), "firefox": (needs("firefox-esr"), needs_module("websockets"))}


def pytest_runtest_setup(item):
    """Skip journeys where something is missing: here, so that it is one line and not one for each of them."""
    for browser, needed in BROWSERS.items():
        for mark in (*needed, *NEEDED) if browser in item.fixturenames else ():
            if mark.args[0]:
                pytest.skip(mark.kwargs["reason"])


def pytest_collection_modifyitems(config, items):
    """Walk most journeys in one of the two ways of merging IDs; `--every-id-merge` walks all in both.

    Who logs in and out is walked in both ways always. Which way it is depends on the test's name, so that
    each way has its share.
    """
    if config.getoption("--every-id-merge"):
        return
    both = []
    for item in items:
        one = getattr(item, "callspec", None) and item.callspec.params.get("id_merge")
        if one and item.path.parent == HERE and item.path.stem not in ALWAYS_IN_BOTH_WAYS:
            without = item.name.replace(one, "")
            if one != ("simplified", "original")[crc32(without.encode()) % 2]:
                both.append(item)
    if both:
        config.hook.pytest_deselected(items=both)
        left_out = set(both)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def chromium():
    """Return one browser for all journeys."""
    from support.browser import Chromium

    with Chromium() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def firefox():
    """Return another browser for some of them."""
    from support.firefox import Firefox

    with Firefox() as firefox:
        yield firefox


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Return the certificate of example.com."""
    from support.browser_servers import Certificate

    return Certificate.made(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def front(certificate):
    """Return the servers that the browser can reach."""
    from support.browser_servers import served_front

    with served_front(certificate) as front:
        yield front


@pytest.fixture(params=["simplified", "original"])
def id_merge(request):
    """Return each way in turn in which a Mixpanel project merges IDs."""
    return request.param


@pytest.fixture(scope="session")
def through_collector(request):
    """Return whether all journeys send the browser's events through the shop: `--through-collector`."""
    return request.config.getoption("--through-collector")


@pytest.fixture
def start(chromium, front, certificate, id_merge, through_collector):
    """Start a journey: fields of `Plan` as keywords, and settings of ours."""
    with _starting(chromium, front, certificate, id_merge, through_collector) as started:
        yield started


@pytest.fixture
def start_in_firefox(firefox, front, certificate, id_merge, through_collector):
    """Start a journey in Firefox."""
    with _starting(firefox, front, certificate, id_merge, through_collector) as started:
        yield started


@contextlib.contextmanager
def _starting(browser, front, certificate, id_merge, through_collector):
    from support.browser_journey import Journey, Plan

    of_plan = set(Plan.__dataclass_fields__) - {"settings"}
    with contextlib.ExitStack() as running:

        def started(**given):
            settings = {name: given.pop(name) for name in set(given) - of_plan}
            if through_collector and not given.get("installed", True):
                pytest.skip("without the middleware there is no collector")
            usual = {"id_merge": id_merge, "config": {}, "collector": through_collector}
            plan = Plan(**{**usual, **given}, settings=settings)
            journey = running.enter_context(Journey(browser, front, certificate, plan))
            running.callback(_check_that_all_was_ours, journey)
            return journey

        yield started


def _check_that_all_was_ours(journey):
    assert journey.strangers == []
