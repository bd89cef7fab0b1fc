"""The types of settings and counters: what type checkers are told is what holds when the code runs."""

import collections.abc
import datetime as dt
import ipaddress
import os
import typing
from pathlib import Path
from types import UnionType

import pytest
from support.trackers import recording_tracker

import mixpanel_visitor
from mixpanel_visitor.delivery.flags import refresher
from mixpanel_visitor.delivery.sending import stats as delivery_stats
from mixpanel_visitor.records import Endpoint
from mixpanel_visitor.settings import ServiceAccount, Settings, keywords
from mixpanel_visitor.settings.event_plan import EventPlan
from mixpanel_visitor.tracking import stats

NETWORKS = ipaddress.IPv4Network | ipaddress.IPv6Network | ipaddress.IPv4Address | ipaddress.IPv6Address
NAMES = {
    **{name: getattr(collections.abc, name) for name in ("Callable", "Mapping", "Sequence")},
    "timedelta": dt.timedelta,
    "IPv4Network": ipaddress.IPv4Network,
    "IPv6Network": ipaddress.IPv6Network,
    "Network": NETWORKS,
    "PathLike": os.PathLike,
    "EventPlan": EventPlan,
    "ServiceAccount": ServiceAccount,
}
"""What only type checkers import there."""

KEYWORDS = typing.get_type_hints(keywords.SettingsKeywords, localns=NAMES)
FIELDS = typing.get_type_hints(Settings, localns=NAMES)

SHORT_FORMS = {
    "secret_key": ["a-key-of-some-length", b"a-key-of-16-plus", ["the-key-of-2025!", b"the-key-of-2026!"]],
    "service_account": [("robot", "hush", 4711), {"username": "robot", "secret": "hush", "project_id": 4711}],
    "spool": [Path("spool")],
    "browser_sdk": ["mixpanel", ["mixpanel"]],
    "cookie_max_age_s": [dt.timedelta(days=30)],
    "trusted_proxies": ["10.0.0.0/8, ::1", [ipaddress.ip_address("::1")], ipaddress.ip_network("10.0.0.0/8")],
    "visitor_header_hosts": ["billing.internal", ["billing.internal", ".example.com"]],
    "visitor_header_networks": ["10.0.0.0/8", [ipaddress.ip_address("::1")], ipaddress.ip_network("::/8")],
    "scrub": ["default", ["default", "iban"]],
    "page_views": [True, "/shop/*", ["/shop/*"]],
}  # fmt: skip
"""Settings that take more than what they hold, with all of their other forms."""


def parts(hint):
    return set(typing.get_args(hint)) if typing.get_origin(hint) in (UnionType, typing.Union) else {hint}


def words(hint):
    """The parts of a type, and each word of its literals."""
    each = parts(hint) - {type(None)}
    literal = {one for one in each if typing.get_origin(one) is typing.Literal}
    return (each - literal).union(*map(typing.get_args, literal))


def test_every_setting_is_a_typed_keyword_and_no_other():
    """A new field of `Settings` has its line in `SettingsKeywords`, in the same order."""
    assert list(KEYWORDS) == list(FIELDS)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_keyword_has_the_type_of_its_setting(name):
    """Exactly that, and None, unless the setting has short forms."""
    assert type(None) in parts(KEYWORDS[name])
    if name not in SHORT_FORMS:
        assert words(KEYWORDS[name]) == words(FIELDS[name])
    elif typing.get_origin(FIELDS[name]) is tuple:
        assert collections.abc.Sequence in {typing.get_origin(one) for one in parts(KEYWORDS[name])}
    else:
        assert words(KEYWORDS[name]) >= words(FIELDS[name])


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in SHORT_FORMS.items() for value in values]
)
def test_a_short_form_that_type_checkers_allow_is_taken(name, value):
    """What is right in the editor is right at the start."""
    given = {"token": "t", "secret_key": "a-key-of-some-length", name: value}
    settings = Settings.resolve(given, environ={"HOME": "/home/anna"})
    assert getattr(settings, name)


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"token", "secret_key"}))
def test_none_means_not_given(name):
    """Type checkers let None pass for every setting, and so does the start."""
    given = {"token": "t", "secret_key": "a-key-of-some-length", name: None}
    assert Settings.resolve(given, environ={"HOME": "/home/anna"})


def checked(value, hint):
    """Whether a value has the type that a `TypedDict` says, down to the last number."""
    if typing.is_typeddict(hint):
        if not isinstance(value, dict):
            return False
        hints = typing.get_type_hints(
            hint, localns={"Endpoint": Endpoint, **vars(delivery_stats), **vars(refresher), **vars(stats)}
        )
        return value.keys() == hints.keys() and all(checked(value[name], hints[name]) for name in hints)
    if typing.get_origin(hint) is dict:
        key, item = typing.get_args(hint)
        return all(checked(k, key) and checked(v, item) for k, v in value.items())
    if typing.get_origin(hint) in (UnionType, typing.Union):
        return any(checked(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(value, hint)


def test_the_counters_are_those_of_their_type():
    """`Stats` names each counter of `tracker.stats()`, and nothing that is not there."""
    tracker, _ = recording_tracker(deliver=True)
    tracker.visitor("ann").track("Seen")
    tracker.visitor("ann").track("")
    assert checked(tracker.stats(), mixpanel_visitor.Stats)
    tracker.close(timeout_s=0)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("OfflineVisitor", lambda tracker: tracker.visitor("ann")),
        ("SpoolConsumer", lambda tracker: tracker.consumer()),
        ("Settings", lambda tracker: tracker.settings),
    ],
)
def test_what_a_tracker_returns_has_a_name_in_the_package(name, make):
    """So that a user can annotate a function that takes it."""
    tracker, _ = recording_tracker()
    assert type(make(tracker)) is getattr(mixpanel_visitor, name)
