"""What the browser SDK asks Mixpanel for, asked on its behalf."""

import pytest

from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI, Response
from mixpanel_visitor.delivery.sending.pass_through import CACHE_S, MAX_CONNECTIONS, PassThrough
from mixpanel_visitor.emulator import LocalMixpanel

TARGET = "/settings/?mp_lib=web"


class Asked:
    """Answers like a connection, and remembers how often it was asked."""

    def __init__(self, **headers):
        self.count = 0
        self.now_s = 0.0
        self.answer = Response(status=200, headers=headers, body=b"{}")
        self.during = lambda: None

    def request(self, *_given, **_more):
        self.count += 1
        self.during()
        return self.answer

    def close(self, _timeout_s):
        """It is no connection."""

    def way(self):
        return PassThrough(lambda: self, monotonic=lambda: self.now_s)


def test_what_is_the_same_for_everybody_is_remembered_for_a_minute():
    """And asked for again after that."""
    asked = Asked()
    way = asked.way()
    for _ in range(5):
        assert way.ask("GET", TARGET, {}, is_shared=True).body == b"{}"
    assert asked.count == 1
    asked.now_s = CACHE_S
    way.ask("GET", TARGET, {}, is_shared=True)
    assert asked.count == 2


@pytest.mark.parametrize("says", ["no-store", "private, max-age=60", "no-cache", "max-age=0"])
def test_what_mixpanel_does_not_want_to_be_kept_is_not(says):
    """Its word counts."""
    asked = Asked(**{"cache-control": says})
    way = asked.way()
    for _ in range(2):
        way.ask("GET", TARGET, {}, is_shared=True)
    assert asked.count == 2


def test_what_is_one_visitors_is_not_remembered():
    """Flags differ from one to the next."""
    asked = Asked()
    way = asked.way()
    for _ in range(2):
        way.ask("GET", TARGET, {})
    assert asked.count == 2


def test_no_more_than_a_few_ask_at_once():
    """Who comes when all connections are used is refused at once."""
    asked = Asked()
    way = asked.way()
    failures = []

    def ask():
        if asked.count <= MAX_CONNECTIONS:
            failures.append(way.ask("GET", TARGET, {}).failure)

    asked.during = ask
    way.ask("GET", TARGET, {})
    assert asked.count == MAX_CONNECTIONS
    assert failures[0].startswith("refused")
    asked.during = lambda: None
    assert way.ask("GET", TARGET, {}).status == 200


def test_it_asks_with_the_projects_credentials():
    """Over a connection of its own; a failure is an answer."""
    with LocalMixpanel() as local:
        way = PassThrough(lambda: MixpanelAPI(local.url, "t"))
        assert way.ask("GET", "/flags/?token=t", {"x-forwarded-for": "203.0.113.7"}).status == 200
        assert local.store.stats()["requests"]["/flags"]["200"] == 1
    assert way.ask("GET", "/flags/", {}).failure
    way.close()
