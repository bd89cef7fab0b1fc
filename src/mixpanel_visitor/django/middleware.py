"""VisitorMiddleware for Django, sync and async, as `MIDDLEWARE` and Django's test clients have it.

`request.visitor` and `request.visitor_id` are there for what stands below it, and `current_visitor`. It looks
at no session and no user. What views track is stored when the response is closed, after its last byte; what
streams, between the parts as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from mixpanel_visitor.process.timed_read import read_within
from mixpanel_visitor.tracking import context

from .logins import learn_last_login
from .requests import facts_of, visitor_of
from .responses import Visit, add_headers, in_thread
from .site import current_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.tracking.handover_endpoint import Reply
    from mixpanel_visitor.tracking.own_endpoints import OwnEndpoint

    from .site import Site


class VisitorMiddleware:
    """Attach a visitor to every request; to stand above all other middleware.

    `VisitorMiddleware(view)(request)` gives one to a request of Django's `RequestFactory`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Wrap the handler below; raises `SettingsError` where settings are wrong, with all that is wrong."""
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        current_site()
        learn_last_login()

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request."""
        if self._is_async:
            return self._serve(request)
        visit = _begin(request, in_background=False)
        if visit is None:
            return self.get_response(request)
        if isinstance(visit, HttpResponseBase):
            return visit
        if isinstance(visit, OwnAnswer):
            return visit.response()
        token = context.enter(visit.visitor)
        try:
            response = self.get_response(request)
        except BaseException:
            visit.end()
            raise
        finally:
            context.leave(token)
        response = visit.leave_with(request, response)
        visit.wait_for_delivery()
        return response

    async def _serve(self, request: HttpRequest) -> Any:
        visit = _begin(request, in_background=True)
        if visit is None:
            return await self.get_response(request)
        if isinstance(visit, HttpResponseBase):
            return visit
        if isinstance(visit, OwnAnswer):
            return await in_thread(visit.response)
        token = context.enter(visit.visitor)
        try:
            response = await self.get_response(request)
        except BaseException:
            visit.end()
            raise
        finally:
            context.leave(token)
        response = visit.leave_with(request, response)
        if visit.must_wait:
            await in_thread(visit.wait_for_delivery)
        return response


def _begin(request: HttpRequest, *, in_background: bool) -> Visit | HttpResponse | OwnAnswer | None:
    """Attach the visitor to the request. Return a response where it is not the application's to answer."""
    site = current_site()
    engine = site.engine
    try:
        visitor = visitor_of(request)
        if visitor is None:
            facts = facts_of(request)
            if site.behind_proxies:
                facts = engine.behind_proxies(facts)
            if request.path_info.endswith(site.endings):
                own_answer = _received(site, request, facts, in_background=in_background)
                if own_answer is not None:
                    return own_answer
            exchange, visitor = engine.begin(facts, in_background=in_background)
            visit = Visit(site, exchange, visitor, in_background=in_background)
        else:
            visit = None
        attributes: Any = request  # two attributes that Django's class does not know
        attributes.visitor, attributes.visitor_id = visitor, visitor.id
    except Exception:
        engine.failed("the Django middleware")
        return None
    return visit


def _received(
    site: Site, request: HttpRequest, facts: RequestFacts, *, in_background: bool
) -> HttpResponse | OwnAnswer | None:
    """Answer what is not the application's; None: it is."""
    path = request.path_info
    endpoint = site.endpoints.find(path, facts)
    if endpoint is None:
        return None
    reply = endpoint.reply(path, facts)
    if reply is not None:
        return _response(reply)
    own_answer = OwnAnswer(endpoint, request, facts, in_background=in_background)
    return own_answer if endpoint.body_deadline_s is not None else own_answer.response()


class OwnAnswer:
    """The answer to a request that is not the application's; to get it may block."""

    def __init__(
        self, endpoint: OwnEndpoint, request: HttpRequest, facts: RequestFacts, *, in_background: bool
    ) -> None:
        self._endpoint = endpoint
        self._request = request
        self._facts = facts
        self._in_background = in_background

    def response(self) -> HttpResponse:
        """Read the body, and have it taken."""
        endpoint, facts = self._endpoint, self._facts
        body: bytes | None
        if endpoint.body_deadline_s is None or self._in_background:
            body = self._request.read(endpoint.body_limit_bytes)  # Django's ASGI handler has it already
        else:
            body = read_within(
                self._request.read, endpoint.body_limit_bytes, timeout_s=endpoint.body_deadline_s
            )
        if body is None:
            return _response(endpoint.unavailable("slow_body", facts))
        path = self._request.path_info
        return _response(endpoint.take(path, facts, body, in_background=self._in_background))


def _response(reply: Reply) -> HttpResponse:
    response = HttpResponse(reply.body, status=reply.status)
    del response["Content-Type"]
    add_headers(response, reply.headers)
    return response
