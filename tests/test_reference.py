"""The reference is complete: what the package names stands on its page, and the other way round."""

import ast
import importlib
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from support.documentation.command_line_page import commands, options_of
from support.documentation.generated import generated
from support.documentation.settings_page import GROUPS, documented
from support.documentation.site import problems_of
from support.pages import DOCS, ROOT, pages

import mixpanel_visitor
from mixpanel_visitor import Settings, Stats
from mixpanel_visitor.cli.doctor.findings import IDS
from mixpanel_visitor.delivery.sending.stats import EndpointFigures, SenderFigures
from mixpanel_visitor.tracking.stats import SpoolFigures

SOURCE = Path(mixpanel_visitor.__file__).parent
GENERATED = generated(ROOT)
DOORS = (
    "aiohttp", "asgi", "celery", "django", "dramatiq", "emulator", "fastapi", "flask", "httpx", "litestar",
    "opentelemetry", "plan", "prometheus", "pytest_plugin", "quart", "requests", "rq", "sdk", "starlette",
    "taskiq", "testing", "werkzeug", "wsgi",
)  # fmt: skip


def page(name):
    """Return the text of a page of the reference."""
    return (DOCS / "reference" / name).read_text("utf-8")


def in_tables(text):
    """Return what stands as code in the first column of the tables of a text."""
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def section(text, heading):
    """Return the part of a page under a heading."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_a_generated_file_is_what_it_would_be_today(path):
    """Byte for byte; `scripts/docs --write` makes it anew."""
    assert path.read_text("utf-8") == GENERATED[path]


def test_every_setting_is_in_the_reference():
    """Once, under a heading."""
    assert sorted(documented()) == sorted(field.name for field in fields(Settings))
    assert documented()[0] == next(iter(GROUPS))
    assert set(GROUPS) <= set(documented())


def test_every_public_name_is_in_the_reference():
    """Those of the package each by a line of its own, those of a door with it or by name."""
    text = page("api.md")
    named = set(re.findall(r"^::: mixpanel_visitor\.(\w+)$", text, re.MULTILINE))
    whole = set(re.findall(r"^::: mixpanel_visitor\.([a-z_]+)$(?!\n    options)", text, re.MULTILINE))
    assert set(mixpanel_visitor.__all__) - named == {"SpoolConsumer"} - named
    for door in DOORS:
        module = importlib.import_module(f"mixpanel_visitor.{door}")
        names = getattr(module, "__all__", ())
        assert door in named or f"::: mixpanel_visitor.{door}." in text, door
        if door not in whole:
            assert [name for name in names if name not in text] == [], door


def test_every_door_of_the_package_is_looked_at():
    """A new one belongs into the list above, and into the reference."""
    modules = {path.stem for path in SOURCE.glob("*.py")} | {
        path.parent.name for path in SOURCE.glob("*/__init__.py")
    }
    rooms = {"cli", "core", "delivery", "observability", "process", "settings", "tracking"}
    leaves = {"__init__", "__main__", "errors", "hosts", "quoting", "records", "release", "spelling"}
    assert modules - rooms - leaves == set(DOORS)


def test_every_option_of_the_command_line_is_in_the_reference():
    """With its help; a command without a sentence about it would be found here as well."""
    text = page("command-line.md")
    for context in commands():
        name = context.command_path.removeprefix("mixpanel-visitor ")
        part = section(text, name)
        assert context.command.help, name
        first = [re.split("[, ]", names)[0] for names, _ in options_of(context)]
        assert [option for option in first if f"<code>{option}" not in part] == [], name


REFUSALS = {"refuse", "_refuse", "refused", "InvalidEventError"}
NOTES = {"note", "count", "_count", "SignatureError"}
_NAME = re.compile(r"[a-z]+(_[a-z]+)*")


def literals(node):
    """Yield the names that an expression may be; what it compares with is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.fullmatch(node.value):
        yield node.value
    for child in [] if isinstance(node, ast.Compare) else ast.iter_child_nodes(node):
        yield from literals(child)


def called(node):
    """Return the last name of what a call calls."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def counted():
    """Return the reasons and the notes that the package counts under, as its source has them."""
    reasons, notes = {"spool_removed", "consent_unknown"}, set()
    for path in SOURCE.rglob("*.py"):
        if {"emulator", "cli"} & set(path.relative_to(SOURCE).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                if called(node) in REFUSALS:
                    reasons.update(literals(node.args[0]))
                elif called(node) in NOTES:
                    notes.update(literals(node.args[0]))
                elif called(node) == "ExportError":
                    notes.update(literals(node.args[0]))
                    reasons.update(name for name in literals(node.args[0]) if name.startswith("resume_"))
                elif called(node) == "CollectorError" or called(node) == "HandoverError":
                    notes.update(literals(node.args[1]))
            elif isinstance(node, ast.FunctionDef) and node.name in ("_refusal", "refusal"):
                returned = [each for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
                reasons.update(name for each in returned for name in literals(each.value))
            elif isinstance(node, ast.FunctionDef) and node.name.endswith("reason_not_to_set"):
                notes.update(name for name in literals(node) if name.startswith("cookie_"))
            elif path.name == "errors.py" and isinstance(node, (ast.Assign, ast.AnnAssign)):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                if getattr(target, "id", "") == "reason" and node.value is not None:
                    reasons.update(literals(node.value))
    return reasons, notes


def test_every_reason_and_note_is_in_the_reference():
    """And no other; a new one needs a row there."""
    reasons, notes = counted()
    text = page("stats.md")
    assert reasons == in_tables(section(text, "Refused"))
    assert notes == in_tables(section(text, "Notes"))
    assert len(reasons) > 25
    assert len(notes) > 35


@pytest.mark.parametrize("figures", [Stats, SpoolFigures, SenderFigures, EndpointFigures])
def test_every_key_of_the_stats_is_in_the_reference(figures):
    """Whatever `tracker.stats()` returns."""
    keys = section(page("stats.md"), "Keys")
    assert [key for key in figures.__annotations__ if f"`{key}`" not in keys] == []


def test_every_finding_of_the_doctor_is_in_the_reference():
    """With the words that the source has."""
    rows = dict(re.findall(r"^\| ([EW]\d{3}) \| (.+) \|$", page("errors.md"), re.MULTILINE))
    assert rows == IDS


def test_every_page_is_in_the_navigation():
    """The generator would not complain of one that nobody finds."""
    config = yaml.load((ROOT / ".mkdocs.yml").read_text("utf-8"), yaml.BaseLoader)  # texts only

    def names(entries):
        for entry in entries:
            if isinstance(entry, str):
                yield entry
                continue
            for value in entry.values():
                yield from names(value) if isinstance(value, list) else [value]

    assert sorted(names(config["nav"])) == pages()


# --- what `scripts/docs` looks for in the built site --------------------------------------------------


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="nowhere/">x</a>', "leads nowhere: nowhere/"),
        ('<a href="#nothing">x</a>', "has no such place: #nothing"),
        ('<a href="other/#nothing">x</a>', "has no such place: other/#nothing"),
        ('<img src="gone.png">', "leads nowhere: gone.png"),
        ('<script src="https://cdn.example.com/x.js"></script>', "loads https://cdn.example.com/x.js"),
        ('<link rel="stylesheet" href="//fonts.example.com/x.css">', "loads //fonts.example.com/x.css"),
        ("<style>@import 'https://x.example/x.css'</style>", "loads https://x.example/x.css"),
        ('<p style="background: url(https://x.example/x.png)">', "loads https://x.example/x.png"),
    ],
)
def test_a_broken_page_is_found(tmp_path, body, problem):
    """By the page, and by what is wrong with it."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<h1 id="there">Other</h1>')
    (tmp_path / "index.html").write_text(body)
    assert problems_of(tmp_path) == [f"index.html: {problem}"]


def test_a_good_page_has_no_problems(tmp_path):
    """It may link to others, and load what is here."""
    (tmp_path / "x.css").write_text("p { background: url(data:image/png;base64,AAAA) }")
    (tmp_path / "index.html").write_text(
        '<link rel="stylesheet" href="x.css"><link rel="canonical" href="https://here.example/">'
        '<a href="https://elsewhere.example/">x</a><a id="there" href="#there">y</a>'
    )
    assert problems_of(tmp_path) == []


def test_the_page_for_wrong_addresses_names_the_path_of_the_site(tmp_path):
    """It is shown under any of them, so its links are absolute."""
    canonical = '<link rel="canonical" href="https://docs.example/en/latest/">'
    (tmp_path / "index.html").write_text(canonical)
    (tmp_path / "404.html").write_text('<a href="/en/latest/">x</a><a href="/en/latest/gone/">y</a>')
    assert problems_of(tmp_path) == ["404.html: leads nowhere: /en/latest/gone/"]


def test_a_site_without_pages_is_a_problem(tmp_path):
    """It was not built, or elsewhere."""
    assert len(problems_of(tmp_path)) == 1
