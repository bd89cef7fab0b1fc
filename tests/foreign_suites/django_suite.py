"""Run Django's own `runtests.py` in this folder: `python django_suite.py plain|wrapped REPORT LABEL...`.

Its tests bring MIDDLEWARE of their own, by `override_settings`: `wrapped` puts ours before whatever each
handler is about to load. The report is JUnit's XML, as pytest writes it for the other suites.
"""

from __future__ import annotations

import runpy
import sys
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

MIDDLEWARE = "mixpanel_visitor.django.VisitorMiddleware"


class SettingsWithOurs:
    """Django's settings, for the module that loads middleware."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._settings, name)
        return [MIDDLEWARE, *value] if name == "MIDDLEWARE" else value


def put_ours_first() -> None:
    """Have every handler load our middleware before those that are set."""
    from django.core.handlers import base

    base.settings = SettingsWithOurs(base.settings)


class ReportedResult(unittest.TextTestResult):
    """A result that also writes its report when the run ends."""

    path = Path()

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._cases: dict[str, set[str]] = {}

    def startTest(self, test: Any) -> None:  # noqa: N802  # unittest's names
        super().startTest(test)
        self._cases.setdefault(test.id(), set())

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._cases.setdefault(test.id(), set()).add("skipped")

    def stopTestRun(self) -> None:  # noqa: N802
        super().stopTestRun()
        for kind, entries in (("failure", self.failures), ("error", self.errors)):
            for test, _ in entries:
                case = getattr(test, "test_case", test)  # of a subtest
                self._cases.setdefault(case.id(), set()).add(kind)
        for test in self.unexpectedSuccesses:
            self._cases[test.id()].add("failure")
        suite = ET.Element("testsuite")
        for name, kinds in self._cases.items():
            place, _, method = name.rpartition(".")
            case = ET.SubElement(suite, "testcase", classname=place, name=method)
            for kind in kinds:
                ET.SubElement(case, kind)
        ET.ElementTree(suite).write(self.path)


def main() -> None:
    """Run the labels."""
    _, way, report, *labels = sys.argv
    ReportedResult.path = Path(report)
    unittest.TextTestRunner.resultclass = ReportedResult
    if way == "wrapped":
        put_ours_first()
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = ["runtests.py", "--parallel=1", "--noinput", *labels]
    runpy.run_path("runtests.py", run_name="__main__")


if __name__ == "__main__":
    main()
