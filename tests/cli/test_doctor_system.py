"""`mixpanel-visitor doctor` on the installation: versions."""

import importlib.metadata

import pytest

from mixpanel_visitor.cli.doctor.system import check_system, old_packages, old_uwsgi

REQUIREMENTS = [
    "click>=8.1",
    "urllib3 >=2.2",
    "flask>=3.0; extra == 'flask'",
    'pytest>=8.3; extra == "dev"',
    "isal>=1.7; platform_machine == 'x86_64'",
    "odd @ https://example.com/odd.zip",
]


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        ({"click": "8.1.7", "urllib3": "2.2"}, []),
        ({"click": "9", "urllib3": "2.10.0rc1"}, []),
        ({"click": "8.1", "urllib3": "2.2.0", "pytest": "3"}, []),
        ({"click": "8.0.9", "urllib3": "2.2"}, ["click 8.0.9 is older than 8.1"]),
        ({"click": "8.1"}, ["urllib3 is not installed"]),
        ({"click": "8.1", "urllib3": "2.2", "flask": "2.3.3"}, ["flask 2.3.3 is older than 3.0"]),
        ({"click": "8.1", "urllib3": "2.2", "isal": "1.6"}, ["isal 1.6 is older than 1.7"]),
    ],
)
def test_packages_that_are_missing_or_too_old_are_found(installed, told):
    """Those of extras, or of some systems, only if they are there; those for development never."""
    findings = list(old_packages(REQUIREMENTS, installed.get))
    assert [finding.what for finding in findings] == told
    assert all(finding.level == "problem" and finding.fix.startswith("pip install") for finding in findings)


def test_the_versions_stand_in_the_report():
    """Whoever reads a report of trouble asks for them first."""
    told = [finding.what for finding in check_system() if finding.level == "ok"]
    assert len(told) == 1
    assert importlib.metadata.version("mixpanel-visitor") in told[0]
    assert "Python 3." in told[0]


@pytest.mark.parametrize(
    ("package", "version", "is_found"),
    [
        ("uwsgi", "2.0.26", True),
        ("pyuwsgi", "2.0.27", False),
        ("pyuwsgi", "2.0.30.post1", False),
        ("uwsgi", "2.1", False),
    ],
)
def test_a_later_uwsgi_lets_threads_run_unasked(package, version, is_found):
    """Since 2.0.27; whether an older one was told to is not known, and the finding says how to ignore it."""
    found = list(old_uwsgi({package: version}.get))
    assert [finding.what for finding in found] == [
        f"{package} {version} runs no threads unless told to"
    ] * is_found


def test_where_there_is_no_uwsgi_nothing_is_found():
    """Most sites have none."""
    assert list(old_uwsgi({}.get)) == []
