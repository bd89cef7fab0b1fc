"""Clients of an application, and sites with a collector, over either protocol."""

import pytest
from support.clients import CLIENTS
from support.collector_sites import Site
from support.trackers import recording_tracker


@pytest.fixture(params=list(CLIENTS))
def make_client(request):
    """Return a client over either protocol, its tracker and its spool."""

    def build(handler=lambda _visitor: None, **settings):
        tracker, spool = recording_tracker(durability="before-response", **settings)
        return CLIENTS[request.param](tracker, handler), tracker, spool

    return build


@pytest.fixture(params=list(CLIENTS))
def make(request):
    """Return a site over either protocol, with settings."""
    sites = []

    def make(**settings):
        sites.append(Site(request.param, **settings))
        return sites[-1]

    yield make
    for site in sites:
        site.tracker.close(0)
