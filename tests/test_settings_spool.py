"""Settings of the spool: where events wait, for how long, and that no address shows its secrets."""

import datetime as dt
import hashlib
from pathlib import Path

import pytest
from support.resolving import HOME, problem, resolve

from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings import redis_address
from mixpanel_visitor.settings.masked import without_secrets
from mixpanel_visitor.settings.spool import default_spool
from mixpanel_visitor.tracking.tracker import Tracker

# --- durability ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"), [(2, 2.0), ("0.5", 0.5), (dt.timedelta(milliseconds=250), 0.25), (60, 60.0)]
)
def test_the_delivery_timeout_is_in_seconds(given, expected):
    """A number, its text or a timedelta."""
    assert resolve(delivery_timeout_s=given).delivery_timeout_s == expected


@pytest.mark.parametrize("given", [0, -1, 61, "soon", True, float("nan"), float("inf"), [1]])
def test_a_delivery_timeout_that_is_none_is_refused(given):
    """It says what it takes."""
    assert "over 0 and up to 60" in problem(delivery_timeout_s=given)


def test_who_waits_for_a_delivery_has_to_deliver():
    """A process that only stores would wait for another one."""
    assert "'delivered' waits" in problem(durability="delivered", deliver=False)


# --- spool ----------------------------------------------------------------------------------------------


def test_the_default_spool_is_one_for_each_token_and_host():
    """Two projects, or a test and production, never share one."""
    hosts = ["https://api.mixpanel.com", "https://api-eu.mixpanel.com", "http://localhost:8080/x"]
    places = [default_spool(token, host, HOME, platform="linux") for token in ("a", "b") for host in hosts]
    assert len(set(places)) == len(places)
    digest = hashlib.sha256(b"aapi.mixpanel.com").hexdigest()[:8]
    assert places[0] == f"/home/anna/.local/state/mixpanel-visitor/{digest}-api.mixpanel.com"
    assert places[2].endswith("-localhost-8080-x")


@pytest.mark.parametrize(
    ("environ", "platform", "state"),
    [
        ({"XDG_STATE_HOME": "/state", **HOME}, "linux", "/state"),
        ({"XDG_STATE_HOME": "relative", **HOME}, "linux", "/home/anna/.local/state"),
        (HOME, "darwin", "/home/anna/Library/Application Support"),
        ({}, "linux", str(Path.home() / ".local/state")),
    ],
)
def test_the_default_spool_is_in_the_users_state_directory(environ, platform, state):
    """By the XDG specification, or the Mac's custom."""
    assert default_spool("t", "https://h", environ, platform=platform).startswith(
        f"{state}/mixpanel-visitor/"
    )


def test_computing_the_default_spool_makes_no_directory(tmp_path):
    """Nothing is touched before the first event."""
    settings = resolve(environ={"XDG_STATE_HOME": str(tmp_path)})
    assert settings.spool.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("memory:", "memory:"),
        ("/var/spool/mpv/", "/var/spool/mpv/"),
        ("file:///var/spool/mpv", "file:///var/spool/mpv"),
        (Path("spool"), "spool"),
        ("~/spool", str(Path("~/spool").expanduser())),
        ("./memory", "./memory"),
        (Path("memory"), "./memory"),
    ],
)
def test_a_spool_is_a_directory_or_memory(given, expected):
    """A path object will do, `~` is expanded."""
    assert resolve(spool=given).spool == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("redis:localhost", "two slashes: redis://host:6379/0"),
        ("redis://:hush/hush@localhost/0", "names no host"),
        ("redis://x:hush/hush@localhost/0", "the port is no number"),
        ("redis://:hush@/0", "names no host; write redis://redis.internal:6379/0"),
        ("unix://", "names no socket"),
        ("redis+sentinel://a:26379,b:26379", "names no service"),
        ("redis://h/0?partitions=0", "partitions must be 1 to 256, not 0"),
        ("redis://h/0?idle_s=soon", "must be numbers"),
        ("redis://h/0?idle_s=0.5", "idle_s must be 1 to 86400 seconds"),
        ("redis://h/0?prefix={a}", "prefix must be a word without braces"),
        ("redis+kafka://localhost", "two slashes"),
        ("sqlite:///x.db", "there is no sqlite spool"),
        ("file://server/spool", "three slashes"),
        ("memory://", "did you mean 'memory:'?"),
        ("~nobody-of-that-name/spool", "absolute path"),
        ("", "directory"),
        ("a\0b", "directory"),
        (7, "not int"),
    ],
)
def test_a_bad_spool_is_refused(given, why):
    """A password in its URL is not shown."""
    line = problem(spool=given)
    assert why in line
    assert "hush" not in line


@pytest.mark.parametrize(
    "given",
    [
        "redis://localhost:6379/0",
        "rediss://user:secret@redis.internal/1?ssl_cert_reqs=required",
        "unix:///run/redis/redis.sock",
        "valkey://localhost",
        "redis+cluster://a:7000,b:7000?partitions=32",
        "redis+sentinel://a:26379,b:26379/mymaster",
    ],
)
def test_a_redis_is_a_spool(given):
    """Alone, with TLS, by a socket, as a cluster, through sentinels."""
    assert resolve(spool=given).spool == given


def test_the_password_of_a_redis_is_not_shown():
    """Settings and trackers are printed and logged."""
    settings = resolve(spool="redis://user:hush@localhost/0")
    assert "hush" not in repr(settings)
    tracker = Tracker(settings=settings)
    assert "hush" not in repr(tracker)
    assert "redis://user:***@localhost/0" in repr(tracker)


SECRETIVE = [
    "redis://ann:hush@localhost/0",
    "redis://hush@localhost/0",
    "redis://localhost/0?password=hush",
    "redis://localhost/0?wait=1&username=hush&db=2",
    "redis://localhost/0?pass%77ord=hush",
    "unix://ann:hush@/run/redis.sock?password=hush",
    "redis+cluster://:hush@a:1,b:2/0",
    "redis+sentinel://a:26379/shop?sentinel_password=hush",
]
"""Addresses that can be used."""
BROKEN = [
    "redis://ann:hush/0",
    "redis://ann:x/hush@localhost/0",
    "redis://ann:x?hush@localhost/0",
    "redis://ann:x#hush@localhost/0",
    "redis://:[hush]@localhost/0",
    "redis://ann:hush@[localhost/0",
    "redis://ann:hu\u2100hush@localhost/0",
    "redis://:hush",
    "redis:ann:hush@localhost",
    "kafka://ann:hush@localhost",
    "file://ann:hush@localhost/x",
    "redis://localhost/0?password=hush&wait=x",
]
"""Addresses that cannot."""


@pytest.mark.parametrize("address", SECRETIVE)
def test_no_secret_of_an_address_is_shown(address):
    """Wherever it stands in it: the tracker prints and logs what it was given."""
    settings = resolve(spool=address)
    assert "hush" not in repr(settings) + repr(Tracker(settings=settings))
    assert "hush" not in repr(redis_address.parse(address))


@pytest.mark.parametrize("address", BROKEN)
def test_no_secret_of_a_broken_address_is_shown(address):
    """What cannot be read may be a password in any part."""
    with pytest.raises(SettingsError) as caught:
        resolve(spool=address)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(SettingsError) as caught:
        open_spool(address)
    assert "hush" not in str(caught.value)


def test_what_is_not_secret_of_an_address_is_shown():
    """Whoever reads a log wants to know which Redis it was."""
    address = "rediss://ann:hush@db:6379/0?ssl_ca_certs=/ca.pem&wait=1&password=hush"
    shown = without_secrets(address)
    assert shown == "rediss://ann:***@db:6379/0?ssl_ca_certs=/ca.pem&wait=1&password=***"
    assert without_secrets("/srv/ann:me@work") == "/srv/ann:me@work"
