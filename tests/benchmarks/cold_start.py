"""How long a process takes to start, with and without this package: `python tests/benchmarks/cold_start.py`.

Each start is a process of its own, from its first instruction until it has answered; all files are compiled
before. Three marks: the application is made, it has answered a request that tracks nothing, it has answered
one that tracks an event, which is then in the spool (`durability="before-response"`). Cases can be named;
`--instructions` counts by valgrind instead, up to the second mark. Not collected by pytest.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROUNDS = 12
MARKS = ("made", "answered", "stored")

SETTINGS = """
SETTINGS = {
    "token": "cold", "secret_key": "a-key-of-some-length", "durability": "before-response",
    "api_host": "http://127.0.0.1:9", "spool": os.environ["COLD_START_SPOOL"],
}
"""

GATEWAY = """
def get(app, path):
    from mangum import Mangum
    http = {"method": "GET", "path": path, "sourceIp": "192.0.2.1", "protocol": "HTTP/1.1", "userAgent": "x"}
    event = {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {"host": "shop.test", "accept": "text/html", "user-agent": "Mozilla/5.0"},
        "requestContext": {"http": http, "stage": "$default"}, "isBase64Encoded": False,
    }
    assert Mangum(app, lifespan="off")(event, None)["statusCode"] == 200
"""

WSGI = """
def get(app, path):
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "",
        "SERVER_NAME": "shop.test", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "shop.test", "HTTP_ACCEPT": "text/html", "HTTP_USER_AGENT": "Mozilla/5.0",
        "REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr, "wsgi.version": (1, 0), "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False,
    }
    body = app(environ, lambda status, headers, info=None: None)
    list(body)
    getattr(body, "close", lambda: None)()
"""

CASES = {
    "Starlette, Mangum": GATEWAY
    + """
from mangum import Mangum
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

def nothing(request):
    return PlainTextResponse("")

def event(request):
    if OURS:
        request.state.visitor.track("Started")
    return PlainTextResponse("")

middleware = []
if OURS:
    from mixpanel_visitor.starlette import VisitorMiddleware
    middleware = [Middleware(VisitorMiddleware, **SETTINGS)]
app = Starlette(routes=[Route("/nothing", nothing), Route("/event", event)], middleware=middleware)
app.middleware_stack = app.build_middleware_stack()
""",
    "FastAPI, Mangum": GATEWAY
    + """
from fastapi import FastAPI, Request
from mangum import Mangum

app = FastAPI()
if OURS:
    from mixpanel_visitor.fastapi import VisitorMiddleware
    app.add_middleware(VisitorMiddleware, **SETTINGS)

@app.get("/nothing")
def nothing():
    return ""

@app.get("/event")
def event(request: Request):
    if OURS:
        request.state.visitor.track("Started")
    return ""

app.middleware_stack = app.build_middleware_stack()
""",
    "Flask": WSGI
    + """
from flask import Flask

app = Flask("shop")
if OURS:
    from mixpanel_visitor.flask import MixpanelVisitor, current_visitor
    names = {"token": "MIXPANEL_TOKEN", "api_host": "MIXPANEL_API_HOST"}
    app.config.update({names.get(key, f"MIXPANEL_VISITOR_{key.upper()}"): SETTINGS[key] for key in SETTINGS})
    MixpanelVisitor(app)

@app.get("/nothing")
def nothing():
    return ""

@app.get("/event")
def event():
    if OURS:
        current_visitor.track("Started")
    return ""
""",
    "Django": WSGI
    + """
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

def nothing(request):
    return HttpResponse()

def event(request):
    if OURS:
        request.visitor.track("Started")
    return HttpResponse()

urlpatterns = [path("nothing", nothing), path("event", event)]
ours = {
    "INSTALLED_APPS": ["mixpanel_visitor.django"],
    "MIDDLEWARE": ["mixpanel_visitor.django.VisitorMiddleware"],
}
names = {"token": "MIXPANEL_TOKEN", "api_host": "MIXPANEL_API_HOST"}
ours |= {names.get(key, f"MIXPANEL_VISITOR_{key.upper()}"): SETTINGS[key] for key in SETTINGS}
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="s" * 50, **(ours if OURS else {}))
app = get_wsgi_application()
""",
}

BEGIN = """
import io, os, sys
OURS = os.environ["COLD_START_OURS"] == "yes"
"""

END = """
def mark():
    os.write(1, b".")

mark()
get(app, "/nothing")
mark()
if os.environ["COLD_START_MARKS"] == "3":
    get(app, "/event")
    mark()
os._exit(0)
"""


def script(case: str) -> str:
    """Return the program of a case."""
    return BEGIN + SETTINGS + CASES[case] + END


def environment(directory: str, *, ours: bool, marks: int = 3) -> dict[str, str]:
    """Return the environment of one start."""
    names = {
        "COLD_START_OURS": "yes" if ours else "no",
        "COLD_START_MARKS": str(marks),
        "PYTHONHASHSEED": "0",
    }
    names["COLD_START_SPOOL"] = str(Path(directory) / "spool")
    # With this set, each start would compile whatever is not compiled yet.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **names}


def start(case: str, *, ours: bool) -> list[float]:
    """Start a process, and return the seconds until each of its marks."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-c", script(case)]
        began_s = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, bufsize=0, env=environment(directory, ours=ours)
        ) as process:
            assert process.stdout is not None
            marks = []
            while process.stdout.read(1):
                marks.append(time.perf_counter() - began_s)
    assert len(marks) == len(MARKS), f"{case} has failed"
    return marks


def instructions(case: str, *, ours: bool) -> float:
    """Return the millions of instructions until the first request is answered."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [*command, sys.executable, "-c", script(case)],
            check=True,
            capture_output=True,
            text=True,
            env=environment(directory, ours=ours, marks=2),
        )
    counted = re.search(r"I +refs: +([\d,]+)", done.stderr)
    assert counted is not None, done.stderr
    return int(counted[1].replace(",", "")) / 1e6


def show_times(cases: list[str], rounds: int) -> None:
    """Start everything in turns, in another order each time, and print medians with their quartiles."""
    for case in cases:
        start(case, ours=True)  # compiles what is not compiled yet
    times: dict[tuple[str, bool], list[list[float]]] = defaultdict(list)
    turns = [(case, ours) for case in cases for ours in (False, True)]
    for _ in range(rounds):
        random.shuffle(turns)
        for case, ours in turns:
            times[case, ours].append(start(case, ours=ours))
    print(f"milliseconds, median of {rounds} (quartiles)\n")
    print("| | until | without | with | more | |\n|---|---|---|---|---|---|")
    for case in cases:
        for at, name in enumerate(MARKS):
            spread = [
                statistics.quantiles((each[at] * 1000 for each in times[case, ours]), n=4)
                for ours in (False, True)
            ]
            without, together = ([f"{low:.0f} to {high:.0f}", middle] for low, middle, high in spread)
            print(
                f"| {case} | {name} | {without[1]:.0f} ({without[0]}) | {together[1]:.0f} ({together[0]}) | "
                f"{together[1] - without[1]:.0f} | {together[1] / without[1]:.2f} |"
            )


def main() -> None:
    """Measure the cases that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"{'; '.join(CASES)} (their beginning will do)"
    )
    parser.add_argument("--instructions", action="store_true", help="count by valgrind")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    cases = [each for each in CASES if each.startswith(tuple(arguments.cases) or "")]
    if not arguments.instructions:
        show_times(cases, arguments.rounds)
        return
    print("| until it has answered | without, millions of instructions | with | more |\n|---|---|---|---|")
    for case in cases:
        start(case, ours=True)
        without, together = instructions(case, ours=False), instructions(case, ours=True)
        print(f"| {case} | {without:.0f} | {together:.0f} | {together - without:.0f} |", flush=True)


if __name__ == "__main__":
    main()
