"""The browser, the servers and the journeys through them."""

from __future__ import annotations

import contextlib

import pytest
from support.components import needs, needs_module

NEEDED = (needs("chromium"), needs("npm"), needs_module("playwright"), needs_module("trustme"))


def pytest_runtest_setup(item):
    """Skip journeys where something is missing: here, so that it is one line and not one for each of them."""
    if "chromium" in item.fixturenames:
        for mark in NEEDED:
            if mark.args[0]:
                pytest.skip(mark.kwargs["reason"])


@pytest.fixture(scope="session")
def chromium():
    """Give one browser for all journeys."""
    from support.browser import Chromium

    with Chromium() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Give the certificate of example.com."""
    from support.browser_servers import Certificate

    return Certificate.made(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def front(certificate):
    """Give the servers that the browser can reach."""
    from support.browser_servers import served_front

    with served_front(certificate) as front:
        yield front


@pytest.fixture(params=["simplified", "original"])
def id_merge(request):
    """Give each way in turn in which a Mixpanel project merges IDs."""
    return request.param


@pytest.fixture
def start(chromium, front, certificate, id_merge):
    """Start a journey: fields of `Plan` as keywords, and settings of ours."""
    from support.browser_journey import Journey, Plan

    of_plan = set(Plan.__dataclass_fields__) - {"settings"}
    with contextlib.ExitStack() as running:

        def started(**given):
            settings = {name: given.pop(name) for name in set(given) - of_plan}
            plan = Plan(**{"id_merge": id_merge, "config": {}, **given}, settings=settings)
            journey = running.enter_context(Journey(chromium, front, certificate, plan))
            running.callback(_check_that_all_was_ours, journey)
            return journey

        yield started


def _check_that_all_was_ours(journey):
    assert journey.strangers == []
