"""A Django site in one module: the pages of `support.apps`, and the settings that all tests share.

Django has one configuration for a process, so whoever uses Django in a test imports this first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from mixpanel_visitor.django import get_tracker

from .apps import APPS_COOKIE, CHUNKS, ENDLESS_CHUNK, FILE, NOBODY, USER, _asgi_sorted, _wsgi_sorted
from .trackers import SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from mixpanel_visitor.tracking.tracker import Tracker

MIDDLEWARE = "mixpanel_visitor.django.VisitorMiddleware"
SESSIONS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
PASSWORD = "correct horse"

_DATABASE = "file:mixpanel-visitor-tests?mode=memory&cache=shared"
_TICK_S = 0.005

if not settings.configured:
    settings.configure(
        SECRET_KEY=SECRET_KEY,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="support.django_site",
        MIDDLEWARE=[],
        INSTALLED_APPS=[
            "mixpanel_visitor.django",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "rest_framework.authtoken",  # what its model is, is settled when it is first imported
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _DATABASE}},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    )
    django.setup()


# --- pages, sync and async ---------------------------------------------------------------------


def _visitor(request: Any) -> Any:
    return getattr(request, "visitor", NOBODY)


def _answer(request: Any) -> HttpResponse:
    body = "" if request.method == "HEAD" else _visitor(request).id
    response = HttpResponse(body, content_type="text/plain")
    name, _, value = APPS_COOKIE.partition(";")[0].partition("=")
    response.set_cookie(name, value)
    return response


def page(request: Any) -> HttpResponse:
    _visitor(request).track("Page")
    return _answer(request)


@csrf_exempt
def login(request: Any) -> HttpResponse:
    _visitor(request).identify(USER)
    _visitor(request).track("Logged in")
    return _answer(request)


@csrf_exempt
async def logout(request: Any) -> HttpResponse:
    _visitor(request).reset()
    _visitor(request).track("Logged out")
    return _answer(request)


def stream(request: Any) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        for number, chunk in enumerate(CHUNKS, 1):
            _visitor(request).track("Chunk", n=number)
            yield chunk
        _visitor(request).track("Ended")

    _visitor(request).track("Started")
    return StreamingHttpResponse(
        chunks() if _is_sync(request) else _later(chunks()), content_type="text/plain"
    )


def error(request: Any) -> HttpResponse:
    _visitor(request).track("Failing")
    raise RuntimeError("before the response")


def error_in_body(request: Any) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        yield CHUNKS[0]
        _visitor(request).track("Failed")
        raise RuntimeError("in the body")

    _visitor(request).track("Failing")
    return StreamingHttpResponse(
        chunks() if _is_sync(request) else _later(chunks()), content_type="text/plain"
    )


def file(request: Any) -> HttpResponseBase:
    _visitor(request).track("File")
    if not _is_sync(request):
        return HttpResponse(FILE.read_bytes(), content_type="application/json")  # else Django warns
    return FileResponse(FILE.open("rb"))


def endless(request: Any) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield ENDLESS_CHUNK
        finally:
            _visitor(request).track("Closed")

    async def chunks_async() -> AsyncIterator[bytes]:
        try:
            while True:
                yield ENDLESS_CHUNK
                await asyncio.sleep(_TICK_S)
        finally:
            _visitor(request).track("Closed")

    _visitor(request).track("Begun")
    return StreamingHttpResponse(chunks() if _is_sync(request) else chunks_async(), content_type="text/plain")


def _is_sync(request: Any) -> bool:
    return not hasattr(request, "scope")


async def _later(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


_PAGES = (page, login, logout, stream, error, error_in_body, file, endless)

urlpatterns = [path(view.__name__.replace("_", "-"), view) for view in _PAGES]


def urls_of(*patterns: Any) -> Any:
    """Return what ROOT_URLCONF may be, for these patterns."""
    return type("Urls", (), {"urlpatterns": patterns})


class _Used:
    """The settings that some harness has put in place: Django has one configuration for all of them."""

    changed: ClassVar[dict[str, Any]] = {}
    override: ClassVar[override_settings] = override_settings()


def use(changed: dict[str, Any]) -> Tracker:
    """Have these settings from now on, in place of those of another harness; give the tracker of them."""
    if _Used.changed != changed:
        if _Used.changed:
            get_tracker().close()
            _Used.override.disable()
        _Used.changed = changed
        _Used.override = override_settings(**changed)
        _Used.override.enable()
    return get_tracker()


def leave() -> None:
    """Take the settings back that were put in place last."""
    if _Used.changed:
        get_tracker().close()
        _Used.override.disable()
        _Used.changed = {}


def build_wsgi() -> Any:
    """Build the site as a WSGI application, with the settings of this moment."""
    with override_settings(MIDDLEWARE=[MIDDLEWARE]):
        wrapped = get_wsgi_application()
    with override_settings(MIDDLEWARE=[]):
        unwrapped = get_wsgi_application()
    return _wsgi_sorted(wrapped, unwrapped, get_tracker())


def build_asgi() -> Any:
    """Build the site as an ASGI application, with the settings of this moment."""
    with override_settings(MIDDLEWARE=[MIDDLEWARE]):
        wrapped = get_asgi_application()
    with override_settings(MIDDLEWARE=[]):
        unwrapped = get_asgi_application()
    return _asgi_sorted(wrapped, unwrapped, get_tracker())


def build_client(middleware: list[str]) -> Client:
    """Build Django's own test client for the site."""
    client = Client(raise_request_exception=False)
    with override_settings(MIDDLEWARE=middleware):
        client.handler.load_middleware()
    return client


def __getattr__(name: str) -> Any:
    """Build the application for a real server when it is asked for."""
    build = {"wsgi_app": build_wsgi, "asgi_app": build_asgi}.get(name)
    if build is None:
        raise AttributeError(name)
    app = globals()[name] = build()
    return app
