"""`manage.py mixpanel_visitor ...`: our commands with the site's settings, in a process and by a call."""

import contextlib
import io
import json
import os
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command
from support.inbox import Inbox
from support.waiting import PATIENCE_S

from mixpanel_visitor import Tracker, release
from mixpanel_visitor.emulator import LocalMixpanel

MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_settings")
execute_from_command_line(sys.argv)
"""

SETTINGS = """
INSTALLED_APPS = ["mixpanel_visitor.django"]
MIDDLEWARE = ["mixpanel_visitor.django.VisitorMiddleware"]
SECRET_KEY = "a key of the shop, long enough"
MIXPANEL_TOKEN = "{token}"
MIXPANEL_API_HOST = "{url}"
MIXPANEL_VISITOR_SPOOL = "{spool}"
MIXPANEL_VISITOR_DELIVER = False
"""

TOKEN = "0123456789abcdef0123456789abcdef"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("MIXPANEL_", "DJANGO_"))}


@pytest.fixture
def mixpanel():
    """Return a local Mixpanel."""
    with LocalMixpanel() as local:
        yield local


@pytest.fixture
def project(tmp_path, mixpanel):
    """Make a site in a directory; gives the function that runs its manage.py."""
    (tmp_path / "manage.py").write_text(MANAGE)
    spool = tmp_path / "spool"
    settings = SETTINGS.format(token=TOKEN, url=mixpanel.url, spool=spool)
    (tmp_path / "shop_settings.py").write_text(settings)
    (tmp_path / "other_settings.py").write_text(settings.replace(TOKEN, "f" * 32))
    (tmp_path / "wrong_settings.py").write_text(settings + "MIXPANEL_REGION = 'mars'\n")

    def manage(*arguments):
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=tmp_path,
            env=CLEAN,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    manage.track = lambda: _track(mixpanel, spool)
    return manage


def _track(mixpanel, spool):
    tracker = Tracker(
        token=TOKEN, secret_key="a-key-of-some-length", api_host=mixpanel.url, spool=str(spool), deliver=False
    )
    tracker.track("u-1", "Waiting")
    tracker.close()


@pytest.mark.servers
def test_a_worker_delivers_what_the_site_has_spooled(project, mixpanel):
    """It has the token, the host and the spool of the site's settings; the environment has none of them."""
    project.track()
    ended = project("mixpanel_visitor", "worker", "--once")
    assert ended.returncode == 0, ended.stderr
    assert "1 record was delivered" in ended.stdout
    assert [event["event"] for event in Inbox(mixpanel.url).events()] == ["Waiting"]


@pytest.mark.servers
def test_exit_codes_are_those_of_the_command_line(project):
    """0: all is well; 1: a finding; 2: the command cannot begin."""
    project.track()
    assert project("mixpanel_visitor", "version").returncode == 0
    status = project("mixpanel_visitor", "spool", "status")
    assert (status.returncode, "1 record" in status.stdout) == (0, True)
    unknown = project("mixpanel_visitor", "spool", "stauts")
    assert (unknown.returncode, "No such command" in unknown.stderr) == (2, True)
    assert "Usage: manage.py mixpanel_visitor spool" in unknown.stderr
    wrong = project("mixpanel_visitor", "worker", "--once", "--settings=wrong_settings")
    assert (wrong.returncode, "mars" in wrong.stderr) == (2, True)
    assert "Traceback" not in wrong.stderr


@pytest.mark.servers
@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_djangos_own_options(project, first):
    """They may stand before our arguments or after them."""
    ours, django = ["doctor", "--json"], ["--settings=other_settings", "--no-color"]
    arguments = [*django, *ours] if first else [*ours, *django]
    ended = project("mixpanel_visitor", *arguments)
    assert any(
        finding["what"] == "the settings in other_settings are complete"
        for finding in json.loads(ended.stdout)["findings"]
    )


@pytest.mark.servers
def test_the_doctor_says_what_is_wrong_with_the_settings(project):
    """As findings, with exit code 1, for a system check does not come before it."""
    ended = project("mixpanel_visitor", "doctor", "--settings", "wrong_settings")
    assert ended.returncode == 1
    assert "mars" in ended.stdout


@pytest.mark.servers
@pytest.mark.parametrize(
    "arguments", [["mixpanel_visitor", "--help"], ["mixpanel_visitor", "-h"], ["help", "mixpanel_visitor"]]
)
def test_help_lists_our_commands_and_djangos_options(project, arguments):
    """By either way to it."""
    ended = project(*arguments)
    assert ended.returncode == 0
    assert "Usage: manage.py mixpanel_visitor [OPTIONS] COMMAND" in ended.stdout
    assert "doctor" in ended.stdout
    assert "--settings" in ended.stdout


@pytest.mark.servers
def test_help_of_one_command(project):
    """It is the command's own."""
    ended = project("mixpanel_visitor", "worker", "--help")
    assert (ended.returncode, "--concurrency" in ended.stdout) == (0, True)


@pytest.mark.servers
def test_the_version_is_ours(project):
    """As with `mixpanel-visitor --version`."""
    assert project("mixpanel_visitor", "--version").stdout.strip() == release.VERSION


def called(*arguments):
    """Call the command; give what it prints."""
    output = io.StringIO()
    call_command("mixpanel_visitor", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def spool(changed, tmp_path, mixpanel):
    """Settings with a spool in a directory, and what puts an event there."""
    changed(MIXPANEL_TOKEN=TOKEN, MIXPANEL_API_HOST=mixpanel.url, MIXPANEL_VISITOR_SPOOL=str(tmp_path / "s"))
    return lambda: _track(mixpanel, tmp_path / "s")


def test_call_command_gives_the_output(spool):
    """To the stream that it is given; JSON as well."""
    assert called("version").strip().endswith(release.VERSION)
    findings = json.loads(called("doctor", "--json", "--ignore", "E024"))["findings"]
    assert "the settings in Django are complete" in [finding["what"] for finding in findings]


def test_call_command_raises_what_is_an_exit_code(changed):
    """With the code, and the error where the command has not printed it."""
    changed(MIXPANEL_REGION="mars")
    with pytest.raises(CommandError, match="mixpanel_visitor doctor: exit code 1") as caught:
        called("doctor")
    assert caught.value.returncode == 1
    with pytest.raises(CommandError, match="No such option") as caught:
        called("version", "--no-such-option")
    assert caught.value.returncode == 2


def test_call_command_writes_errors_where_it_is_asked_to(spool, capsys):
    """What goes to stderr goes to the stream that is given for it."""
    errors = io.StringIO()
    spool()
    call_command("mixpanel_visitor", "send", "--concurrency", "2", stdout=io.StringIO(), stderr=errors)
    assert "--concurrency has no effect here" in errors.getvalue()
    assert capsys.readouterr().err == ""


def test_a_dotted_name_that_leads_nowhere_is_a_finding(changed):
    """The settings are read when the command needs them."""
    changed(MIXPANEL_VISITOR_CONSENT="no_such_module.f")
    output = io.StringIO()
    with pytest.raises(CommandError):
        call_command("mixpanel_visitor", "doctor", stdout=output)
    assert "no_such_module" in output.getvalue()


def test_a_misspelt_setting_of_django_is_a_finding(spool, changed):
    """As one in the environment is."""
    changed(MIXPANEL_REGOIN="eu")
    output = io.StringIO()
    with contextlib.suppress(CommandError):  # the network may be away
        call_command("mixpanel_visitor", "doctor", stdout=output)
    assert "did you mean MIXPANEL_REGION?" in output.getvalue()
