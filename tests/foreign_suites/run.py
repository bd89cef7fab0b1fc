"""The test suites of others, with the middleware around every application: `scripts/foreign-suites [suite]`.

A suite may be asked for in another release: `django==6.1.3`.

Each suite comes from its source distribution on PyPI and runs in a virtual environment of its own, in a
temporary folder: once as it is, once with `wrapping.py` (Django: `django_suite.py`). Every test has to come
out alike, but for those that assert an exact list of headers (`EXPECTED`): our cookie is in it. Exit code 1:
something else differs.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite: which release, what its tests need besides, what is run, what may differ."""

    version: str
    needs: tuple[str, ...]
    run: tuple[str, ...]
    expected: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    runner: str = "pytest"


SUITES = {
    "falcon": Suite(
        version="4.4.0",
        needs=(
            "aiofiles",
            "cbor2",
            "httpx",
            "msgpack",
            "orjson",
            "pytest<10",
            "pyyaml",
            "requests",
            "ujson",
            "mujson",
            "uvicorn",
            "websockets",
        ),
        run=("tests/asgi",),
        environment={
            "FALCON_DISABLE_CYTHON": "Y",
            "FALCON_ASGI_WRAP_NON_COROUTINES": "Y",
            "FALCON_TESTING_SESSION": "Y",
        },
        expected=dict.fromkeys(
            (
                "tests.asgi.test_ws::test_accept_with_headers[None]",
                "tests.asgi.test_ws::test_accept_with_headers[headers1]",
            ),
            "compares the head with one without our cookie",
        ),
    ),
    "asgiref": Suite(
        version="3.13.0",
        needs=("packaging", "pytest<10", "pytest-asyncio"),
        run=("tests",),
        expected=dict.fromkeys(
            (
                "tests.test_wsgi::test_basic_wsgi",
                "tests.test_wsgi::test_duplicate_header_limit",
                "tests.test_wsgi::test_duplicate_header_limit_disabled",
                "tests.test_wsgi::test_wsgi_clamped_body",
                "tests.test_wsgi::test_wsgi_empty_body",
                "tests.test_wsgi::test_wsgi_multi_body",
                "tests.test_wsgi::test_wsgi_multiple_start_response",
                "tests.test_wsgi::test_wsgi_path_encoding",
                "tests.test_wsgi::test_wsgi_stops_iterating_after_content_length_bytes",
            ),
            "compares the head with one without our cookie",
        ),
    ),
    "django": Suite(
        version="5.2.19",
        needs=("jinja2",),
        run=(
            "asgi",
            "auth_tests",
            "cache",
            "conditional_processing",
            "csrf_tests",
            "file_uploads",
            "flatpages_tests",
            "handlers",
            "logging_tests",
            "messages_tests",
            "middleware",
            "middleware_exceptions",
            "redirects_tests",
            "requests_tests",
            "responses",
            "servers",
            "sessions_tests",
            "signed_cookies_tests",
            "test_client",
            "test_client_regress",
            "view_tests",
            "wsgi",
        ),
        environment={
            "MIXPANEL_TOKEN": "f" * 32,
            "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length",
            "MIXPANEL_VISITOR_SPOOL": "memory:",
            "MIXPANEL_VISITOR_DELIVER": "0",
        },
        runner="django",
        expected=dict.fromkeys(
            (
                "asgi.tests.ASGITest::test_file_response",
                "asgi.tests.ASGITest::test_get_asgi_application",
                "asgi.tests.ASGITest::test_headers",
                "middleware.tests.ConditionalGetMiddlewareTest::test_not_modified_headers",
                "wsgi.tests.WSGITest::test_get_wsgi_application",
            ),
            "compares the head with one without our cookie",
        ),
    ),
}


def outcomes(report: Path) -> dict[str, str]:
    """Read how each test came out; a test's ID may stand for several runs of it."""
    found: dict[str, str] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # pytest has just written it
        name = f"{case.get('classname')}::{case.get('name')}"
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[name] = "".join(sorted(kinds)) or "passed"
    return found


def prepare(name: str, suite: Suite, directory: Path) -> tuple[Path, Path]:
    """Unpack the suite and make its environment; return the Python and the suite's folder."""
    environment = directory / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = f"{name}=={suite.version}"
    more = {**os.environ, **suite.environment}
    subprocess.run([*pip, "install", *suite.needs, str(ROOT)], check=True, env=more)
    subprocess.run(
        [*pip, "download", "--no-deps", "--no-binary", name, "--dest", str(directory), source],
        check=True,
        env=more,
    )
    (archive,) = directory.glob(f"{name}-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(directory, filter="data")
    folder = directory / f"{name}-{suite.version}"
    subprocess.run([*pip, "install", str(folder)], check=True, env=more)
    shutil.rmtree(folder / name)  # what is tested is what is installed
    return python, folder


def tested(python: Path, suite: Suite, folder: Path, *, wrapped: bool) -> dict[str, str]:
    """Run the suite once; return how each of its tests came out."""
    way = "wrapped" if wrapped else "plain"
    report = folder.parent / f"{way}.xml"
    if suite.runner == "django":
        command = [str(HERE / "django_suite.py"), way, str(report), *suite.run]
        folder /= "tests"
    else:
        plugin = ["-p", "wrapping"] if wrapped else []
        quiet = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
        command = ["-m", "pytest", *suite.run, *plugin, *quiet, f"--junitxml={report}"]
    with report.with_suffix(".log").open("wb") as log:
        subprocess.run(
            [str(python), *command],
            cwd=folder,
            env={**os.environ, **suite.environment, "PYTHONPATH": str(HERE)},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return outcomes(report)


def compared(name: str, suite: Suite, directory: Path) -> bool:
    """Run a suite both ways and say what differs; return whether all that does was expected."""
    python, folder = prepare(name, suite, directory)
    plain = tested(python, suite, folder, wrapped=False)
    wrapped = tested(python, suite, folder, wrapped=True)
    differing = {test for test in plain.keys() | wrapped.keys() if plain.get(test) != wrapped.get(test)}
    surprises = sorted(test for test in differing if test not in suite.expected)
    passed = sum(outcome == "passed" for outcome in plain.values())
    print(
        f"{dt.datetime.now(dt.UTC).date()}  {name} {suite.version}, Python {sys.version.split()[0]}: "
        f"{len(plain)} tests, {passed} passed without us; with us {len(differing)} differ, "
        f"{len(surprises)} of them unexpectedly",
        flush=True,
    )
    for test in surprises:
        print(f"    {test}: {plain.get(test, 'missing')} without, {wrapped.get(test, 'missing')} with us")
    return not surprises and bool(plain)


def main() -> int:
    """Run the suites that are named, or all; with FOREIGN_SUITES_KEEP, in that folder, which stays."""
    wanted = dict(argument.partition("==")[::2] for argument in sys.argv[1:] or SUITES)
    unknown = set(wanted) - set(SUITES)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    good = True
    for name, version in wanted.items():
        suite = replace(SUITES[name], version=version or SUITES[name].version)
        with tempfile.TemporaryDirectory(prefix=f"foreign-{name}-") as directory:
            place = Path(os.environ.get("FOREIGN_SUITES_KEEP") or directory) / name
            place.mkdir(parents=True)
            good = compared(name, suite, place) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
