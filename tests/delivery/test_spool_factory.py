"""Opening: what the `spool` setting may be."""

import os
import pwd
from pathlib import Path

import pytest
from support.journals import event

from mixpanel_visitor.delivery.forwarding import ForwardingSpool
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.errors import SettingsError, SpoolFullError
from mixpanel_visitor.settings.spool import default_spool, spool


@pytest.mark.parametrize("location", ["memory:", "memory://", "MEMORY:"])
def test_memory(location):
    """For tests, and where there is no disk."""
    assert isinstance(open_spool(location), MemorySpool)


def test_a_directory(tmp_path):
    """As text, as a path, or as a URL; nothing is created."""
    for location in [str(tmp_path / "a b"), tmp_path / "a b", f"file://{tmp_path}/a%20b"]:
        spool = open_spool(location)
        assert isinstance(spool, Journal)
        assert spool.directory == tmp_path / "a b"
    assert list(tmp_path.iterdir()) == []


def test_a_relative_directory_is_fixed_at_once(tmp_path, monkeypatch):
    """A daemon may change its working directory later."""
    monkeypatch.chdir(tmp_path)
    spool = open_spool("spool:1")
    assert isinstance(spool, Journal)
    assert spool.directory == tmp_path / "spool:1"


def test_a_tilde_is_the_home_directory(monkeypatch):
    """Also where the setting did not pass through a shell."""
    monkeypatch.setenv("HOME", "/home/somebody")
    for location in ["~/spool", Path("~/spool")]:
        spool = open_spool(location)
        assert isinstance(spool, Journal)
        assert spool.directory == Path("/home/somebody/spool")


@pytest.mark.parametrize("location", ["redis://localhost/0", "rediss://host", "unix:///run/redis.sock"])
def test_redis_has_a_journal_beside_it(location, tmp_path, monkeypatch):
    """In the user's state directory, one for each Redis and project; nothing is created or connected."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first, second = (open_spool(location, project=project) for project in ("a", "b"))
    assert isinstance(first, ForwardingSpool)
    assert isinstance(second, ForwardingSpool)
    assert first.journal.directory.is_relative_to(tmp_path)
    assert first.journal.directory != second.journal.directory
    assert list(tmp_path.iterdir()) == []


def test_the_journal_beside_a_redis_can_be_named(tmp_path):
    """Where the user has no home."""
    spool = open_spool(f"redis://localhost/0?journal={tmp_path}/here", project="a")
    assert isinstance(spool, ForwardingSpool)
    assert spool.journal.directory == tmp_path / "here" / "a"


def test_the_old_name_of_the_journal_beside_a_redis_is_known(tmp_path, caplog):
    """What 0.1 has left there is found; the log says, once, how it is called now."""
    for _ in range(2):
        spool = open_spool(f"redis://localhost/0?fallback={tmp_path}/here", project="a")
        assert isinstance(spool, ForwardingSpool)
        assert spool.journal.directory == tmp_path / "here"
    assert [record.getMessage().count("it is ?journal= now") for record in caplog.records] == [1]


@pytest.mark.parametrize(
    "location", ["", "  ", "s3://bucket", "kafka://x", "file://host/x", "file:x", "file://relative"]
)
def test_what_is_no_spool_is_a_mistake_in_the_settings(location):
    """The message says what may stand there."""
    with pytest.raises(SettingsError, match=r"directory"):
        open_spool(location)


@pytest.mark.parametrize("location", ["memory:", "spool"])
def test_a_bound_can_be_given(location, tmp_path, monkeypatch):
    """For both kinds, in bytes."""
    monkeypatch.chdir(tmp_path)
    spool = open_spool(location, max_bytes=10)
    with pytest.raises(SpoolFullError):
        spool.put([event("too long for that")])
    spool.close()


@pytest.mark.parametrize("home", ["", "foo", "./here"])
@pytest.mark.parametrize("location", ["~/spool", None], ids=["tilde", "default"])
def test_a_home_that_is_no_absolute_path_is_not_believed(home, location, monkeypatch):
    """The system's own word counts, or the spool would be in the root, or elsewhere after a `chdir`."""
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    real = pwd.getpwuid(os.getuid()).pw_dir
    said = spool(location) if location else default_spool("token", "https://api.mixpanel.com", os.environ)
    assert said.startswith(f"{real}/")
