"""What sources track is read, not run: names that the plan does not know are found with their place."""

from dataclasses import dataclass
from typing import Literal

import pytest

from mixpanel_visitor.plan import Plan
from mixpanel_visitor.plan.scan import scan

plan = Plan()


@plan.event("Signed up")
@dataclass
class SignedUp:
    plan: Literal["free", "pro"]
    seats: int = 1


def problems(tmp_path, source):
    """What is wrong with a file of this source."""
    path = tmp_path / "views.py"
    path.write_text(source)
    return [(problem.line, problem.problem) for problem in scan(plan, [path]).problems]


@pytest.mark.parametrize(
    "source",
    [
        "visitor.track('Signed up', {'plan': 'pro'})",
        "visitor.track('Signed up', plan='pro', seats=2)",
        "request.state.visitor.track('Signed up', properties)",
        "visitor.track('Signed up', {**defaults, 'seats': 1})",
        "visitor.track('Signed up', {name: 1})",
        "visitor.track('Signed up', {'plan': chosen})",
        "visitor.track('Signed up', {'plan': 'pro'}, **more)",
        "visitor.track('Signed up', *rest)",
        "visitor.track(SignedUp(plan='pro'))",
        "visitor.track(events.SignedUp(plan='pro'))",
        "visitor.track('$mp_web_page_view')",
        "tracker.track('ann', 'Signed up', {'plan': 'pro'})",
        "tracker.track(user.id, 'Signed up', plan='pro')",
        "tracker.track('ann', name)",
        "mp.track('ann', 'Signed up', properties={'plan': 'pro'})",
        "mp.track(distinct_id='ann', event_name='Signed up', properties={'plan': 'pro'}, meta={})",
        "mp.track(distinct_id='ann', event_name=name)",
        "mp.track('ann', SIGNED_UP, {'plan': 'pro'}, meta={})",
        "SIGNED_UP = 'Signed up'\nvisitor.track(SIGNED_UP, {'plan': 'pro'})",
        "visitor.track(f'{what} up')",
        "visitor.track()",
        "track('Singed up')",
        "visitor.track('Singed up')  # plan: ignore",
    ],
)
def test_what_is_planned_or_cannot_be_known_is_no_problem(tmp_path, source):
    """Only what is certainly wrong is told."""
    assert problems(tmp_path, source) == []


UNKNOWN = "'Singed up' is not in the plan; did you mean 'Signed up'?"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("visitor.track('Singed up')", UNKNOWN),
        ("tracker.track('ann', 'Singed up')", UNKNOWN),
        ("self.visitor.mixpanel.track(distinct_id, 'Singed up')", UNKNOWN),
        ("mp.track(distinct_id='ann', event_name='Singed up')", UNKNOWN),
        (
            "visitor.track('Signed up', properties={'plan': 'pro'}, plan='pro')",
            "'Signed up' differs from the plan: properties: unknown",
        ),
        ("NAME: str = 'Singed up'\nvisitor.track(NAME)", UNKNOWN),
        (
            "visitor.track('Signed up', {'xyz': 'pro'})",
            "'Signed up' differs from the plan: plan: missing, must be 'free' or 'pro'; xyz: unknown",
        ),
        (
            "visitor.track('Signed up', {'seats': '3'}, **more)",
            "'Signed up' differs from the plan: seats: '3' is a string, must be an integer",
        ),
    ],
)
def test_what_is_certainly_wrong_is_told(tmp_path, source, problem):
    """With the line of the call."""
    assert problems(tmp_path, f"\n{source}") == [(source.count("\n") + 2, problem)]


def test_a_name_that_is_set_twice_is_not_known(tmp_path):
    """Nobody can say which one it is at the call."""
    assert problems(tmp_path, "X = 'a'\nX = 'b'\nvisitor.track(X)") == []


def test_directories_are_read_but_for_what_is_not_ours(tmp_path):
    """Hidden ones, and what was installed."""
    for name in ("shop/views.py", "shop/.hidden/a.py", "venv/lib/a.py", "shop/node_modules/a.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("visitor.track('Singed up')\nvisitor.track(name)\nvisitor.track(SignedUp())")
    (tmp_path / "venv/pyvenv.cfg").touch()
    (tmp_path / "shop/page.html").write_text("track('x')")
    found = scan(plan, [tmp_path])
    assert [(problem.path, problem.line) for problem in found.problems] == [
        (str(tmp_path / "shop/views.py"), 1)
    ]
    assert (found.files, found.calls, found.computed) == (1, 3, 1)
    assert found.tracked == {"Singed up", "Signed up"}


def test_a_file_that_is_no_python_is_told(tmp_path):
    """The others are read."""
    (tmp_path / "a.py").write_text("def")
    (tmp_path / "b.py").write_bytes(b"\0")
    (tmp_path / "c.py").write_text("visitor.track('Singed up')")
    told = [
        (problem.path[-4:], problem.problem.partition(":")[0]) for problem in scan(plan, [tmp_path]).problems
    ]
    assert told == [("a.py", "cannot be read"), ("b.py", "cannot be read"), ("c.py", UNKNOWN)]
