"""`mixpanel-visitor doctor`: what is wrong with settings, the way to Mixpanel and the spool, and the fix."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import ssl
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import click
import orjson

from mixpanel_visitor.cli.plain import plain
from mixpanel_visitor.cli.spool_place import AS_JSON, SPOOL, find
from mixpanel_visitor.cli.spool_survey import survey
from mixpanel_visitor.delivery.answers import server_time_s
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.opening import open_spool
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.settings.model import SHORT_KEY_CHARS
from mixpanel_visitor.settings.rules import MAKE_A_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

Level = Literal["ok", "warning", "problem"]

CONNECT_S = 5.0
CLOCK_WARNING_S = 5.0
CLOCK_PROBLEM_S = 3600.0
OLDEST_S = 3600.0
MIN_FREE_SHARE = 0.05

_FAMOUS_KEYS = ("changeme", "secretkey", "yoursecret", "djangoinsecure", "example", "password")

_MARKS: dict[Level, tuple[str, str]] = {
    "ok": ("ok      ", "green"),
    "warning": ("warning ", "yellow"),
    "problem": ("PROBLEM ", "red"),
}
_FLEETING = {
    "tmpfs": "it is in memory and gone with the next boot",
    "ramfs": "it is in memory and gone with the next boot",
    "overlay": "it is a container's own layer and gone with the container",
    "nfs": "locks and kill -9 mean less on a network file system",
    "nfs4": "locks and kill -9 mean less on a network file system",
    "cifs": "locks and kill -9 mean less on a network file system",
    "smb3": "locks and kill -9 mean less on a network file system",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `why` and `fix` are empty where all is well."""

    level: Level
    what: str
    why: str = ""
    fix: str = ""


@click.command("doctor")
@SPOOL
@AS_JSON
def command(*, location: str | None, as_json: bool) -> None:
    """Check the settings in the environment, the way to Mixpanel, and the spool.

    No event is sent. Exits with 1 where there is a problem.
    """
    findings = list(_findings(location))
    if as_json:
        click.echo(orjson.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            _print(finding)
    if any(finding.level == "problem" for finding in findings):
        raise SystemExit(1)


def _print(finding: Finding) -> None:
    mark, color = _MARKS[finding.level]
    click.echo(click.style(mark, fg=color) + plain(finding.what, 300))
    for label, text in (("why", finding.why), ("fix", finding.fix)):
        if text:
            click.echo(f"         {label}: {plain(text, 300)}")


def _findings(location: str | None) -> Iterator[Finding]:
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        for problem in error.problems:
            yield Finding("problem", problem, "the middleware does not start with this", "as said")
        if location:
            yield from _spool(location)
        return
    yield Finding("ok", "the settings in the environment are complete")
    yield from _project(settings)
    yield from _cookie(settings)
    yield from _network(settings.api_host)
    yield from _spool(location or settings.spool)


def _project(settings: Settings) -> Iterator[Finding]:
    account = settings.service_account
    secrets = {
        "MIXPANEL_SERVICE_ACCOUNT_SECRET": account.secret if account else None,
        "MIXPANEL_VISITOR_SPID_SIGN_SECRET": settings.spid_sign_secret,
    }
    for name in (name for name, secret in secrets.items() if secret == settings.token):
        yield Finding(
            "problem",
            f"MIXPANEL_TOKEN and {name} are the same",
            "one of them is wrong, and what stands in MIXPANEL_TOKEN goes to every browser",
            "give each its own; make a new secret if this one has been in a page",
        )
    if re.fullmatch(r"[0-9a-f]{32}", settings.token):
        yield Finding("ok", "the token looks like a project token")
    else:
        yield Finding(
            "warning",
            "MIXPANEL_TOKEN does not look like a project token (32 hexadecimal digits)",
            "a service account's secret or an API secret in its place is refused with 401",
            "copy it from Mixpanel: Project Settings, Access Keys",
        )
    if any(_is_guessable(key) for key in settings.secret_key):
        yield Finding(
            "problem",
            "MIXPANEL_VISITOR_SECRET_KEY is easy to guess",
            "who guesses it can forge visitor cookies",
            MAKE_A_KEY,
        )
    elif any(len(key) < SHORT_KEY_CHARS for key in settings.secret_key):
        yield Finding(
            "warning",
            f"MIXPANEL_VISITOR_SECRET_KEY has fewer than {SHORT_KEY_CHARS} characters",
            "who guesses it can forge visitor cookies",
            MAKE_A_KEY,
        )
    for name, wanted in (("enabled", True), ("dry_run", False)):
        if getattr(settings, name) is not wanted:
            yield Finding(
                "warning",
                f"{name} is {not wanted}",
                "nothing reaches Mixpanel",
                f"set MIXPANEL_VISITOR_{name.upper()}={wanted} where events are wanted",
            )


def _is_guessable(key: str) -> bool:
    letters = re.sub(r"[^a-z]", "", key.lower())
    return len(set(key)) < 6 or letters.startswith(_FAMOUS_KEYS)


def _cookie(settings: Settings) -> Iterator[Finding]:
    if settings.cookie_domain and settings.cookie_domain.strip(".").count(".") == 0:
        yield Finding(
            "problem",
            f"cookie_domain is {settings.cookie_domain!r}",
            "browsers refuse cookies for a whole top-level domain",
            "name your own domain, or leave it out",
        )


def _network(host_url: str) -> Iterator[Finding]:
    url = urlsplit(host_url)
    assert url.hostname
    make = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = make(url.hostname, url.port, timeout=CONNECT_S)
    try:
        with contextlib.closing(connection):
            connection.request("HEAD", url.path or "/")
            headers = {name.lower(): value for name, value in connection.getresponse().getheaders()}
            now_s = time.time()
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: no name for DNS
        trouble = (
            "its certificate is not accepted" if isinstance(error, ssl.SSLError) else "it is not reached"
        )
        yield Finding(
            "problem",
            f"{host_url}: {trouble} ({type(error).__name__}: {error})",
            "events wait in the spool until it is",
            "check name service, firewall, proxy, and the system's certificates",
        )
        return
    yield Finding("ok", f"{host_url} is reached")
    theirs_s = server_time_s(headers)
    if theirs_s is None:
        return
    off_s = abs(theirs_s - now_s)
    if off_s <= CLOCK_WARNING_S:
        yield Finding("ok", "this host's clock agrees with Mixpanel's")
    else:
        yield Finding(
            "problem" if off_s > CLOCK_PROBLEM_S else "warning",
            f"this host's clock differs from Mixpanel's by {off_s:.0f} s",
            "times in the future are rewritten, and over an hour ahead they are refused",
            "synchronise the clock (NTP)",
        )


def _spool(location: str) -> Iterator[Finding]:
    try:
        spool = open_spool(location)
    except SettingsError as error:
        raise click.UsageError("; ".join(error.problems)) from error
    if not isinstance(spool, Journal):
        yield Finding(
            "warning",
            "the spool is in memory",
            "what was not delivered is lost when the process ends",
            "set MIXPANEL_VISITOR_SPOOL to a directory on a disk that lasts",
        )
        return
    directory = Path(os.path.realpath(spool.directory))  # a link may lead to another file system
    there = next(path for path in (directory, *directory.parents) if _may_be_there(path))
    if os.access(there, os.W_OK | os.X_OK) and _is_dir(there):
        yield Finding("ok", f"the spool {directory} can be written")
    else:
        yield Finding(
            "problem",
            f"the spool {directory} cannot be written: {there} does not allow it",
            "every event is refused",
            "run this and the application as the user who owns it, or name another directory",
        )
        return
    fleeting = _FLEETING.get(_file_system(there))
    if fleeting:
        yield Finding("warning", f"the spool {directory} may not last", fleeting, "put it on a local volume")
    usage = shutil.disk_usage(there)
    if usage.total and usage.free / usage.total < MIN_FREE_SHARE:
        yield Finding(
            "problem",
            f"less than {MIN_FREE_SHARE:.0%} of the spool's volume is free",
            "new events are refused; what is stored is kept",
            "free space",
        )
    if directory.is_dir():
        try:
            yield from _waiting(str(directory))
        except click.ClickException as error:
            yield Finding(
                "problem",
                error.message,
                "a spool that is another user's takes nothing from this one",
                "run this and the application as the user who owns it",
            )


def _may_be_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def _is_dir(path: Path) -> bool:
    return stat.S_ISDIR(path.stat().st_mode)


def _waiting(location: str) -> Iterator[Finding]:
    for project in survey(find(location).projects, quiet=True):
        name = project.path.name
        if project.dead_letters:
            yield Finding(
                "problem",
                f"{project.dead_letters} dead letters in {name}",
                "Mixpanel has refused them",
                "mixpanel-visitor spool dead list",
            )
        if project.oldest_age_s is not None and project.oldest_age_s > OLDEST_S:
            hours = f"{project.oldest_age_s / 3600:.1f} h"
            yield Finding(
                "problem",
                f"in {name} {project.waiting} records wait, the oldest for {hours}",
                "a process leads and does not get through" if project.led else "nobody delivers",
                "see its log" if project.led else "start a process with deliver=True on this spool",
            )
        elif project.waiting and not project.led:
            yield Finding(
                "warning",
                f"in {name} {project.waiting} records wait and nobody delivers",
                "they stay there until a process does",
                "start the application, with deliver=True in one process at least",
            )
        else:
            yield Finding("ok", f"nothing waits too long in {name}")


def _file_system(path: Path, mounts: str = "/proc/mounts") -> str:
    """Give the type of the file system that holds `path`; empty where the system does not say."""
    found, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines():
            _, where, this, *_ = line.split()
            where = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), where)
            # Of two mounts at one place the later one is on top.
            if (path == Path(where) or Path(where) in path.parents) and len(where) >= len(found):
                found, kind = where, this
    return kind
