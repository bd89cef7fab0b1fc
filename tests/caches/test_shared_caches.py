"""Real shared caches before Flask and Starlette: nobody gets another's cookie, and what is public is kept."""

import contextlib
import http.client
import itertools
import os
import time

import pytest
from support import caches
from support.cacheable import (
    ACCELERATED,
    ANSWERS,
    FOR_SOME,
    PERSONAL,
    PUBLIC,
    serving_flask,
    serving_starlette,
)
from support.responses import OUR_COOKIE
from support.trackers import recording_tracker
from support.waiting import PATIENCE_S

pytestmark = pytest.mark.servers

PEOPLE = ("Firefox/145.0", "Safari/605.1", "Chrome/140.0")
FRAMEWORKS = {"flask": serving_flask, "starlette": serving_starlette}


@pytest.fixture(scope="module")
def sites():
    """Return the ports of both applications."""
    with contextlib.ExitStack() as stack:
        trackers = {name: recording_tracker(now_s=time.time())[0] for name in FRAMEWORKS}
        yield {name: stack.enter_context(serve(trackers[name])) for name, serve in FRAMEWORKS.items()}


@pytest.fixture(scope="module", params=list(caches.PROGRAMS))
def cache(request, sites):
    """Return the name and the port of a cache that is before both applications."""
    if caches.executable(request.param) is None and not os.environ.get("CI"):
        pytest.skip(f"{caches.PROGRAMS[request.param]} is not installed")
    with caches.running(request.param, sites) as port:
        yield request.param, port


def visit(port, path, user_agent):
    """Ask as a new browser that asks for a page; give the answer's headers, our cookies and the body."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", path, headers={"User-Agent": user_agent, "Accept": "text/html"})
        answer = connection.getresponse()
        body = answer.read()
    headers = answer.getheaders()
    cookies = [value for name, value in headers if name.lower() == "set-cookie" and OUR_COOKIE.match(value)]
    said = ", ".join(value for name, value in headers if name.lower() == "cache-control")
    return said, cookies, body


@pytest.mark.parametrize("framework", list(FRAMEWORKS))
def test_two_people_never_get_one_cookie(cache, framework):
    """Whatever status, Cache-Control, validators and cookies an answer has; and each of them gets one."""
    _, port = cache
    leaks, without = [], []
    for number, answer in enumerate(PERSONAL):
        got = [visit(port, f"/{framework}/{number}", person)[1] for person in PEOPLE]
        cookies = [cookie.partition(";")[0] for cookie in itertools.chain(*got)]
        if len(set(cookies)) < len(cookies):
            leaks.append(str(answer))
        if len(cookies) < len(PEOPLE):
            without.append(str(answer))
    assert leaks == []
    assert without == []


@pytest.mark.parametrize("framework", list(FRAMEWORKS))
def test_what_is_public_stays_in_the_cache(cache, framework):
    """It carries no cookie, and we say nothing about who may keep it."""
    name, port = cache
    made_anew = []
    for answer in [*PUBLIC, ACCELERATED] if name == "nginx" else PUBLIC:
        path = f"/{framework}/{ANSWERS.index(answer)}"
        (said, cookies, first), (_, _, second) = (visit(port, path, person) for person in PEOPLE[:2])
        assert (cookies, "private" in said) == ([], False), answer
        if first != second:
            made_anew.append(str(answer))
    assert made_anew == []


@pytest.mark.parametrize("framework", list(FRAMEWORKS))
def test_what_some_cache_may_keep_has_no_cookie(cache, framework):
    """Each knows a header that another one does not, and reads no Cache-Control where it finds its own."""
    _, port = cache
    for answer in FOR_SOME:
        path = f"/{framework}/{ANSWERS.index(answer)}"
        assert [visit(port, path, person)[1] for person in PEOPLE] == [[], [], []], answer


def test_there_are_enough_combinations():
    """Of status, Cache-Control, validators and cookies."""
    assert len(set(map(str, ANSWERS))) == len(ANSWERS) >= 40
