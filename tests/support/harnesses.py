"""Harnesses: one way to talk to an application, whoever runs it, and to see what came of it.

Here are those that run in this process; `support.servers` has the real ones. Each has an application of
`support.apps`, a browser with cookies, and a local Mixpanel of its own.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.validate import validator

import pytest
import starlette
from a2wsgi import WSGIMiddleware
from packaging.version import Version
from starlette.testclient import TestClient
from werkzeug.test import Client

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.settings.spool import HAS_FILE_LOCKS, MEMORY
from mixpanel_visitor.tracking.tracker import Tracker
from mixpanel_visitor.wsgi import VisitorMiddleware

from . import apps, django_site
from .asgi_driver import call_asgi, http_scope
from .fastapi_app import build_fastapi
from .inbox import Inbox
from .litestar_app import build_litestar
from .quart_app import build_quart
from .responses import Jar, Response
from .trackers import SECRET_KEY
from .waiting import PATIENCE_S, wait_until
from .werkzeug_app import build_werkzeug
from .wsgi_driver import call_wsgi, environ_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

TOKEN = "scenarios"

COLLECTOR = "/m"
"""Where each of these sites takes in the events of browsers."""


class Harness(Protocol):
    """An application that somebody serves, a browser, and a local Mixpanel."""

    inbox: Inbox
    """What has arrived at its local Mixpanel."""

    notices_disconnect: bool
    """Whether the application learns that the client has gone."""

    keeps_parts: bool
    """Whether the client can tell in which pieces the body came."""

    def begin(self) -> None:
        """Start anew: a browser without cookies, a local Mixpanel without events."""
        ...

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        cookies: bool = True,
        body: bytes = b"",
    ) -> Response:
        """Ask; `cookies=False` neither sends nor keeps any."""
        ...

    def disconnect(self, path: str) -> bytes:
        """Ask, read the first part of the body, and go away."""
        ...

    def events(self, expected: int) -> list[dict[str, Any]]:
        """Return all that has arrived once everything was flushed; at least `expected` events will come."""
        ...


class InProcess:
    """A harness whose application runs in this process. Subclasses say how."""

    notices_disconnect = True
    keeps_parts = True

    def __init__(self, tracker: Tracker, inbox: Inbox) -> None:
        self.tracker = tracker
        self.inbox = inbox
        self.jar = Jar()

    def begin(self) -> None:
        assert self.tracker.flush(PATIENCE_S)
        self.jar.clear()
        self.inbox.clear()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        cookies: bool = True,
        body: bytes = b"",
    ) -> Response:
        headers = {**(self.jar.header if cookies else {}), **(headers or {})}
        response = self.call(method, path, headers, body=body)
        if cookies:
            self.jar.keep(response.headers)
        return response

    def disconnect(self, path: str) -> bytes:
        return self.call("GET", path, {}, parts=1).parts[0]

    def events(self, expected: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []

        def have_arrived() -> bool:
            nonlocal events
            assert self.tracker.flush(PATIENCE_S)
            events = self.inbox.events()
            if len(events) < expected:
                # A body that was cancelled while it waited for its client may be left in a cycle: Starlette's
                # ends when Python collects it.
                gc.collect()
            return len(events) >= expected

        # Some test clients leave an application that is still at its end.
        wait_until(have_arrived, PATIENCE_S)
        assert len(events) >= expected, [event["event"] for event in events]
        return events

    def call(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        body: bytes = b"",
        parts: int | None = None,
    ) -> Response:
        """Serve one request; the client goes away after so many `parts`."""
        raise NotImplementedError


class WSGIHarness(InProcess):
    """Bare WSGI under a driver of our own, with the standard library's validator on both sides of us."""

    def __init__(self, tracker: Tracker, inbox: Inbox) -> None:
        super().__init__(tracker, inbox)
        self._wrapped = validator(VisitorMiddleware(validator(apps.wsgi_pages), tracker=tracker))
        self._unwrapped = validator(apps.wsgi_pages)

    def call(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        body: bytes = b"",
        parts: int | None = None,
    ) -> Response:
        app = self._unwrapped if path.startswith(apps.UNWRAPPED) else self._wrapped
        environ = environ_of(method, path.removeprefix(apps.UNWRAPPED), headers, body=body)
        return call_wsgi(app, environ, parts=parts)


class PyramidHarness(WSGIHarness):
    """Pyramid under the same driver, as the recipe includes us."""

    def __init__(self, tracker: Tracker, inbox: Inbox) -> None:
        super().__init__(tracker, inbox)
        from .pyramid_app import build_pyramid  # few tests need it, and it takes its time

        self._wrapped, self._unwrapped = validator(build_pyramid(tracker)), validator(build_pyramid(None))


class ASGIHarness(InProcess):
    """Bare ASGI under a driver of our own, without a lifespan."""

    def __init__(self, tracker: Tracker, inbox: Inbox) -> None:
        super().__init__(tracker, inbox)
        self.app = apps.build_asgi(tracker)

    def call(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        body: bytes = b"",
        parts: int | None = None,
    ) -> Response:
        return call_asgi(self.app, http_scope(method, path, headers), body=body, parts=parts)


class LitestarHarness(ASGIHarness):
    """Litestar under the same driver: its own client can neither read a stream nor leave it."""

    def __init__(self, tracker: Tracker, inbox: Inbox) -> None:
        super().__init__(tracker, inbox)
        self.app = build_litestar(tracker)


class QuartHarness(ASGIHarness):
    """Quart under the same driver, for the same reason."""

    def __init__(self, tracker: Tracker, inbox: Inbox) -> None:
        super().__init__(tracker, inbox)
        self.app = build_quart(tracker)


class BridgeHarness(ASGIHarness):
    """Our WSGI application in an ASGI server, by a2wsgi, which does not tell when a client has gone."""

    notices_disconnect = False

    def __init__(self, tracker: Tracker, inbox: Inbox) -> None:
        super().__init__(tracker, inbox)
        self.app = WSGIMiddleware(apps.build_wsgi(tracker))


class WerkzeugHarness(InProcess):
    """Werkzeug under its own test client, which keeps the cookies."""

    def __init__(self, tracker: Tracker, inbox: Inbox) -> None:
        super().__init__(tracker, inbox)
        self._app = self.build(tracker)
        self._browser = Client(self._app)

    build = staticmethod(build_werkzeug)

    def begin(self) -> None:
        super().begin()
        self._browser = Client(self._app)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        cookies: bool = True,
        body: bytes = b"",
    ) -> Response:
        client = self._browser if cookies else Client(self._app, use_cookies=False)
        seen = Response()
        try:
            with client.open(path, method=method, headers=headers, data=body, buffered=False) as answer:
                seen.status = answer.status_code
                seen.headers = list(answer.headers.items())
                seen.parts.extend(part for part in answer.response if part)
        except RuntimeError as error:
            seen.error = repr(error)
        return seen

    def disconnect(self, path: str) -> bytes:
        with self._browser.get(path, buffered=False) as answer:
            return next(iter(answer.response))


class FlaskHarness(WerkzeugHarness):
    """Flask under its own test client, which is a kind of Werkzeug's."""

    build = staticmethod(apps.build_flask)


class DjangoHarness(InProcess):
    """Django under its own test client, which keeps the cookies."""

    def __init__(self, settings: dict[str, Any], inbox: Inbox) -> None:
        super().__init__(django_site.use(settings), inbox)
        self._settings = settings
        self._browser = django_site.build_client([django_site.MIDDLEWARE])
        self._plain = django_site.build_client([])

    def begin(self) -> None:
        self.tracker = django_site.use(self._settings)
        super().begin()
        self._browser.cookies.clear()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        cookies: bool = True,
        body: bytes = b"",
    ) -> Response:
        client = self._plain if path.startswith(apps.UNWRAPPED) else self._browser
        kept = client.cookies
        if not cookies:
            client.cookies = SimpleCookie()
        kind = {} if headers is None else {"content_type": headers.get("content-type", "")}
        answer = client.generic(method, path.removeprefix(apps.UNWRAPPED), body, headers=headers, **kind)
        if not cookies:
            client.cookies = kept
        set_cookies = [("Set-Cookie", morsel.OutputString()) for morsel in answer.cookies.values()]
        seen = Response(status=answer.status_code, headers=[*answer.items(), *set_cookies])
        try:
            seen.parts.extend(part for part in answer if part)
        except RuntimeError as error:
            seen.error = repr(error)
        return seen

    def disconnect(self, path: str) -> bytes:
        answer = self._browser.get(path)
        part: bytes = next(iter(answer))
        answer.close()
        return part


class DjangoASGIHarness(ASGIHarness):
    """Django's ASGI application under a driver of our own."""

    def __init__(self, settings: dict[str, Any], inbox: Inbox) -> None:
        super().__init__(django_site.use(settings), inbox)
        self._settings = settings
        self.app = django_site.build_asgi()

    def call(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        body: bytes = b"",
        parts: int | None = None,
    ) -> Response:
        seen = super().call(method, path, headers, body=body, parts=parts)
        if seen.error or parts:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()  # Django leaves the request's file open where a response breaks off
        return seen

    def begin(self) -> None:
        self.tracker = django_site.use(self._settings)
        super().begin()


class StarletteHarness(InProcess):
    """Starlette under its own test client, with lifespan; the client keeps the cookies."""

    keeps_parts = False

    def __init__(self, tracker: Tracker, inbox: Inbox, client: TestClient) -> None:
        super().__init__(tracker, inbox)
        self._client = client

    def begin(self) -> None:
        super().begin()
        self._client.cookies.clear()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        cookies: bool = True,
        body: bytes = b"",
    ) -> Response:
        kept = dict(self._client.cookies)
        if not cookies:
            self._client.cookies.clear()
        answer = self._client.request(method, path, headers=headers, content=body)
        if not cookies:
            self._client.cookies.clear()
            self._client.cookies.update(kept)
        return Response(
            status=answer.status_code, headers=answer.headers.multi_items(), parts=[answer.content]
        )

    def disconnect(self, path: str) -> bytes:
        if Version(starlette.__version__) < Version("1.9"):
            pytest.skip("before Starlette 1.9 its test client shows nothing of a body without an end")
        with self._client.stream("GET", path) as answer:
            return next(answer.iter_bytes())


def spool_in(directory: Path) -> str:
    """Return the spool that this system can have: in the directory, or in memory without file locks."""
    return str(directory / "spool") if HAS_FILE_LOCKS else MEMORY


@contextlib.contextmanager
def _tracked(directory: Path) -> Iterator[tuple[Tracker, Inbox]]:
    with LocalMixpanel() as mixpanel:
        tracker = Tracker(
            token=TOKEN,
            secret_key=SECRET_KEY,
            api_host=mixpanel.url,
            spool=spool_in(directory),
            collector_path=COLLECTOR,
        )
        try:
            yield tracker, Inbox(mixpanel.url)
        finally:
            tracker.close()


def _simple(kind: Callable[[Tracker, Inbox], Harness]) -> Callable[[Path], AbstractContextManager[Harness]]:
    @contextlib.contextmanager
    def start(directory: Path) -> Iterator[Harness]:
        with _tracked(directory) as (tracker, inbox):
            yield kind(tracker, inbox)

    return start


def _under_test_client(
    build: Callable[[Tracker], Any],
) -> Callable[[Path], AbstractContextManager[Harness]]:
    @contextlib.contextmanager
    def start(directory: Path) -> Iterator[Harness]:
        with (
            _tracked(directory) as (tracker, inbox),
            TestClient(build(tracker), raise_server_exceptions=False) as client,
        ):
            yield StarletteHarness(tracker, inbox, client)

    return start


def _django(
    kind: Callable[[dict[str, Any], Inbox], Harness],
) -> Callable[[Path], AbstractContextManager[Harness]]:
    @contextlib.contextmanager
    def start(directory: Path) -> Iterator[Harness]:
        with LocalMixpanel() as mixpanel:
            settings = {
                "MIXPANEL_TOKEN": TOKEN,
                "MIXPANEL_API_HOST": mixpanel.url,
                "MIXPANEL_VISITOR_SPOOL": spool_in(directory),
                "MIXPANEL_VISITOR_COLLECTOR_PATH": COLLECTOR,
            }
            try:
                yield kind(settings, Inbox(mixpanel.url))
            finally:
                django_site.leave()

    return start


IN_PROCESS: dict[str, Callable[[Path], AbstractContextManager[Harness]]] = {
    "wsgi": _simple(WSGIHarness),
    "asgi": _simple(ASGIHarness),
    "wsgi-in-asgi": _simple(BridgeHarness),
    "quart": _simple(QuartHarness),
    "litestar": _simple(LitestarHarness),
    "werkzeug": _simple(WerkzeugHarness),
    "flask": _simple(FlaskHarness),
    "pyramid": _simple(PyramidHarness),
    "starlette": _under_test_client(apps.build_starlette),
    "fastapi": _under_test_client(build_fastapi),
    "django": _django(DjangoHarness),
    "django-asgi": _django(DjangoASGIHarness),
}
"""Each starts a harness that keeps its spool in a directory."""
