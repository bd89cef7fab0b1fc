"""`mixpanel-visitor doctor`: what is wrong, why it matters, and the fix; one module for each subject.

`system` checks the installation, `settings` and `cookie` the settings, `network` the way to Mixpanel, `flags`
the definitions of feature flags, `spool` the spool, `site` a page of the running application, `collector` how
its browsers' events come in. `application` finds settings that are given in code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import orjson

from mixpanel_visitor.cli.settings_source import current_source, misspelt_settings, resolve
from mixpanel_visitor.cli.spool.location import AS_JSON, SPOOL
from mixpanel_visitor.cli.terminal import printable
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.quoting import several
from mixpanel_visitor.settings.masked import without_userinfo

from .application import settings_of_application
from .collector import check_options
from .cookie import check_cookie
from .findings import IDS, Finding, Level
from .flags import check_flags
from .network import check_network
from .settings import check_settings
from .site import check_site
from .spool import check_spool
from .system import check_system

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_CHARS = 500
_MARKS: dict[Level, tuple[str, str]] = {
    "ok": ("ok      ", "green"),
    "warning": ("warning ", "yellow"),
    "problem": ("PROBLEM ", "red"),
}


@click.command("doctor")
@SPOOL
@click.option("--app", metavar="MODULE:APP", help="The application, where settings are given in code.")
@click.option("--url", metavar="URL", help="A page of the running application, to be visited twice.")
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="ID",
    help="Leave a finding out, as in W023; several times, or with commas between.",
)
@AS_JSON
def command(
    *, location: str | None, app: str | None, url: str | None, ignored: tuple[str, ...], as_json: bool
) -> None:
    """Check the settings, the way to Mixpanel, and the spool.

    The settings are those in the environment (under manage.py Django's first), or, with --app shop.main:app,
    those of an application (Flask, Starlette, FastAPI, one wrapped with the middleware), of a Tracker, or of
    what a factory makes, --app 'shop.main:create_app()', which is imported for that.

    Run it where the application runs, as its user and with its environment. No event is sent; but a page
    given with --url is visited as a new browser would, and counts if the server tracks page views.

    Each finding has an ID at its end: with --ignore it is left out, and does not count for the exit code.

    Exit code 0: no problem (there may be warnings); 1: a problem; 2: a mistake in the command.
    """
    if url is not None and not re.match(r"https?://[^/?#]", url):
        raise click.UsageError(
            "--url takes the address of a page, such as https://shop.example.com/, not "
            f"{without_userinfo(url)}"
        )
    left_out = _ids(ignored)
    all_findings = list(_findings(location, app, url))
    findings = [finding for finding in all_findings if finding.id not in left_out]
    if as_json:
        click.echo(orjson.dumps({"findings": [finding.as_json() for finding in findings]}).decode())
    else:
        for finding in findings:
            _print_finding(finding)
        click.echo(f"\n{summary(findings, ignored=len(all_findings) - len(findings))}")
    if any(finding.level == "problem" for finding in findings):
        raise SystemExit(1)


def summary(findings: Sequence[Finding], *, ignored: int) -> str:
    """Return the report's last line: how many problems, warnings and ignored findings.

    >>> summary([Finding("E001", "a"), Finding("W010", "b"), Finding("E011", "c")], ignored=0)
    '2 problems, 1 warning'
    """
    counts = [
        (sum(finding.level == "problem" for finding in findings), "problem", ""),
        (sum(finding.level == "warning" for finding in findings), "warning", ""),
        (ignored, "ignored", "ignored"),
    ]
    parts = [several(count, one, many) for count, one, many in counts if count]
    if not counts[0][0]:
        parts.insert(0, "no problems")
    line = ", ".join(parts)
    return f"{line[:1].upper()}{line[1:]}"


def _ids(ignored: Sequence[str]) -> set[str]:
    ids = {word.strip().upper() for text in ignored for word in text.split(",") if word.strip()}
    unknown = sorted(ids - IDS.keys())
    if unknown:
        raise click.UsageError(
            f"--ignore: there is no finding {', '.join(unknown)}; each finding's ID stands at its end"
        )
    return ids


def _print_finding(finding: Finding) -> None:
    mark, color = _MARKS[finding.level]
    finding_id = "" if finding.level == "ok" else f" [{finding.id}]"
    click.echo(click.style(mark, fg=color) + printable(finding.what, _MOST_CHARS) + finding_id)
    for label, text in (("why", finding.why), ("fix", finding.fix)):
        if text:
            click.echo(f"         {label}: {printable(text, _MOST_CHARS)}")


def _near_misses() -> Iterator[Finding]:
    for line in misspelt_settings():
        yield Finding("W002", line, "a misspelt setting has its default", "correct the name, or take it out")


def _findings(location: str | None, app: str | None, url: str | None) -> Iterator[Finding]:
    yield from check_system()
    settings = None
    try:
        settings = resolve() if app is None else settings_of_application(app)
    except SettingsError as error:
        for problem in error.problems:
            yield Finding("E001", problem, "the middleware does not start with this", "the message says it")
    yield from _near_misses()
    if settings is not None:
        yield Finding(
            "ok", f"the settings {current_source().origin if app is None else f'of {app}'} are complete"
        )
        yield from check_settings(settings)
        yield from check_cookie(settings)
        yield from check_options(settings)
        yield from check_network(settings)
        yield from check_flags(settings)
    if location or settings is not None:
        delivers = settings is None or settings.deliver
        yield from check_spool(location or (settings.spool if settings else ""), delivers=delivers)
    if url is not None:
        yield from check_site(url, settings)
