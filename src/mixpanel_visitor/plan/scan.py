"""Scan: finds events in sources that differ from the plan, and events of the plan that are not tracked.

A type checker compares `track(SignedUp(...))` with the plan, and `checker` compares what a test runs. The
scan covers the rest: events given by name on lines that no test reaches, and planned events
that nothing tracks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .call_finder import calls
from .checker import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .call_finder import Call
    from .plan import Plan

_SKIPPED_NAMES = frozenset(("node_modules", "site-packages", "__pycache__"))


class SourceProblem(NamedTuple):
    """A problem in a line of a file."""

    path: str
    line: int
    problem: str


@dataclass(slots=True)
class Scan:
    """Result of a scan; `computed` counts calls whose event is not a literal, which cannot be checked."""

    files: int = 0
    calls: int = 0
    computed: int = 0
    problems: list[SourceProblem] = field(default_factory=list)
    tracked: set[str] = field(default_factory=set)


def scan(plan: Plan, sources: Iterable[Path]) -> Scan:
    """Read the Python files in `sources` (files or directories), except hidden and installed ones."""
    report = Scan()
    classes = {event.cls.__name__: event.name for event in plan.events.values()}
    for path in _python_files(sources):
        report.files += 1
        try:
            for call in calls(path.read_bytes()):
                _check_call(plan, classes, call, str(path), report)
        except (SyntaxError, ValueError, OSError) as error:
            line = getattr(error, "lineno", None) or 1
            report.problems.append(SourceProblem(str(path), line, f"cannot be read: {error}"))
    report.problems.sort()
    return report


def _check_call(plan: Plan, classes: dict[str, str], call: Call, path: str, report: Scan) -> None:
    report.calls += 1
    if call.event is None:
        if call.cls in classes:
            report.tracked.add(classes[call.cls])
        else:
            report.computed += 1
        return
    report.tracked.add(call.event)
    differences = plan.differences(call.event, call.properties, complete=call.complete)
    if differences:
        report.problems.append(
            SourceProblem(path, call.line, describe(call.event, differences, in_one_line=True))
        )


def _python_files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            for path in sorted(source.iterdir()):
                if path.name.startswith(".") or path.name in _SKIPPED_NAMES or (path / "pyvenv.cfg").exists():
                    continue
                if path.is_dir() or path.suffix == ".py":
                    yield from _python_files([path])
        else:
            yield source
