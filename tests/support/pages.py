"""Pages of `docs`: each section is a program of its own, and has its own tests."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import types
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sybil.example import Example

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
MODULE = "shop"
"""What a section is imported as, by frameworks that look a module up."""

SHOWN_ONLY = ("console",)
"""The languages of blocks that nobody executes."""

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_FENCE = re.compile(r"^```(\w+)$", re.MULTILINE)
_FILE = re.compile(r"; (\S+)\n")


@dataclass(frozen=True)
class Section:
    """A heading of a page and the blocks below it."""

    title: str
    examples: list[Example]

    @property
    def source(self) -> str:
        """Its blocks as one text."""
        return "\n".join(each.parsed for each in self.examples)

    def load(self) -> types.ModuleType:
        """Execute its blocks one after the other, as one module; files go to the working directory."""
        module = types.ModuleType(MODULE)
        sys.modules[MODULE] = module
        for example in self.examples:
            example.namespace = vars(module)
            example.evaluate()
        return module


def pages() -> list[str]:
    """Return the names of all pages, as paths in `docs`."""
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def sections(name: str) -> list[Section]:
    """Return the sections of a page of `docs` that have something to execute."""
    path = DOCS / name
    document = Sybil([PythonCodeBlockParser(), CodeBlockParser("ini", _write)], path=str(ROOT)).parse(path)
    text = path.read_text()
    starts = [(match.start(), match[1]) for match in _HEADING.finditer(text)]
    found: dict[str, list[Example]] = {}
    for example in document.examples():
        title = [title for start, title in starts if start < example.region.start][-1]
        found.setdefault(title, []).append(example)
    return [Section(title, examples) for title, examples in found.items()]


def section_of(name: str, title: str) -> Section:
    """Return a section of a page by the beginning of its title."""
    (section,) = [each for each in sections(name) if each.title.startswith(title)]
    return section


def fences(name: str) -> list[str]:
    """Return the languages of all blocks of a page, in their order."""
    return _FENCE.findall((DOCS / name).read_text())


def run_tests(module: types.ModuleType, fixture: Callable[[str], Any]) -> list[str]:
    """Run the tests of a section as pytest would, with fixtures by their names; return the tests' names."""
    names = []
    for name, test in _functions(module):
        arguments = {parameter: fixture(parameter) for parameter in inspect.signature(test).parameters}
        for value in arguments.values():
            value.clear()  # the events of the test before it
        result = test(**arguments)
        if inspect.iscoroutine(result):
            asyncio.run(result)
        names.append(name)
    for name, case in vars(module).items():
        if isinstance(case, type) and issubclass(case, unittest.TestCase) and case.__module__ == MODULE:
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
            assert not result.errors + result.failures, "\n".join(
                text for _, text in result.errors + result.failures
            )
            names += [name] * result.testsRun
    return names


def _functions(module: types.ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in list(vars(module).items()):
        if name.startswith("test_") and inspect.isfunction(value):
            yield name, value


def _write(example: Example) -> None:
    """Write a block as the file that its first line names."""
    match = _FILE.match(example.parsed)
    assert match, "the first line of a file's block says its name: ; shop.ini"
    Path(match[1]).write_text(example.parsed)
