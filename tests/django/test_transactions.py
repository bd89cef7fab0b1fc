"""Events that count only if the transaction does: `transaction.on_commit` with `visitor.track`."""

from functools import partial

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client


def buy(request):
    """Track once the transaction is committed; with `fail` it is not."""
    with transaction.atomic():
        transaction.on_commit(partial(request.visitor.track, "Bought", {"price": 12}))
        if "fail" in request.GET:
            raise RuntimeError("no stock")
    return HttpResponse(request.visitor_id)


@pytest.fixture
def client(tables, urls):
    """Return the client of the shop."""
    urls(buy=buy)
    return Client(raise_request_exception=False)


def test_a_transaction_that_is_committed(client, mixpanel_events):
    """The event is the visitor's."""
    visitor_id = client.get("/buy/").content.decode()
    assert mixpanel_events.of(visitor_id).assert_tracked("Bought").properties["price"] == 12


def test_a_transaction_that_is_rolled_back(client, mixpanel_events):
    """There is no event."""
    assert client.get("/buy/?fail").status_code == 500
    assert mixpanel_events.names == []


def test_a_request_in_one_transaction(client, urls, mixpanel_events):
    """With ATOMIC_REQUESTS the view's transaction ends before the middleware has the response."""
    urls(buy=transaction.atomic(buy))
    client.get("/buy/")
    client.get("/buy/?fail")
    assert mixpanel_events.names == ["Bought"]
