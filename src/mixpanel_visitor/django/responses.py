"""Responses: our headers in Django's response, and what is tracked until it is closed."""

from __future__ import annotations

from http.cookies import Morsel, SimpleCookie
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from mixpanel_visitor.core.exchange import ENDED
from mixpanel_visitor.tracking import context

from .requests import route_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from contextvars import Token

    from django.http import HttpRequest, HttpResponseBase

    from mixpanel_visitor.core.exchange import Exchange
    from mixpanel_visitor.tracking.visitor import Visitor

    from .site import Site


class Visit:
    """One request with its response: ends when the response is closed, or thrown away."""

    def __init__(self, site: Site, exchange: Exchange, visitor: Visitor, *, in_background: bool) -> None:
        self.visitor = visitor
        self._site = site
        self._exchange = exchange
        self._in_background = in_background
        self._token: Token[Visitor | None] | None = None
        self._commits_first = False

    def leave_with(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Let the response take our headers along, and tell us when it is closed."""
        engine, exchange = self._site.engine, self._exchange
        try:
            added = engine.on_response_start(
                exchange, response.status_code, lambda: _head(response), lambda: route_of(request)
            )
            add_headers(response, added)
            if self._site.stores_before and exchange.has_records:
                self._commits_first = True
                engine.commit(exchange, in_background=False)
            if getattr(response, "streaming", False) and getattr(response, "file_to_stream", None) is None:
                self._watch(response)
            closers = response._resource_closers  # noqa: SLF001  # `close` calls them, in every handler
            if closers:  # of the application, which may track; what comes later is Django's own
                closers.insert(0, self._resume)
            closers.append(self.end)
        except Exception:
            engine.failed("the Django middleware")
            self.end()
        return response

    def wait_for_delivery(self) -> None:
        """With `durability="delivered"` wait for Mixpanel's acknowledgement of what the view has tracked."""
        if self.must_wait:
            self._site.engine.wait_for_delivery()

    @property
    def must_wait(self) -> bool:
        """Whether the response has to wait for a delivery."""
        return self._commits_first and self._site.engine.waits_for_delivery

    def end(self) -> None:
        """Store what is left; may be called more than once."""
        self._site.engine.on_response_end(self._exchange, in_background=self._in_background)
        token, self._token = self._token, None
        if token is not None:
            context.leave(token)

    def __del__(self) -> None:
        """End where nobody has closed the response."""
        if self._exchange.state is not ENDED:
            try:
                self._site.engine.on_response_end(self._exchange, in_background=True)
            except Exception:
                self._site.engine.failed("the response's finalizer")

    def _resume(self) -> None:
        """Be the current visitor for what the application does when its response is closed."""
        self._token = context.enter(self.visitor)

    def _watch(self, response: Any) -> None:
        parts = response.streaming_content
        response.streaming_content = self._async_parts(parts) if response.is_async else self._parts(parts)

    def _parts(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        iterator = iter(parts)
        while True:
            token = context.enter(self.visitor)
            try:
                part = next(iterator)
            except StopIteration:
                return
            finally:
                context.leave(token)
            if self._site.stores_before and self._exchange.has_records:
                self._site.engine.commit_before_response(self._exchange)  # any part may be the last one
            yield part
            self._after_part(in_background=self._in_background)

    async def _async_parts(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        iterator = aiter(parts)
        while True:
            token = context.enter(self.visitor)
            try:
                part = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                context.leave(token)
            if self._site.stores_before and self._exchange.has_records:
                await in_thread(self._site.engine.commit_before_response, self._exchange)
            yield part
            self._after_part(in_background=True)

    def _after_part(self, *, in_background: bool) -> None:
        if self._exchange.has_records:
            self._site.engine.commit(self._exchange, in_background=in_background)  # a stream may never end


async def in_thread(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function that may block, in a thread that no other code waits for; return its result."""
    return await sync_to_async(function, thread_sensitive=False)(*arguments)


class _Cookies(SimpleCookie):
    """Cookies of which several may have one name, as those of one host and of its domain do.

    Django's test client, which knows no domains, sees one of each.
    """

    def __init__(self, cookies: SimpleCookie) -> None:
        super().__init__()
        self.others: list[Morsel[str]] = []
        dict.update(self, cookies)

    def values(self) -> Any:
        return [*self.others, *super().values()]


def add_headers(response: HttpResponseBase, headers: Iterable[tuple[str, str]]) -> None:
    """Add headers to those that the response has."""
    for name, value in headers:
        if name != "set-cookie":
            response[name] = f"{response[name]}, {value}" if name in response else value
            continue
        for key, morsel in SimpleCookie(value).items():
            if key in response.cookies:
                if not isinstance(response.cookies, _Cookies):
                    response.cookies = _Cookies(response.cookies)
                response.cookies.others.append(response.cookies[key])
            dict.__setitem__(response.cookies, key, morsel)


def _head(response: HttpResponseBase) -> list[tuple[str, str]]:
    cookies = (("set-cookie", cookie.OutputString()) for cookie in response.cookies.values())
    return [*response.items(), *cookies]
