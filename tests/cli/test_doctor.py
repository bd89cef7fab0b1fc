"""`mixpanel-visitor doctor`: what is wrong, why it matters, and the fix."""

import json

import pytest
from click.testing import CliRunner
from support.journals import Clock, event, open_journal

from mixpanel_visitor.cli import main
from mixpanel_visitor.cli.doctor import _file_system
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetter, DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.emulator import LocalMixpanel

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def mixpanel():
    with LocalMixpanel() as running:
        yield running


@pytest.fixture
def environment(mixpanel, tmp_path):
    return {
        "MIXPANEL_TOKEN": TOKEN,
        "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length",
        "MIXPANEL_API_HOST": mixpanel.url,
        "MIXPANEL_VISITOR_SPOOL": str(tmp_path / "spool"),
    }


def examine(environment):
    """Run it; give the exit code, and what it found but for what is in order."""
    result = CliRunner().invoke(main, ["doctor", "--json"], env=environment)
    findings = json.loads(result.stdout)["findings"]
    for finding in findings:
        assert finding["level"] == "ok" or (finding["why"] and finding["fix"])
    return result.exit_code, {
        finding["what"]: finding["level"] for finding in findings if finding["level"] != "ok"
    }


def without_place(found):
    """Leave out what depends on the machine that runs the test."""
    return {what: level for what, level in found.items() if "may not last" not in what and "free" not in what}


def test_a_sound_set_up_has_no_findings(environment):
    """Exit code 0."""
    code, found = examine(environment)
    assert (code, without_place(found)) == (0, {})


def test_mistakes_in_the_settings_are_all_told(environment):
    """As the middleware would."""
    code, found = examine({**environment, "MIXPANEL_TOKEN": "", "MIXPANEL_VISITOR_BOTS": "kill"})
    assert code == 1
    assert len(found) == 2


@pytest.mark.parametrize(
    ("changed", "level", "part"),
    [
        ({"MIXPANEL_TOKEN": "my-token"}, "warning", "does not look like a project token"),
        ({"MIXPANEL_VISITOR_SECRET_KEY": TOKEN}, "problem", "is the project token"),
        ({"MIXPANEL_VISITOR_SECRET_KEY": "x" * 40}, "problem", "easy to guess"),
        ({"MIXPANEL_VISITOR_SECRET_KEY": "change-me-before-you-deploy"}, "problem", "easy to guess"),
        ({"MIXPANEL_VISITOR_SECRET_KEY": "k9fz2qX7"}, "warning", "fewer than 16"),
        (
            {
                "MIXPANEL_SERVICE_ACCOUNT_USERNAME": "u",
                "MIXPANEL_SERVICE_ACCOUNT_SECRET": TOKEN,
                "MIXPANEL_PROJECT_ID": "1",
            },
            "problem",
            "MIXPANEL_SERVICE_ACCOUNT_SECRET are the same",
        ),
        ({"MIXPANEL_API_HOST": f"http://{'a' * 70}.example"}, "problem", "is not reached"),
        ({"MIXPANEL_VISITOR_DRY_RUN": "1"}, "warning", "dry_run is True"),
        ({"MIXPANEL_VISITOR_SPOOL": "memory:"}, "warning", "in memory"),
        ({"MIXPANEL_VISITOR_SPOOL": "/proc/self/stat/spool"}, "problem", "cannot be written"),
        ({"MIXPANEL_API_HOST": "http://127.0.0.1:9"}, "problem", "is not reached"),
        ({"MIXPANEL_VISITOR_COOKIE_DOMAIN": "com"}, "problem", "cookie_domain"),
    ],
)
def test_what_is_wrong_is_found(environment, changed, level, part):
    """Each with its level; a problem makes the exit code 1."""
    code, found = examine({**environment, **changed})
    assert [found[what] for what in found if part in what] == [level], found
    assert code == (level == "problem")


def test_another_spool_can_be_named(environment, tmp_path):
    """It is examined even where the settings are wrong; one that cannot be is a usage error."""
    file = tmp_path / "file"
    file.touch()
    run = CliRunner().invoke
    for env in (environment, {**environment, "MIXPANEL_TOKEN": ""}):
        result = run(main, ["doctor", "--spool", str(file / "spool")], env=env)
        assert result.exit_code == 1
        assert f"the spool {file}/spool cannot be written" in result.stdout
    assert run(main, ["doctor", "--spool", "redis://x"], env=environment).exit_code == 2


def test_the_place_is_the_one_that_the_application_uses(environment, tmp_path):
    """Links followed, and a file URL read as the spool reads it."""
    (tmp_path / "a b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a b")
    for location in (tmp_path / "link", f"file://localhost{tmp_path}/a%20b"):
        env = {**environment, "MIXPANEL_VISITOR_SPOOL": str(location)}
        assert (
            f"ok      the spool {tmp_path}/a b can be written"
            in CliRunner().invoke(main, ["doctor"], env=env).stdout
        )


def test_a_spool_that_cannot_be_read_is_a_finding(environment, tmp_path):
    """The others are still told."""
    project = tmp_path / "spool" / "project"
    open_journal(project, Clock()).put([event("waiting")])
    (project / "dead").touch()  # where a directory should be
    code, found = examine({**environment, "MIXPANEL_TOKEN": "my-token"})
    assert code == 1
    assert any("cannot be read" in what for what in found)
    assert any("does not look like" in what for what in found)


def test_dead_letters_and_records_that_nobody_delivers_are_found(environment, tmp_path):
    """With the command that shows them."""
    project = tmp_path / "spool" / "project"
    journal = open_journal(project, Clock())  # long ago
    journal.put([event("waiting")])
    letter = DeadLetter(time_ms=1, endpoint="import", reason=DeadReason(message="no"), body=b"{}")
    DeadLetters(project / "dead").add([letter])
    journal.close()
    code, found = examine(environment)
    assert code == 1
    assert sorted(what.split(",")[0] for what in without_place(found)) == [
        "1 dead letters in project",
        "in project 1 records wait",
    ]


def test_the_text_names_the_fix(environment):
    """For people."""
    result = CliRunner().invoke(main, ["doctor"], env={**environment, "MIXPANEL_VISITOR_ENABLED": "0"})
    assert "warning enabled is False" in result.stdout
    assert "fix: set MIXPANEL_VISITOR_ENABLED=True" in result.stdout


def test_the_innermost_mount_tells_the_file_system(tmp_path):
    """Of several at one place, the last one."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n"
        f"x {tmp_path}/b nfs rw 0 0\ny {tmp_path} xfs rw 0 0\n"
    )
    assert _file_system(tmp_path / "spool", str(mounts)) == "xfs"
    assert _file_system(tmp_path / "b", str(mounts)) == "nfs"
    assert _file_system(tmp_path, str(tmp_path / "none")) == ""
    mounts.write_text("/dev/a / ext4 rw 0 0\nx /a\\040b nfs rw 0 0\n")
    assert _file_system(tmp_path.__class__("/a b/spool"), str(mounts)) == "nfs"
