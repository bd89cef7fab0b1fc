"""Routes: the handler of each path, and which requests are allowed; a Request in, a Reply out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mixpanel_visitor.hosts import address, hostname, is_loopback

from . import stub_endpoints
from .chaos import STATUSES, Chaos, NoAnswerError, refusal
from .flags import FlagEndpoints
from .http import Reply, Request, error_reply
from .ingestion import Ingestion
from .json_api import Listing
from .page import page
from .payload import PayloadError
from .stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .flags import LocalFlags
    from .store import Store

Kind = Literal["ingestion", "local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The handler of a path, and its methods."""

    kind: Kind
    methods: tuple[str, ...]
    handler: Callable[[Request], Reply]


class Site:
    """All endpoints of the local Mixpanel.

    The ingestion endpoints may be called from any website, as Mixpanel's. The others, which return arrivals,
    may not: without `any_host` their Host header must be "localhost" or an address, or else a website could
    read them through its own name that resolves to this machine (DNS rebinding).
    """

    def __init__(
        self,
        store: Store,
        *,
        token: str | None,
        max_body_bytes: int,
        gzip_profiles: bool,
        any_host: bool,
        chaos: Chaos,
        flags: LocalFlags,
    ) -> None:
        self._store = store
        self._any_host = any_host
        self._chaos = chaos
        ingestion = Ingestion(
            store=store, token=token, max_body_bytes=max_body_bytes, gzip_profiles=gzip_profiles
        )
        listing = Listing(store=store, chaos=chaos)
        self._stream = Stream(store=store)
        flag_endpoints = FlagEndpoints(flags, token=token)
        both, get, post = ("GET", "POST"), ("GET",), ("POST",)
        self._routes: Mapping[str, Route] = {
            # The reference has POST only; the official Node library's `import` sends one event by GET.
            "/import": Route(kind="ingestion", methods=both, handler=ingestion.import_events),
            "/track": Route(kind="ingestion", methods=both, handler=ingestion.track),
            "/engage": Route(kind="ingestion", methods=both, handler=ingestion.engage),
            "/groups": Route(kind="ingestion", methods=both, handler=ingestion.groups),
            "/flags": Route(kind="ingestion", methods=both, handler=flag_endpoints.variants),
            "/flags/definitions": Route(kind="ingestion", methods=get, handler=flag_endpoints.definitions),
            "/settings": Route(kind="ingestion", methods=both, handler=stub_endpoints.settings),
            "/record": Route(kind="ingestion", methods=post, handler=stub_endpoints.record),
            "/decide": Route(kind="ingestion", methods=both, handler=stub_endpoints.decide),
            "/": Route(kind="local", methods=get, handler=page),
            "/_local/stream": Route(kind="local", methods=get, handler=self._stream.events),
            "/_local/chaos": Route(kind="local", methods=both, handler=listing.chaos_rates),
            "/_local/flags": Route(kind="local", methods=both, handler=flag_endpoints.listing),
            "/_local/count": Route(kind="local", methods=get, handler=listing.count),
            "/_local/two-ids": Route(kind="local", methods=get, handler=listing.two_ids),
            "/_local/events": Route(kind="local", methods=get, handler=listing.events),
            "/_local/stats": Route(kind="local", methods=get, handler=listing.stats),
            "/_local/people": Route(kind="local", methods=get, handler=listing.people),
            "/_local/profiles": Route(kind="local", methods=get, handler=listing.profiles),
            "/_local/groups": Route(kind="local", methods=get, handler=listing.groups),
            "/_local/rejected": Route(kind="local", methods=get, handler=listing.rejected),
            "/_local/not-sent": Route(kind="local", methods=post, handler=listing.not_sent),
            "/_local/health": Route(kind="local", methods=get, handler=listing.health),
            "/_local/reset": Route(kind="local", methods=post, handler=listing.reset),
        }

    def now_ms(self) -> int:
        """The wall clock of this Mixpanel."""
        return self._store.now_ms()

    def start(self) -> None:
        """Allow streams, until `stop`."""
        self._stream.stopped.clear()
        self._chaos.stopped.clear()

    def stop(self) -> None:
        """End all streams and hanging requests."""
        self._stream.stopped.set()
        self._chaos.stopped.set()

    def respond(self, request: Request) -> Reply:
        """Answer a request; those to ingestion endpoints and unknown paths are counted by path and status."""
        route = self._routes.get(request.path)
        if route is None:
            reply = error_reply(404, f"there is nothing at {request.path}")
        elif route.kind == "local":
            return self._local(route, request)
        elif request.method == "OPTIONS":
            reply = _with_cors(request, Reply(status=204), preflight=True)
        elif request.method not in route.methods:
            reply = _wrong_method(route)
        else:
            reply = _with_cors(request, self._ingested(route, request))
        self._store.count_request(request.path, reply.status)
        return reply

    def _ingested(self, route: Route, request: Request) -> Reply:
        failure = self._chaos.drawn()
        if failure is None:
            return route.handler(request)
        if failure in STATUSES:
            return refusal(failure)
        if failure == "hang":
            self._chaos.hang()
        reply = route.handler(replace(request, partial=failure == "partial"))
        if failure == "lost":
            raise NoAnswerError
        return reply

    def _local(self, route: Route, request: Request) -> Reply:
        method = "GET" if request.method == "HEAD" else request.method
        if method not in route.methods:
            return _wrong_method(route)
        host = request.headers.get("host", "")
        if not self._any_host and not _names_this_machine(host):
            return error_reply(403, f"reach the local Mixpanel as localhost, not as {host!r}")
        origin = request.headers.get("origin")
        if method == "POST" and origin is not None and origin.partition("://")[2] != host:
            return error_reply(403, "another website may not do this")
        try:
            return route.handler(request)
        except PayloadError as error:
            return error_reply(error.status, str(error))


def _with_cors(request: Request, reply: Reply, *, preflight: bool = False) -> Reply:
    origin = request.headers.get("origin", "")
    # A folded header line would come back as a header of its own.
    if not origin or not origin.isprintable() or " " in origin:
        return reply
    headers = [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Vary", "Origin"),
    ]
    if preflight:
        headers += [
            ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
            ("Access-Control-Allow-Headers", "Authorization, Content-Encoding, Content-Type, Traceparent"),
            ("Access-Control-Max-Age", "600"),
        ]
    return replace(reply, headers=(*reply.headers, *headers))


def _wrong_method(route: Route) -> Reply:
    extra = ("OPTIONS",) if route.kind == "ingestion" else (("HEAD",) if "GET" in route.methods else ())
    allowed = ", ".join((*route.methods, *extra))
    return error_reply(405, f"only {allowed} is answered here", headers=(("Allow", allowed),))


def _names_this_machine(host: str) -> bool:
    name = hostname(host).strip("[]").rstrip(".")
    return not name or is_loopback(name) or address(name) is not None
