"""`mixpanel-visitor doctor`: what is wrong, why it matters, and the fix."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.journals import Clock, event, open_journal

from mixpanel_visitor.cli import main
from mixpanel_visitor.cli.doctor import findings
from mixpanel_visitor.cli.doctor.spool import (
    check_free_space,
    check_project_spool,
    check_volume_kind,
    file_system,
)
from mixpanel_visitor.delivery.dead_letter import DeadLetter
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.journal.inspection import ProjectStatus
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
    strange = ("may not last", "free", "uWSGI")
    return {what: level for what, level in found.items() if not any(part in what for part in strange)}


def test_a_sound_set_up_has_no_findings(environment):
    """Exit code 0."""
    code, found = examine(environment)
    assert (code, without_place(found)) == (0, {})


def test_a_local_mixpanel_shows_nothing_of_it(environment, mixpanel):
    """An empty request would stand there in red."""
    result = CliRunner().invoke(main, ["doctor"], env=environment)
    assert "ok      it is a local Mixpanel" in result.stdout
    assert mixpanel.store.rejections() == []


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
        ({"MIXPANEL_VISITOR_SECRET_KEY": "k9fz2qX7"}, "problem", "fewer than 16"),
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
        (
            {"MIXPANEL_VISITOR_COOKIE_DOMAIN": ".co.uk"},
            "problem",
            "cookie_domain is 'co.uk', a public suffix",
        ),
        ({"MIXPANEL_VISITOR_COOKIE_DOMAIN": "herokuapp.com"}, "problem", "a public suffix"),
        ({"MIXPANEL_VISITOR_TRUSTED_PROXIES": "0.0.0.0/0, ::/0"}, "warning", "trusts everybody"),
        ({"MIXPANEL_VISITOR_ON_ERROR": "raise"}, "warning", "on_error is 'raise'"),
        (
            {"MIXPANEL_VISITOR_BROWSER_SDK": "spid", "MIXPANEL_VISITOR_SPID_CLIENT_ID": "4321abc"},
            "warning",
            "MIXPANEL_VISITOR_SPID_SIGN_SECRET is not set",
        ),
        ({"MIXPANEL_API_HOST": f"http://{'a' * 70}.example"}, "warning", "without TLS"),
    ],
)
def test_what_is_wrong_is_found(environment, changed, level, part):
    """Each with its level; a problem makes the exit code 1."""
    code, found = examine({**environment, **changed})
    assert [found[what] for what in found if part in what] == [level], found
    assert code == ("problem" in found.values())


@pytest.mark.parametrize("domain", ["shop.example.com", "example.com", "example.co.uk", "shop.herokuapp.com"])
def test_a_domain_of_ones_own_is_fine(environment, domain):
    """Below a public suffix, too."""
    _, found = examine({**environment, "MIXPANEL_VISITOR_COOKIE_DOMAIN": domain})
    assert without_place(found) == {}


def test_without_the_list_it_is_said_that_a_domain_was_not_checked(environment, monkeypatch):
    """With the command that installs the list."""
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
    result = CliRunner().invoke(
        main, ["doctor"], env={**environment, "MIXPANEL_VISITOR_COOKIE_DOMAIN": "herokuapp.com"}
    )
    assert result.exit_code == 0
    assert "cookie_domain is 'herokuapp.com': not checked" in result.stdout
    assert "pip install 'mixpanel-visitor[doctor]'" in result.stdout


def test_another_spool_can_be_named(environment, tmp_path):
    """It is examined even where the settings are wrong; one that cannot be is a usage error."""
    file = tmp_path / "file"
    file.touch()
    run = CliRunner().invoke
    for env in (environment, {**environment, "MIXPANEL_TOKEN": ""}):
        result = run(main, ["doctor", "--spool", str(file / "spool")], env=env)
        assert result.exit_code == 1
        assert f"the spool {file}/spool cannot be written" in result.stdout
    assert run(main, ["doctor", "--spool", "kafka://x"], env=environment).exit_code == 2


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
        "1 dead letter in project",
        "in project 1 record waits",
    ]


def test_a_spool_that_others_may_read_is_found(environment, tmp_path):
    """It holds what people do."""
    project = tmp_path / "spool" / "project"
    journal = open_journal(project, Clock())
    journal.put([event("waiting")])
    journal.close()
    told = f"others may look into {project} (drwxr-xr-x)"
    assert told not in examine(environment)[1]
    project.chmod(0o755)
    assert examine(environment)[1][told] == "warning"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_spool_of_another_user_is_found(environment, tmp_path):
    """Root can write everywhere, and would leave files that the owner cannot use."""
    (tmp_path / "spool").mkdir()
    os.chown(tmp_path / "spool", 65534, -1)
    assert any("belongs to nobody, not to root" in what for what in examine(environment)[1])
    os.chown(tmp_path / "spool", 4_000_000, -1)
    assert any("belongs to #4000000, not to root" in what for what in examine(environment)[1])


def test_what_the_survey_notes_is_found(environment, tmp_path):
    """Such as acknowledgements that cannot be read."""
    project = tmp_path / "spool" / "project"
    journal = open_journal(project, Clock())
    journal.put([event("waiting")])
    journal.close()
    (project / "acks.json").write_text("no JSON")
    assert any(what.startswith("in project: ") for what in examine(environment)[1])


BLOCKS = {"f_blocks": 1000, "f_bavail": 500, "f_files": 1000, "f_favail": 500}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"f_blocks": 0, "f_bavail": 0, "f_files": 0, "f_favail": 0}, []),
        ({"f_bavail": 49}, [("problem", "less than 5% of the spool's volume is free")]),
        ({"f_bavail": 99}, [("warning", "less than 10% of the spool's volume is free")]),
        (
            {"f_favail": 1},
            [("problem", "less than 5% of the files that the spool's volume can hold is free")],
        ),
        (
            {"f_favail": 60},
            [("warning", "less than 10% of the files that the spool's volume can hold is free")],
        ),
    ],
)
def test_a_volume_that_fills_up_is_found(changed, told):
    """In bytes and in files; before it is full, and where events are refused."""
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
    volume = os.statvfs_result((*({**BLOCKS, **changed}.get(name, 0) for name in names), 0, 255))
    assert [(finding.level, finding.what) for finding in check_free_space(volume)] == told


def test_a_spool_that_fills_up_is_found(tmp_path):
    """Before it refuses events."""
    status = ProjectStatus(path=tmp_path, bytes=900, volume_bytes=10_000)
    tmp_path.chmod(0o700)
    told = [finding.what for finding in check_project_spool(status)]
    assert told == [f"{tmp_path.name} holds 900 of 1,000 bytes", f"nothing waits too long in {tmp_path.name}"]


def test_who_only_stores_needs_somebody_who_delivers(tmp_path):
    """Even while nothing waits."""
    tmp_path.chmod(0o700)
    told = f"deliver is False, and no process delivers {tmp_path.name}"
    idle, led = ProjectStatus(path=tmp_path), ProjectStatus(path=tmp_path, led=True)
    assert [finding.what for finding in check_project_spool(idle, delivers=False)][-1] == told
    for status, delivers in ((idle, True), (led, False)):
        assert told not in [finding.what for finding in check_project_spool(status, delivers=delivers)]


@pytest.fixture
def small_volume(tmp_path):
    """A real volume of 1 MB."""
    volume = tmp_path / "volume"
    volume.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(volume)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small volume")
    yield volume
    subprocess.run(["umount", str(volume)], check=True)


def test_a_real_volume_that_is_full_is_a_problem(environment, small_volume):
    """Where the application refuses new events."""
    env = {**environment, "MIXPANEL_VISITOR_SPOOL": str(small_volume)}
    told = "less than 5% of the spool's volume is free"
    assert told not in examine(env)[1]
    (small_volume / "other").write_bytes(b"x" * 1_000_000)
    code, found = examine(env)
    assert (code, found[told]) == (1, "problem")


def test_the_text_names_the_fix(environment):
    """For people."""
    result = CliRunner().invoke(main, ["doctor"], env={**environment, "MIXPANEL_VISITOR_ENABLED": "0"})
    assert "warning enabled is False" in result.stdout
    assert "fix: set MIXPANEL_VISITOR_ENABLED=True" in result.stdout


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("tmpfs", "gone with the next boot"),
        ("overlay", "gone with the container"),
        ("nfs4", "network file system"),
        ("fuse.sshfs", "network file system"),
        ("virtiofs", "network file system"),
        ("ext4", None),
        ("", None),
    ],
)
def test_a_place_that_may_not_last_is_found(tmp_path, kind, why):
    """In memory, in a container's layer, or on another machine."""
    found = list(check_volume_kind(tmp_path, kind))
    assert len(found) == (why is not None)
    assert all(finding.level == "warning" and why in finding.why for finding in found)


@pytest.mark.skipif(file_system(Path("/dev/shm")) != "tmpfs", reason="needs a real tmpfs")
def test_a_real_tmpfs_is_recognised(environment):
    """Nothing is made there."""
    place = f"/dev/shm/doctor-{os.getpid()}"
    found = examine({**environment, "MIXPANEL_VISITOR_SPOOL": place})[1]
    assert found[f"the spool {place} may not last"] == "warning"
    assert not Path(place).exists()


def test_the_innermost_mount_tells_thefile_system(tmp_path):
    """Of several at one place, the last one."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n"
        f"x {tmp_path}/b nfs rw 0 0\ny {tmp_path} xfs rw 0 0\n"
    )
    assert file_system(tmp_path / "spool", str(mounts)) == "xfs"
    assert file_system(tmp_path / "b", str(mounts)) == "nfs"
    assert file_system(tmp_path, str(tmp_path / "none")) == ""
    mounts.write_text("/dev/a / ext4 rw 0 0\nx /a\\040b nfs rw 0 0\n")
    assert file_system(tmp_path.__class__("/a b/spool"), str(mounts)) == "nfs"


# --- IDs and the last line -----------------------------------------------------------------------------


def report(environment, *arguments):
    """Run it; give the exit code and its lines."""
    result = CliRunner().invoke(main, ["doctor", *arguments], env=environment)
    return result.exit_code, result.output.splitlines()


WRONG = {
    "MIXPANEL_VISITOR_SECRET_KEY": "x" * 40,
    "MIXPANEL_VISITOR_DRY_RUN": "1",
    "MIXPANEL_TOKEN": "my-token",
    "MIXPANEL_VISITOR_SPOOL": "memory:",
}


def test_the_last_line_says_what_it_comes_to(environment):
    """In figures, for whoever scrolls to the end."""
    code, lines = report({**environment, **WRONG})
    assert (code, lines[-1]) == (1, "1 problem, 3 warnings")
    code, lines = report({**environment, **WRONG}, "--ignore", "E024,W023", "--ignore", "w026")
    assert (code, lines[-1]) == (0, "No problems, 1 warning, 3 ignored")


def test_each_finding_has_its_id(environment):
    """On the terminal at its end, in JSON beside all else; what is in order has none."""
    _, lines = report({**environment, **WRONG})
    assert "PROBLEM MIXPANEL_VISITOR_SECRET_KEY is easy to guess [E024]" in lines
    assert "warning the spool is in memory [W070]" in lines
    result = CliRunner().invoke(main, ["doctor", "--json", "--ignore", "W023"], env={**environment, **WRONG})
    findings = json.loads(result.stdout)["findings"]
    assert all(list(each) == ["level", "id", "what", "why", "fix"] for each in findings)
    assert [each["id"] for each in findings if each["level"] != "ok"] == ["E024", "W026", "W070"]
    assert {each["id"] for each in findings if each["level"] == "ok"} == {""}


def test_what_is_ignored_has_to_be_there(environment):
    """A misspelt ID would ignore nothing, and nobody would notice."""
    code, lines = report(environment, "--ignore", "W999")
    assert (code, "there is no finding W999" in " ".join(lines)) == (2, True)


def test_an_id_means_one_thing():
    """Each is used in one place, and every one that is used has its line in the table."""
    source = Path(findings.__file__).parent
    used = [
        found
        for path in source.glob("*.py")
        if path.name != "findings.py"
        for found in re.findall(r'"([EW][0-9]{3})"', re.sub(">>>.*", "", path.read_text()))
    ]
    assert sorted(used) == sorted(findings.IDS)
    assert not re.search(
        r'Finding\(\s*"(problem|warning)"', "".join(p.read_text() for p in source.glob("*.py"))
    )


# --- misspelt names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MIXPANEL_REGOIN", "MIXPANEL_REGION"),
        ("MIXPANEL_API_HOTS", "MIXPANEL_API_HOST"),
        ("MIXPANEL_SERVICE_ACCOUNT_USER_NAME", "MIXPANEL_SERVICE_ACCOUNT_USERNAME"),
        ("MIXPANEL_SECRET_KEY", "MIXPANEL_VISITOR_SECRET_KEY"),
        ("MIXPANEL_VISTOR_DELIVER", "MIXPANEL_VISITOR_DELIVER"),
    ],
)
def test_a_misspelt_name_is_a_warning(environment, name, meant):
    """It has no effect, and nobody else would say so."""
    environment = {**environment, meant: None, "MIXPANEL_TOKEN": TOKEN}
    _, lines = report({**environment, name: "eu"})
    assert any(f"{name} in the environment is no setting" in line and "[W002]" in line for line in lines)
    assert any(f"did you mean {meant}?" in line for line in lines)
