"""`mixpanel-visitor doctor` on feature flags: whether Mixpanel gives them, and how old the spool's are."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner
from support.flags import on_off

from mixpanel_visitor.cli import main
from mixpanel_visitor.delivery.flags.document import SharedDefinitions
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.settings.project import project_of

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def local():
    """Return a local Mixpanel with a flag."""
    with LocalMixpanel() as local:
        local.flags.put(on_off("checkout"))
        yield local


@pytest.fixture
def examine(local, tmp_path):
    """Run the doctor; give what it says of flags."""

    def run(**environment):
        given = {
            "MIXPANEL_TOKEN": TOKEN,
            "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length",
            "MIXPANEL_API_HOST": local.url,
            "MIXPANEL_VISITOR_SPOOL": str(tmp_path / "spool"),
            "MIXPANEL_VISITOR_FLAGS": "local",
            **environment,
        }
        result = CliRunner().invoke(main, ["doctor", "--json"], env=given)
        findings = json.loads(result.stdout)["findings"]
        return [(each["id"], each["what"]) for each in findings if "flag" in each["what"]]

    return run


def share(tmp_path, age_s):
    """Leave definitions of this age in the spool."""
    spool = Journal(tmp_path / "spool" / project_of(TOKEN))
    assert spool.leads()
    spool.share_flags(SharedDefinitions(entries=b"[]", fetched_at_s=time.time() - age_s).encode())
    spool.close()


def test_an_application_without_flags_is_asked_nothing(examine, local):
    """Nothing is said, and nothing fetched."""
    assert examine(MIXPANEL_VISITOR_FLAGS="off") == []
    assert "/flags/definitions" not in local.store.stats()["requests"]


def test_definitions_are_there(examine):
    """With their number."""
    assert examine() == [("", "Mixpanel gives the definitions of 1 feature flag")]


def test_definitions_that_are_malformed_are_named(examine, local):
    """Each with what is wrong."""
    local.flags.put({"key": "broken"})
    ids = dict(examine())
    assert "flag 'broken': ruleset is missing" in ids["W112"]


@pytest.mark.parametrize("chaos", ["401", "500"])
def test_definitions_that_are_refused(examine, local, chaos):
    """With Mixpanel's answer."""
    local.chaos.set({chaos: 1.0})
    assert f"status {chaos}" in dict(examine())["E111"]


def test_old_definitions_in_the_spool(examine, tmp_path):
    """Somebody should have fetched new ones."""
    share(tmp_path, 3600)
    assert dict(examine())["W113"] == "the definitions of feature flags in the spool are 60 minutes old"


def test_a_damaged_file_in_the_spool(examine, tmp_path):
    """It says so."""
    share(tmp_path, 1)
    assert "W113" not in dict(examine())
    (path,) = tmp_path.glob("spool/*/flags.json")
    path.write_bytes(b"[]")
    assert "cannot be read" in dict(examine())["W113"]
