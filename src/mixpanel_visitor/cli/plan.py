"""`mixpanel-visitor plan`: mistakes of the tracking plan, and of the sources that should follow it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import click
import orjson

from mixpanel_visitor.plan import Plan
from mixpanel_visitor.plan.scan import scan
from mixpanel_visitor.quoting import several

from .import_object import ImportSpec, load
from .terminal import printable

_MOST_CHARS = 1000


@click.group("plan", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Check the tracking plan and the sources that should follow it; export it for Lexicon.

    MODULE:PLAN is where the plan is: `shop.events:plan`, importable from here; `:plan` may be left out.
    """


@command.command("check")
@click.argument("target", metavar="MODULE:PLAN")
@click.argument("sources", metavar="[SOURCE]...", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(*, target: str, sources: tuple[Path, ...], as_json: bool) -> None:
    """Look for mistakes of the plan itself, and for what SOURCEs (files, directories) track otherwise.

    Sources are read, not run: calls of `.track(...)` whose event is written out are compared with the plan.
    `# plan: ignore` on its line leaves a call alone. Exit code 1: something is wrong.
    """
    plan = _load(target)
    problems = plan.problems()
    report = scan(plan, sources)
    never = [name for name in plan.events if name not in report.tracked] if sources else []
    if as_json:
        problems_json = [{"path": None, "line": None, "problem": problem} for problem in problems]
        problems_json += [finding._asdict() for finding in report.problems]
        counts = {name: getattr(report, name) for name in ("files", "calls", "computed")}
        fields = {"events": len(plan.events), **counts, "problems": problems_json, "never_tracked": never}
        click.echo(orjson.dumps(fields).decode())
    else:
        for problem in problems:
            click.echo(f"plan: {printable(problem, _MOST_CHARS)}")
        for finding in report.problems:
            click.echo(printable(f"{finding.path}:{finding.line}: {finding.problem}", _MOST_CHARS))
        if never:
            click.echo(f"Tracked nowhere in these sources: {printable(', '.join(never), _MOST_CHARS)}")
        if report.computed:
            click.echo(
                f"Not checked, because the event's name is computed: {several(report.computed, 'call')}"
            )
        count = len(problems) + len(report.problems)
        calls = f", {several(report.calls, 'call')} in {several(report.files, 'file')}" if sources else ""
        events = several(len(plan.events), "event")
        click.echo(f"{several(count, 'problem') if count else 'No problems'}; {events}{calls}.")
    sys.exit(1 if problems or report.problems else 0)


@command.command("export")
@click.argument("target", metavar="MODULE:PLAN")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="A file; default: stdout."
)
@click.option("--truncate", is_flag=True, help="Have Lexicon drop all that the plan does not name.")
def export(*, target: str, output: Path | None, truncate: bool) -> None:
    """Print the plan as the body of a request to Mixpanel's Lexicon Schemas API.

    \b
    curl -u "$USERNAME:$SECRET" -H 'Content-Type: application/json' --data @plan.json \\
      https://mixpanel.com/api/app/projects/$PROJECT_ID/schemas
    """  # noqa: D301
    plan = _load(target)
    try:
        plan.resolve()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    body = plan.lexicon()
    if truncate:
        body["truncate"] = True
    text = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_bytes(text)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error


def _load(target: str) -> Plan:
    spec = ImportSpec(
        "plan",
        "shop.events:plan",
        "mixpanel_visitor.plan.Plan",
        lambda candidate: isinstance(candidate, Plan),
    )
    return cast("Plan", load(target, spec))
