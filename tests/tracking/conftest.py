"""Clients of an application, over either protocol."""

import pytest
from support.clients import CLIENTS
from support.trackers import recording_tracker


@pytest.fixture(params=list(CLIENTS))
def make_client(request):
    """Return a client over either protocol, its tracker and its spool."""

    def build(handler=lambda _visitor: None, **settings):
        tracker, spool = recording_tracker(durability="before-response", **settings)
        return CLIENTS[request.param](tracker, handler), tracker, spool

    return build
