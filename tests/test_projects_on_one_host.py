"""Two applications under one host, each with its Mixpanel project: neither sees the other's visitors."""

import logging

import pytest
from support.clients import CLIENTS
from support.responses import Jar, cookie_name
from support.trackers import SECRET_KEY, recording_tracker

TOKENS = ("1111111111111111", "2222222222222222")
OTHER_KEY = "another-key-of-some-length"


@pytest.fixture(params=list(CLIENTS))
def sites(request):
    """Return what builds the two applications, asked by one browser, and their spools."""

    def build(*, keys=(SECRET_KEY, SECRET_KEY), **settings):
        made = [
            recording_tracker(token=token, secret_key=key, durability="before-response", **settings)
            for token, key in zip(TOKENS, keys, strict=True)
        ]
        said = {}

        def handle(visitor):
            said["do"](visitor)

        clients = [CLIENTS[request.param](tracker, handle) for tracker, _ in made]
        jar = Jar()
        for client in clients:
            client.jar = jar

        def ask(number, do):
            said["do"] = do
            return clients[number].request("GET", "/", {"accept": "text/html"}, scheme="https")

        return ask, [spool for _, spool in made], [tracker for tracker, _ in made]

    return build


def log_in(visitor):
    visitor.identify("42")
    visitor.track("Logged in")


def look(visitor):
    visitor.track("Seen")


def users(spool):
    return [event["properties"].get("$user_id") for event in spool.events]


@pytest.mark.parametrize("keys", [(SECRET_KEY, SECRET_KEY), (SECRET_KEY, OTHER_KEY)])
@pytest.mark.parametrize("settings", [{}, {"cookie_domain": "example.com"}])
def test_each_has_its_own_visitor(sites, keys, settings):
    """With one key for both or two, on one host or on sibling hosts, a log-in at one is none at the other."""
    ask, (first, second), _ = sites(keys=keys, **settings)
    ask(0, log_in)
    for _ in range(2):
        ask(1, look)
        ask(0, look)
    assert users(first) == ["42", "42", "42"]
    assert users(second) == [None, None]
    assert len({event["properties"]["$device_id"] for event in second.events}) == 1


def test_one_key_under_one_name_is_not_enough(sites):
    """Who gives both the same `cookie_name` gets a new visitor at each change, never the other's user."""
    ask, (_, second), _ = sites(cookie_name="who")
    ask(0, log_in)
    ask(1, look)
    assert users(second) == [None]


def test_the_names_are_those_of_the_tokens(sites):
    """`mpv_` and eight digits of the token's hash; what our script reads is called after it."""
    ask, _, _ = sites()
    cookies = [ask(number, look).values("set-cookie")[0] for number in (0, 1)]
    assert [cookie.partition("=")[0] for cookie in cookies] == [
        f"__Host-{cookie_name(token)}" for token in TOKENS
    ]


def test_a_cookie_of_another_key_is_logged_once(sites, caplog):
    """The line says what it may be and how to mend it; a flood of forged cookies does not flood the log."""
    caplog.set_level(logging.WARNING, "mixpanel_visitor")
    ask, _, trackers = sites(keys=(SECRET_KEY, OTHER_KEY), cookie_name="who")
    for _ in range(3):
        ask(0, look)
        ask(1, look)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2  # each of the two applications one
    assert all("'who'" in line and "cookie_name" in line and "secret_key" in line for line in lines)
    assert [tracker.stats()["notes"]["cookie_bad_signature"] for tracker in trackers] == [2, 3]
