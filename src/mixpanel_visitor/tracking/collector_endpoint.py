"""CollectorEndpoint: answers the browser SDK's own requests in Mixpanel's place.

| status | of | what the SDK does then |
|---|---|---|
| 200 | what is in the spool, or is not wanted (consent, bots, other tokens) | forgets it |
| 503 | what the spool does not take, a body that is too slow | sends it again later |
| 429 | a visitor or an address that sends too much, or too many large bodies | sends it again later |
| 413 | a body that is too large | sends it in halves |
| 400, 403, 405, 415 | what is no request of the SDK's on a page of this site | forgets it |
| 404 | session recordings, which are not taken here | |

Flags and settings are asked for at Mixpanel, and its answer is the answer. In the stats, notes that begin
with `collector_` count what happened here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from mixpanel_visitor.core.collector.admission import MAX_BODY_BYTES, CollectorError, check
from mixpanel_visitor.core.collector.decoding import decode, inflated
from mixpanel_visitor.core.collector.ownership import KnownVisitor
from mixpanel_visitor.core.collector.rate_limit import (
    ADDRESS_BURST,
    ADDRESS_PER_S,
    LARGE_BODY_BYTES,
    LARGE_BURST,
    LARGE_PER_S,
    SUSPECT_BURST,
    SUSPECT_PER_S,
    VISITOR_BURST,
    VISITOR_PER_S,
    RateLimit,
    address_key,
    cost_of,
)
from mixpanel_visitor.core.collector.routes import CollectorRoutes
from mixpanel_visitor.core.enrichment.client_address import NO_GEOLOCATION, is_local
from mixpanel_visitor.core.request import content_length
from mixpanel_visitor.process.time_slices import TimeSlices
from mixpanel_visitor.process.worker_threads import WorkerThreads

from .browser_events import BrowserEvents, Sender
from .handover_endpoint import Reply

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mixpanel_visitor.core.collector.routes import Route
    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.delivery.sending.pass_through import PassThrough
    from mixpanel_visitor.records import Endpoint

    from .engine import Engine

BODY_DEADLINE_S = 10.0
"""A body that is not here after so long is not waited for; the SDK sends it again."""

MAX_SHARE = 0.5
"""The browser's events may use half of the spool, so that the server's own find room in the other half."""

MAX_UNREAD_BYTES = 4 * MAX_BODY_BYTES
"""So much of a refused body the server may read and discard; the connection of a larger one is closed."""

RETRY_AFTER_S = 10
MAX_QUERY_CHARS = 8_192
SLOW_BODY = "collector_slow_body"

_ENDPOINTS: dict[Route, Endpoint] = {"track": "import", "engage": "engage", "groups": "groups"}
_NO_FLAGS = b'{"code":200,"flags":{}}'
_PASSED_HEADERS = ("user-agent", "traceparent", "accept-language")
_FORWARDING = ("x-forwarded-for", "forwarded", "x-real-ip")
_CLIENT_NAMED = ("cf-connecting-ip", "true-client-ip")
"""In these a CDN names the client, whatever proxies stand behind it."""


class CollectorEndpoint:
    """Answers for one tracker, whatever the protocol."""

    body_limit_bytes = MAX_BODY_BYTES + 1
    body_deadline_s = BODY_DEADLINE_S

    def __init__(self, engine: Engine, *, events: BrowserEvents, pass_through: PassThrough) -> None:
        assert engine.settings.collector_path is not None
        self._engine = engine
        self._events = events
        self._pass_through = pass_through
        self._counters = engine.counters
        self._monotonic = engine.monotonic
        self._token = engine.settings.token
        self.routes = CollectorRoutes(engine.settings.collector_path, engine.settings.token)
        self.paths = self.routes.endings
        self._by_address = RateLimit(per_s=ADDRESS_PER_S, burst=ADDRESS_BURST)
        self._by_visitor = RateLimit(per_s=VISITOR_PER_S, burst=VISITOR_BURST)
        self._suspects = RateLimit(per_s=SUSPECT_PER_S, burst=SUSPECT_BURST)
        self._cookie = f"{engine.settings.cookie_name}="
        self._by_size = RateLimit(per_s=LARGE_PER_S, burst=LARGE_BURST)
        self._time_slices = TimeSlices()
        # One that stores, and some that wait for Mixpanel: neither may keep the other from its work.
        self._storing = WorkerThreads("mixpanel-visitor-collector", max_threads=1, max_waiting=256)
        self._asking = WorkerThreads("mixpanel-visitor-asking", max_threads=4, max_waiting=16)

    def matches(self, path: str, facts: RequestFacts) -> bool:
        """Return whether a request is ours to answer; `path` is below the root of the application."""
        return self.routes.find(path) is not None and not self._engine.is_excluded(facts)

    def reply(self, path: str, facts: RequestFacts) -> Reply | None:
        """Answer a request without looking at its body; None: it is to be taken, with its body."""
        route = self._route(path)
        try:
            check(route, facts)
            length_bytes = content_length(facts) or 0
            self._limit_address(facts, cost_of(length_bytes))
            self._limit_large(length_bytes)
            if self._cookie not in facts.header("cookie"):
                self._limit_suspect(facts)
        except CollectorError as error:
            return self._refused(error, facts)
        return None

    def take(self, path: str, facts: RequestFacts, body: bytes, *, in_background: bool) -> Reply:  # noqa: ARG002
        """Answer a request; blocks for the disk, or for Mixpanel. Never raises.

        What is answered with 200 is in the spool, whatever the durability of other requests is.
        """
        route = self._route(path)
        try:
            if route in ("flags", "settings"):
                return self._ask(route, path, facts, body)
            return self._collect(route, facts, body)
        except CollectorError as error:
            return self._refused(error, facts)
        except Exception:
            self._engine.failed("the collector")
            return self.unavailable("internal_error", facts)

    def submit(self, path: str, facts: RequestFacts, body: bytes) -> Future[Reply] | None:
        """Have a thread `take` a request, for callers in an event loop; None: too many wait already."""
        workers = self._asking if self._route(path) in ("flags", "settings") else self._storing
        return workers.submit(lambda: self.take(path, facts, body, in_background=False))

    def unavailable(self, note: str, facts: RequestFacts) -> Reply:
        """Answer what cannot be taken now; the SDK sends it again."""
        message = "this cannot be taken at the moment; send it again"
        return self._refused(CollectorError(503, f"collector_{note}", message), facts)

    # --- events and updates ---------------------------------------------------------------------------

    def _collect(self, route: Route, facts: RequestFacts, body: bytes) -> Reply:
        engine = self._engine
        self._time_slices.pause()
        if not facts.header("content-length"):
            self._limit_address(facts, cost_of(len(body)) - cost_of(0))
        exchange, _ = engine.begin(facts, in_background=False)
        cookie = exchange.received_cookie
        if cookie is None:
            self._limit_suspect(facts)
        else:
            self._limit_visitor(cookie.device_id, body)
        try:
            items = self._items(facts, body)
        except CollectorError as error:
            if error.status == 400 and cookie is None:
                self._suspect(facts)
            raise
        if not items:
            return self._answer(facts, 200, "", address=self._address_seen(facts))
        reason = exchange.refusal
        if reason == "closed":
            return self.unavailable("closed", facts)
        self._counters.accept_several(len(items))
        if reason is not None:
            self._counters.refuse(reason, len(items))
            return self._answer(facts, 200, "")
        sender = Sender(KnownVisitor(exchange.identity, cookie), self._ip(facts), exchange.is_bot)
        records, foreign = self._events.records(_ENDPOINTS[route], self._time_slices.over(items), sender)
        if foreign and cookie is None:
            self._suspect(facts)
        if records:
            if not engine.pipeline.store_within_share(records, MAX_SHARE):
                return self.unavailable("unavailable", facts)
            if engine.waits_for_delivery:
                engine.wait_for_delivery()
        left_out = len(items) - len(records)
        return self._answer(facts, 200, f"{left_out} of {len(items)} were refused" if left_out else "")

    def _items(self, facts: RequestFacts, body: bytes) -> list[Any]:
        announced_bytes = content_length(facts) or 0
        body = inflated(body, facts)
        if announced_bytes <= LARGE_BODY_BYTES:
            self._limit_large(len(body))
        return decode(body)

    def _limit_address(self, facts: RequestFacts, cost: float) -> None:
        if not self._by_address.take(address_key(facts.client), cost, self._monotonic()):
            raise CollectorError(429, "collector_rate", "too many requests from this address")

    def _limit_large(self, body_bytes: int) -> None:
        if body_bytes > LARGE_BODY_BYTES and not self._by_size.take("", 1.0, self._monotonic()):
            raise CollectorError(429, "collector_rate", "too many large bodies")

    def _limit_visitor(self, device_id: str, body: bytes) -> None:
        if not self._by_visitor.take(device_id, cost_of(len(body)), self._monotonic()):
            raise CollectorError(429, "collector_rate", "too many requests of this visitor")

    def _limit_suspect(self, facts: RequestFacts) -> None:
        """Refuse who has no signed cookie, at an address from which much junk came without one."""
        if self._suspects.level(address_key(facts.client), self._monotonic()) < 1:
            raise CollectorError(429, "collector_rate", "too many requests from this address were refused")

    def _suspect(self, facts: RequestFacts) -> None:
        self._suspects.take(address_key(facts.client), 1.0, self._monotonic())

    def _ip(self, facts: RequestFacts) -> str:
        """Return what is sent as the address; `"0"` where the page's `mixpanel.init` says `ip: false`."""
        asks_for_none = "ip=0" in facts.query.split("&")
        return NO_GEOLOCATION if asks_for_none else self._engine.client_ip(facts)

    def _address_seen(self, facts: RequestFacts) -> str:
        """Return what the doctor wants to know: whose address events get, in one word."""
        if self._engine.client_ip(facts) == NO_GEOLOCATION and not is_local(facts.client):
            return "off"
        is_forwarded = any(map(facts.header, _FORWARDING))
        named = [each for name in _CLIENT_NAMED if (each := facts.header(name))]
        if any(each != facts.client for each in named) or (
            is_forwarded and not self._engine.settings.trusted_proxies
        ):
            return "proxy"
        return "local" if is_local(facts.client) else "client"

    # --- what Mixpanel answers ------------------------------------------------------------------------

    def _ask(self, route: Route, path: str, facts: RequestFacts, body: bytes) -> Reply:
        exchange, _ = self._engine.begin(facts, in_background=False)
        if not self._engine.pipeline.delivers:
            raise CollectorError(404, "collector_not_asked", "this process asks Mixpanel for nothing")
        if len(facts.query) > MAX_QUERY_CHARS:
            raise CollectorError(400, "collector_malformed", "the query is too long")
        flag_id = self.routes.flag_id(path)
        headers = {name: value for name in _PASSED_HEADERS if (value := facts.header(name))}
        if route == "flags":
            if exchange.refusal is not None:
                return _sized(200, [("content-type", "application/json")], _NO_FLAGS)
            if flag_id is None and parse_qs(facts.query).get("token", [self._token]) != [self._token]:
                raise CollectorError(403, "collector_token", "the token is another project's")
            client_ip = self._engine.client_ip(facts)
            if client_ip != NO_GEOLOCATION:
                headers["x-forwarded-for"] = client_ip
        target = f"/{route}/" if flag_id is None else f"/flags/{flag_id}/first-time-events"
        if facts.query:
            target = f"{target}?{facts.query}"
        if body:
            headers["content-type"] = "application/json"
        response = self._pass_through.ask(
            facts.method, target, headers, body, is_shared=route == "settings" and not body
        )
        if response.status == 0 or response.failure:
            return self.unavailable("not_answered", facts)
        self._engine.note("collector_passed_on")
        # Never as HTML, whatever it is: here it would be a page of the site's own.
        return _sized(response.status, [("content-type", "application/json")], response.body)

    # --- answers --------------------------------------------------------------------------------------

    def _route(self, path: str) -> Route:
        route = self.routes.find(path)
        assert route is not None
        return route

    def _refused(self, error: CollectorError, facts: RequestFacts) -> Reply:
        self._engine.note(error.note)
        reply = self._answer(facts, error.status, str(error))
        if error.status in (429, 503):
            reply.headers.append(("retry-after", str(RETRY_AFTER_S)))
        if error.status == 405:
            reply.headers.append(("allow", "POST"))
        return reply._replace(closes=_closes(error, facts))

    def _answer(self, facts: RequestFacts, status: int, error: str, **more: str) -> Reply:
        """Answer as Mixpanel does: JSON where the SDK asks for it with `verbose=1`, else one digit."""
        is_taken = status == 200
        if "verbose=1" not in facts.query.split("&"):
            return _sized(status, [("content-type", "text/plain; charset=utf-8")], b"1" if is_taken else b"0")
        said = {"status": int(is_taken), "error": error or None, **more}
        return _sized(status, [("content-type", "application/json")], orjson.dumps(said))


def _closes(error: CollectorError, facts: RequestFacts) -> bool:
    """Return whether a connection should end with a refusal, so that the server need not read what is left.

    A browser whose body is somewhat too large has to see the 413: on a connection that ends before all of
    the body is read, it may see nothing but that.
    """
    if error.status == 429 or error.note == SLOW_BODY:
        return True
    try:
        length_bytes = content_length(facts)
    except ValueError:
        return True
    if length_bytes is None:
        return error.status == 413
    return length_bytes > MAX_UNREAD_BYTES


def _sized(status: int, headers: list[tuple[str, str]], body: bytes) -> Reply:
    ours = [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-length", str(len(body))),
    ]
    return Reply(status, [*headers, *ours], body)
