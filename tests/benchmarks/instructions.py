"""Instructions for each request, by valgrind: `python tests/benchmarks/instructions.py [case ...]`.

The same requests as in `middlewares.py`, what an event costs to be stored and delivered, and the same work
done by the official library, which sends in the caller's thread, so that its requests to Mixpanel are in the
count. No neighbour on the machine disturbs a count, so it shows what a change of a few per cent is worth;
what caches and system calls cost it does not show. A count depends on the path of the checkout: compare
within one. Needs valgrind (`apt-get install valgrind`). Not collected by pytest.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

import middlewares
from middlewares import changing, cookies, unchanging
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from support.trackers import recording_tracker

from mixpanel_visitor import Tracker

# Imported late otherwise, by the sender's thread, in the middle of what is counted.
from mixpanel_visitor.delivery.sending import endpoint_worker, transport  # noqa: F401
from mixpanel_visitor.records import Record
from mixpanel_visitor.starlette import VisitorMiddleware
from mixpanel_visitor.tracking.tracker import engine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW, MANY = 50, 150
ALONE, SESSION = "alone", "session, read"
SAME = "known visitor, the very same Cookie header"
COLLECTING = "known visitor, with a collector"
FRAMEWORKS = ("Django, ", "FastAPI, ", "Flask, ")
"""Cases that begin with one of these are compared with that framework alone."""

STORED, DELIVERED = "an event stored, 20 requests a commit", "an event delivered, 2,000 a request"
COMMIT, BATCH = 20, 2_000
DELIVERED_WITH_ZLIB = f"{DELIVERED}, zlib"

TIMES = {"one event": 1, "three events": 3, "ten events": 10}
PEER = "session, read, and mixpanel's BufferedConsumer: "
"""Delivered by the requests that the 50th event of a buffer sends."""

USUAL = (
    SESSION,
    "session, written",
    "known visitor",
    COLLECTING,
    SAME,
    "known visitor, not seen before",
    *TIMES,
    "one event, neither visitor nor page seen before",
    "new visitor",
    "new visitor, our cookie alone",
    STORED,
    DELIVERED,
    DELIVERED_WITH_ZLIB,
    *(PEER + times for times in TIMES),
    *(f"{framework}{case}" for framework in FRAMEWORKS for case in (SESSION, "known visitor")),
    f"Django, {SAME}",
)


# --- in the process that is counted ----------------------------------------------------------------


def run(case: str, requests: int, url: str) -> None:
    """Make so many requests, and end without any tidying up."""
    middlewares.REQUESTS = requests
    batch = batch_of(case, requests, url)
    gc.disable()
    batch()
    os._exit(0)


def batch_of(case: str, requests: int, url: str) -> Callable[[], object]:
    """Return what a case does `requests` times, ready to be done."""
    if case == STORED:
        return storing(requests * COMMIT)
    if case.startswith(DELIVERED):
        return delivering(requests // FEW, url, zlib=case == DELIVERED_WITH_ZLIB)
    for framework, batch in (
        ("Django, ", django_batch),
        ("FastAPI, ", fastapi_batch),
        ("Flask, ", flask_batch),
    ):
        if case.startswith(framework):
            return batch(case.removeprefix(framework))
    return starlette_batch(case, url)


def starlette_batch(case: str, url: str) -> Callable[[], object]:
    """Return a batch of requests to Starlette."""
    starlette, asgi = middlewares.starlette, middlewares.asgi
    ours = Middleware(VisitorMiddleware, tracker=not_storing())
    session = Middleware(SessionMiddleware, secret_key=middlewares.SECRET_KEY)
    with_session = changing(cookies(middlewares.starlette_session(middlewares.SESSION)))
    new = changing(cookies().partition(f"; {middlewares.COOKIE}=")[0])
    if case in TIMES:
        return asgi(starlette(ours, events=TIMES[case]), changing(cookies()))
    if case.startswith(PEER):
        track = peer(url)
        return asgi(
            starlette(session, use="read", events=TIMES[case.removeprefix(PEER)], track=track), with_session
        )
    app, sent, *pages = {
        ALONE: (starlette(), with_session),
        SESSION: (starlette(session, use="read"), with_session),
        "session, written": (starlette(session, use="write"), with_session),
        "known visitor": (starlette(ours), changing(cookies())),
        COLLECTING: (
            starlette(Middleware(VisitorMiddleware, tracker=not_storing(collector_path="/m"))),
            changing(cookies()),
        ),
        SAME: (starlette(ours), unchanging(cookies())),
        "known visitor, not seen before": (starlette(ours), middlewares.many_visitors(MANY)),
        "one event, neither visitor nor page seen before": (
            starlette(ours, events=1),
            middlewares.many_visitors(MANY),
            middlewares.many_pages(),
        ),
        "new visitor": (starlette(ours), new),
        "new visitor, our cookie alone": (
            starlette(Middleware(VisitorMiddleware, tracker=not_storing(browser_sdk=()))),
            new,
        ),
    }[case]
    return asgi(app, sent, **({"pages": pages[0]} if pages else {}))


def fastapi_batch(case: str) -> Callable[[], object]:
    """Return a batch of requests to FastAPI."""
    with_session = changing(cookies(middlewares.starlette_session(middlewares.SESSION)))
    session = Middleware(SessionMiddleware, secret_key=middlewares.SECRET_KEY)
    app, sent = {
        ALONE: (middlewares.fastapi_app(), with_session),
        SESSION: (middlewares.fastapi_app(session, use="read"), with_session),
        "known visitor": (
            middlewares.fastapi_app(Middleware(VisitorMiddleware, tracker=not_storing())),
            changing(cookies()),
        ),
    }[case]
    return middlewares.asgi(app, sent)


def flask_batch(case: str) -> Callable[[], object]:
    """Return a batch of requests to Flask."""
    with_session = changing(cookies(middlewares.flask_session(middlewares.SESSION)))
    app, sent = {
        ALONE: (middlewares.flask_app(), with_session),
        SESSION: (middlewares.flask_app(use="read"), with_session),
        "known visitor": (middlewares.flask_app(ours=True), changing(cookies())),
    }[case]
    return middlewares.wsgi(app, sent)


def django_batch(case: str) -> Callable[[], object]:
    """Return a batch of requests to Django."""
    middlewares.set_up_django()
    with_session = changing(cookies(middlewares.django_session(middlewares.SESSION)))
    middleware, sent = {
        ALONE: ((), with_session),
        SESSION: ((middlewares.DJANGO_SESSIONS,), with_session),
        "known visitor": ((middlewares.DJANGO_OURS,), changing(cookies())),
        SAME: ((middlewares.DJANGO_OURS,), unchanging(cookies())),
    }[case]
    return middlewares.wsgi(middlewares.django_app(*middleware), sent)


def not_storing(**settings: Any) -> Tracker:
    """Return a tracker whose background writer waits for ever: storing is counted alone."""
    tracker = middlewares.tracker(**settings)
    engine_of(tracker).pipeline.background_writer._linger = threading.Event().wait
    return tracker


def peer(url: str) -> Callable[[dict[str, Any]], object]:
    """Return how the official library tracks an event of a user, as its documentation shows."""
    import mixpanel

    client = mixpanel.Mixpanel(
        middlewares.TOKEN, consumer=mixpanel.BufferedConsumer(events_url=f"{url}/track")
    )
    return lambda properties: client.track(middlewares.DEVICE, "Seen", properties)


def records(how_many: int) -> list[Record]:
    """Return events of requests, as they are stored: each has an `$insert_id` of its own."""
    tracker, spool = recording_tracker()
    app = middlewares.starlette(Middleware(VisitorMiddleware, tracker=tracker), events=1)
    middlewares.REQUESTS = 1
    middlewares.asgi(app, changing(cookies()))()
    engine_of(tracker).store_unfinished()
    body = spool.records[0].body
    return [
        Record("import", body.replace(b'"insert-1"', b'"6f1c2a3b4d5e4f60%016x"' % number))
        for number in range(how_many)
    ]


def delivering_tracker(url: str) -> Tracker:
    """Return a tracker with a journal that delivers to the counting server, without its thread."""
    return Tracker(
        token=middlewares.TOKEN,
        secret_key=middlewares.SECRET_KEY,
        spool=tempfile.mkdtemp(prefix="instructions-spool-"),
        api_host=url,
    )


def storing(how_many: int) -> Callable[[], object]:
    """Return what stores so many events in the journal, by commits of 20 requests with one each."""
    pipeline = engine_of(delivering_tracker("http://127.0.0.1:9")).pipeline
    stored = records(MANY * COMMIT)

    def batch() -> None:
        for at in range(0, how_many, COMMIT):
            pipeline.store(stored[at : at + COMMIT])

    pipeline.store(records(COMMIT))
    return batch


def delivering(rounds: int, url: str, *, zlib: bool) -> Callable[[], object]:
    """Return what delivers so many full batches from the journal, in which there are more."""
    if zlib:
        sys.modules["isal.igzip"] = sys.modules["isal.isal_zlib"] = None  # type: ignore[assignment]
    pipeline = engine_of(delivering_tracker(url)).pipeline
    for _ in range(MANY // FEW):
        pipeline.store(records(BATCH))

    def batch() -> None:
        while pipeline.sender.stats()["delivered"] < rounds * BATCH:
            pipeline.sender.step()

    return batch


# --- in the process that counts --------------------------------------------------------------------


@contextmanager
def server() -> Iterator[str]:
    """Run the peers' counting server; gives its address."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).parent / "peers" / "taking.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def counted(case: str, url: str) -> float:
    """Return the instructions for each request: those of many less those of few; or for each event."""
    # So that all bytecode is there.
    subprocess.run([sys.executable, __file__, "--run", case, "1", url], check=True, capture_output=True)
    with ThreadPoolExecutor(2) as pool:
        few, many = pool.map(lambda requests: counted_run(case, requests, url), (FEW, MANY))
    if case.startswith(DELIVERED):
        return (many - few) / (MANY // FEW - 1) / BATCH
    return (many - few) / (MANY - FEW) / (COMMIT if case == STORED else 1)


def counted_run(case: str, requests: int, url: str) -> int:
    """Return all instructions of a process that makes so many requests."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [*command, sys.executable, __file__, "--run", case, str(requests), url],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": directory},
        )
    found = re.search(r"I +refs: +([\d,]+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", ""))


def main() -> None:
    """Count the cases that are named, or the usual ones."""
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    alone: dict[str, float] = {}
    print("| | instructions |\n|---|---|")
    with server() as url:
        for name in sys.argv[1:] or USUAL:
            base = next((group for group in FRAMEWORKS if name.startswith(group)), "") + ALONE
            if name.startswith((STORED, DELIVERED)):
                base = ""
            elif base not in alone:
                alone[base] = counted(base, url)
            print(f"| {name} | {counted(name, url) - alone.get(base, 0):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
