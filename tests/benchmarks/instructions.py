"""Instructions for each request, by valgrind: `python tests/benchmarks/instructions.py [case ...]`.

The same requests as in `middlewares.py`. No neighbour on the machine disturbs a count, so it shows what a
change of a few per cent is worth; what caches and system calls cost it does not show. Needs valgrind
(`apt-get install valgrind`). Not collected by pytest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import middlewares
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware

from mixpanel_visitor.starlette import VisitorMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 50, 150
ALONE, SESSION = "alone", "session, read"
DJANGO, FASTAPI = "Django, ", "FastAPI, "
"""Cases that begin with one of these are compared with that framework alone."""


def run(case: str, requests: int) -> None:
    """Make so many requests, and end without any tidying up."""
    middlewares.REQUESTS = requests
    if case.startswith(DJANGO):
        django_batch(case.removeprefix(DJANGO))()
        os._exit(0)
    ours = Middleware(VisitorMiddleware, tracker=middlewares.tracker())
    session = Middleware(SessionMiddleware, secret_key=middlewares.SECRET_KEY)
    with_session = middlewares.cookies(middlewares.starlette_session(middlewares.SESSION))
    known, new = middlewares.cookies(), middlewares.cookies().partition(f"; {middlewares.COOKIE}=")[0]
    app, cookie = {
        ALONE: (middlewares.starlette(), with_session),
        SESSION: (middlewares.starlette(session, use="read"), with_session),
        "session, written": (middlewares.starlette(session, use="write"), with_session),
        "known visitor": (middlewares.starlette(ours), known),
        "one event": (middlewares.starlette(ours, events=1), known),
        "three events": (middlewares.starlette(ours, events=3), known),
        "new visitor": (middlewares.starlette(ours), new),
        FASTAPI + ALONE: (middlewares.fastapi_app(), with_session),
        FASTAPI + SESSION: (middlewares.fastapi_app(session, use="read"), with_session),
        FASTAPI + "known visitor": (middlewares.fastapi_app(ours), known),
    }[case]
    middlewares.asgi(app, cookie)()
    os._exit(0)


def django_batch(case: str) -> Callable[[], float]:
    """Return a batch of requests to Django."""
    middlewares.set_up_django()
    with_session = middlewares.cookies(middlewares.django_session(middlewares.SESSION))
    middleware, cookie = {
        ALONE: ((), with_session),
        SESSION: ((middlewares.DJANGO_SESSIONS,), with_session),
        "known visitor": ((middlewares.DJANGO_OURS,), middlewares.cookies()),
    }[case]
    return middlewares.wsgi(middlewares.django_app(*middleware), cookie)


def counted(case: str) -> float:
    """Return the instructions for each request: those of many less those of few."""
    figures = []
    for requests in (FEW, MANY):
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        done = subprocess.run(
            [*command, sys.executable, __file__, "--run", case, str(requests)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        found = re.search(r"I +refs: +([\d,]+)", done.stderr)
        assert found is not None, done.stderr
        figures.append(int(found[1].replace(",", "")))
    return (figures[1] - figures[0]) / (MANY - FEW)


def main() -> None:
    """Count the cases that are named, or the usual ones."""
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], int(sys.argv[3]))
    names = sys.argv[1:] or [
        SESSION,
        "session, written",
        "known visitor",
        "one event",
        "three events",
        "new visitor",
        FASTAPI + SESSION,
        FASTAPI + "known visitor",
        DJANGO + SESSION,
        DJANGO + "known visitor",
    ]
    alone: dict[str, float] = {}
    print("| | instructions added |\n|---|---|")
    for name in names:
        base = next((group for group in (DJANGO, FASTAPI) if name.startswith(group)), "") + ALONE
        if base not in alone:
            alone[base] = counted(base)
        print(f"| {name} | {counted(name) - alone[base]:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
