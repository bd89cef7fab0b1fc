"""The harness of each scenario: every application under everything that can serve it."""

from __future__ import annotations

import contextlib

import pytest
from support.harnesses import IN_PROCESS
from support.servers import SERVERS

_KINDS = {**IN_PROCESS, **SERVERS}
HARNESSES = [
    *(pytest.param(name, id=name) for name in IN_PROCESS),
    *(pytest.param(name, id=name, marks=pytest.mark.servers) for name in SERVERS),
]


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    """Return a harness by its name; each is started once in a session and ended with it.

    Not a parametrised fixture of the session: pytest would restart servers whenever the tests, which come
    in random order, change from one to another.
    """
    running = {}
    with contextlib.ExitStack() as stack:

        def start(name):
            if name not in running:
                running[name] = stack.enter_context(_KINDS[name](tmp_path_factory.mktemp(name)))
            return running[name]

        yield start


@pytest.fixture(params=HARNESSES)
def harness(request, started):
    """Return each harness in turn, as if nobody had used it before."""
    harness = started(request.param)
    harness.begin()
    return harness
