"""The official library posts here unchanged, and every method of it is accepted."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

import mixpanel
import pytest

from mixpanel_visitor.emulator import LocalMixpanel

NOW_S = 1_800_000_000

HAS_ACCOUNTS = hasattr(mixpanel, "ServiceAccountCredentials")
"""Releases before 5 know the project's API secret only."""

SECRET = {} if HAS_ACCOUNTS else {"api_secret": "secret"}

EVENTS = {
    "track": lambda mp: mp.track("u-1", "Signed up", {"plan": "pro"}),
    "import_data": lambda mp: mp.import_data(
        None, "u-1", "Signed up", NOW_S - 9_000_000, {"plan": "pro"}, **SECRET
    ),
    "merge": lambda mp: mp.merge(None, "u-1", "u-2", **SECRET),
    "alias": lambda mp: mp.alias("u-1", "d-1"),
}
PEOPLE = {
    "people_set": lambda mp: mp.people_set("u-1", {"$email": "a@example.com"}),
    "people_set_once": lambda mp: mp.people_set_once("u-1", {"first": 1}),
    "people_increment": lambda mp: mp.people_increment("u-1", {"visits": 2}),
    "people_append": lambda mp: mp.people_append("u-1", {"items": "tea"}),
    "people_union": lambda mp: mp.people_union("u-1", {"items": ["tea", "mug"]}),
    "people_unset": lambda mp: mp.people_unset("u-1", ["items"]),
    "people_remove": lambda mp: mp.people_remove("u-1", {"items": "tea"}),
    "people_track_charge": lambda mp: mp.people_track_charge("u-1", 5, {"of": "tea"}),
    "people_clear_charges": lambda mp: mp.people_clear_charges("u-1"),
    "people_delete": lambda mp: mp.people_delete("u-1"),
}
GROUPS = {
    "group_set": lambda mp: mp.group_set("company", "Acme", {"size": 5}),
    "group_set_once": lambda mp: mp.group_set_once("company", "Acme", {"size": 5}),
    "group_union": lambda mp: mp.group_union("company", "Acme", {"tags": ["a"]}),
    "group_unset": lambda mp: mp.group_unset("company", "Acme", ["tags"]),
    "group_remove": lambda mp: mp.group_remove("company", "Acme", {"tags": "a"}),
    "group_delete": lambda mp: mp.group_delete("company", "Acme"),
}


@pytest.fixture
def local():
    """Return a local Mixpanel with the real clock: the library stamps with it."""
    with LocalMixpanel() as local:
        yield local


LIBRARY = f"mixpanel {importlib.metadata.version('mixpanel')} (Python)"


@pytest.fixture
def library(local, monkeypatch):
    """Return the library's own client and consumer; only the addresses are ours."""
    consumers: list[Any] = []
    urls = {
        f"{name}_url": f"{local.url}/{path}"
        for name, path in [
            ("events", "track"),
            ("people", "engage"),
            ("groups", "groups"),
            ("import", "import"),
        ]
    }
    credentials = {}
    if HAS_ACCOUNTS:
        credentials["credentials"] = mixpanel.ServiceAccountCredentials("name", "secret", "12345")
    original = mixpanel.Consumer

    def consumer(**options: Any) -> Any:
        made = original(**urls, request_timeout=10, retry_limit=0, **options)
        consumers.append(made)
        return made

    # `alias` makes a consumer of its own, which otherwise talks to api.mixpanel.com.
    monkeypatch.setattr(mixpanel, "Consumer", functools.partial(consumer, **credentials))
    yield mixpanel.Mixpanel("some-token", consumer=mixpanel.Consumer())
    for each in consumers:
        each._session.close()


@pytest.mark.parametrize("method", EVENTS)
def test_its_events_are_accepted(library, local, method, note_sent):
    """Each arrives once, with its token."""
    EVENTS[method](library)
    (stored,) = local.store.events()
    assert stored.properties["token"] == "some-token"
    assert local.store.rejections() == []
    note_sent(LIBRARY, method, local)


@pytest.mark.parametrize("method", PEOPLE)
def test_its_updates_of_people_are_accepted(library, local, method, note_sent):
    """Each is applied."""
    PEOPLE[method](library)
    assert local.store.stats()["profile_updates"] == 1
    assert local.store.rejections() == []
    note_sent(LIBRARY, method, local)


@pytest.mark.parametrize("method", GROUPS)
def test_its_updates_of_groups_are_accepted(library, local, method, note_sent):
    """Each is applied."""
    GROUPS[method](library)
    assert local.store.stats()["groups"] == 1
    assert local.store.rejections() == []
    note_sent(LIBRARY, method, local)


def test_no_method_is_forgotten():
    """All that it can send is in this file."""
    methods = {
        name
        for name in dir(mixpanel.Mixpanel)
        if not name.startswith("_") and callable(getattr(mixpanel.Mixpanel, name))
    }
    assert methods - {"people_update", "group_update"} == {*EVENTS, *PEOPLE, *GROUPS}


def test_its_api_secret_is_accepted(library, local):
    """The older credentials of import_data."""
    library._consumer._credentials = None
    library.import_data(None, "u-1", "Old", NOW_S - 9_000_000, api_secret="secret")
    assert local.store.events()[0].name == "Old"


def test_its_buffered_consumer_is_accepted(local, note_sent):
    """It sends lists."""
    buffered = mixpanel.BufferedConsumer(
        events_url=f"{local.url}/track", people_url=f"{local.url}/engage", request_timeout=10, retry_limit=0
    )
    library = mixpanel.Mixpanel("some-token", consumer=buffered)
    for number in range(5):
        library.track("u-1", f"Event {number}")
        library.people_increment("u-1", {"visits": 1})
    buffered.flush()
    buffered._consumer._session.close()
    assert len(local.store.events()) == 5
    assert local.store.profiles()[0].properties == {"visits": 5}
    note_sent(LIBRARY, "BufferedConsumer", local)


def test_it_is_told_what_is_wrong(library):
    """The library raises with our reason."""
    with pytest.raises(mixpanel.MixpanelException, match=r"distinct_id.*not allowed"):
        library.track("null", "Signed up")
    with pytest.raises(mixpanel.MixpanelException, match=r"visits.*must be a number"):
        library.people_increment("u-1", {"visits": "many"})


def test_it_is_told_that_credentials_are_wrong(library):
    """Without any, /import is closed."""
    library._consumer._credentials = None
    with pytest.raises(mixpanel.MixpanelException, match="Invalid credentials"):
        library.import_data(None, "u-1", "Old", NOW_S - 9_000_000)
