"""The repository for strangers: links of its pages, and workflows that run what everybody can run."""

import os
import re
import tomllib

import pytest
import yaml
from support.pages import DOCS, ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = sorted(
    path
    for place in (".github", "examples", "src", "tests")
    for path in (ROOT / place).rglob("*.md")
    if "node_modules" not in path.parts
)


def steps(workflow):
    """Return all steps of a workflow."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request):
    """Return a workflow as GitHub reads it."""
    return yaml.safe_load(request.param.read_text("utf-8"))


def test_a_workflow_has_no_permissions_of_its_own(workflow):
    """A job that needs one says so."""
    assert workflow["permissions"] == {}


def test_a_workflow_runs_what_everybody_can_run(workflow):
    """Each command is one line that calls a script of the repository, so the two cannot drift apart."""
    for command in [step["run"] for step in steps(workflow) if "run" in step]:
        if command == 'test "$FAILED" = false':  # joins the results of the jobs
            continue
        script = command.split()[-1]
        assert "\n" not in command
        assert os.access(ROOT / script, os.X_OK), command


def test_an_action_is_pinned_by_its_commit(workflow):
    """A tag may be moved."""
    actions = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert [action for action in actions if not re.search(r"@[0-9a-f]{40}$", action)] == []


def test_every_python_that_is_promised_is_tested():
    """The classifiers are the promise."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    promised = {found[1] for each in classifiers if (found := re.search(r"Python :: (3\.\d+)$", each))}
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert promised <= set(matrix["jobs"]["everything"]["strategy"]["matrix"]["python"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_within_the_repository_leads_somewhere(path):
    """From pages that are read on GitHub."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_contributing_names_every_script():
    """And none that is not there; `environment` is part of the others."""
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"scripts/([a-z-]+)", text))
    there = {path.name for path in (ROOT / "scripts").iterdir()} - {"environment"}
    assert named == there


def test_the_site_is_built_by_the_same_command_everywhere():
    """Read the Docs runs the script as well."""
    commands = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text("utf-8"))["build"]["commands"]
    assert commands[0] == "scripts/docs"
    assert DOCS.is_dir()
