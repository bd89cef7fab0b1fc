"""The peers, each with the settings of its own documentation, but for queues that hold all of a run.

Each gives a `capture(number)` that tracks the same event of eight properties, whose marker the server counts,
and a `flush()` that returns once everything is acknowledged. Imported one by one, in the environment that
`python tests/benchmarks/peers` makes.
"""

from __future__ import annotations

import concurrent.futures
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "0123456789abcdef0123456789abcdef"
USER = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
SECRET_KEY = "a secret of the benchmark alone, 32 characters"
HOLDS = 1_000_000


BROWSER = [
    (b"host", b"shop.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    (b"accept-language", b"nb-NO,nb;q=0.9,en;q=0.8"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"referer", b"http://shop.example.com/"),
    (b"sec-fetch-dest", b"document"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-site", b"same-origin"),
]


def at_once(work: Callable[[], object]) -> None:
    """Do it outside of any request."""
    work()


class Sdk(NamedTuple):
    """One SDK that is ready to track; `around` does some work in a request, where it needs one."""

    capture: Callable[[int], object]
    flush: Callable[[], object]
    around: Callable[[Callable[[], object]], None] = at_once


def properties(number: int) -> dict[str, Any]:
    """Make eight properties."""
    return {
        "marker": f"marker-{number:08d}",
        "plan": "pro",
        "seats": 3,
        "price": 9.5,
        "trial": False,
        "country": "NO",
        "step": number % 7,
        "from": "menu",
    }


def mixpanel_noop(_url: str) -> Sdk:
    """Mixpanel's own library into a consumer that does nothing: what building an event costs it."""
    import mixpanel

    class Nothing:
        def send(self, *_: object) -> None:
            pass

    client = mixpanel.Mixpanel(TOKEN, consumer=Nothing())
    return Sdk(lambda number: client.track(USER, "Seen", properties(number)), lambda: None)


def mixpanel_buffered(url: str) -> Sdk:
    """Mixpanel's own library with its BufferedConsumer, which sends in the caller's thread."""
    import mixpanel

    consumer = mixpanel.BufferedConsumer(events_url=f"{url}/track")
    client = mixpanel.Mixpanel(TOKEN, consumer=consumer)
    return Sdk(lambda number: client.track(USER, "Seen", properties(number)), consumer.flush)


def posthog(url: str) -> Sdk:
    """PostHog."""
    from posthog import Posthog

    client = Posthog("phc_0123456789", host=url, max_queue_size=HOLDS)
    return Sdk(
        lambda number: client.capture("Seen", distinct_id=USER, properties=properties(number)), client.flush
    )


def segment(url: str) -> Sdk:
    """Segment."""
    from segment.analytics.client import Client

    client = Client("0123456789", host=url, max_queue_size=HOLDS)
    return Sdk(lambda number: client.track(USER, "Seen", properties(number)), client.flush)


def rudder(url: str) -> Sdk:
    """Rudder."""
    from rudderstack.analytics.client import Client

    client = Client("0123456789", host=url, max_queue_size=HOLDS)
    return Sdk(lambda number: client.track(USER, "Seen", properties(number)), client.flush)


def amplitude(url: str) -> Sdk:
    """Amplitude."""
    from amplitude import Amplitude, BaseEvent, Config

    client = Amplitude("0123456789", Config(server_url=url))

    def flush() -> None:
        concurrent.futures.wait([future for future in client.flush() if future is not None])
        client.shutdown()

    return Sdk(
        lambda number: client.track(BaseEvent("Seen", user_id=USER, event_properties=properties(number))),
        flush,
    )


def snowplow(url: str) -> Sdk:
    """Snowplow, with the emitter that has a thread."""
    import snowplow_tracker

    address = urlsplit(url)
    emitter = snowplow_tracker.AsyncEmitter(
        str(address.hostname), protocol="http", port=address.port, buffer_capacity=HOLDS
    )
    tracker = snowplow_tracker.Tracker("bench", emitters=[emitter], encode_base64=False)

    def capture(number: int) -> None:
        data = snowplow_tracker.SelfDescribingJson(
            "iglu:com.example/seen/jsonschema/1-0-0", properties(number)
        )
        tracker.track(snowplow_tracker.SelfDescribing(data))

    return Sdk(capture, lambda: tracker.flush(is_async=False))


def ours(url: str) -> Sdk:
    """This package outside of a request, one event at a time, each on the disk when the call returns."""
    from mixpanel_visitor import Tracker

    tracker = Tracker(
        token=TOKEN, secret_key=SECRET_KEY, api_host=url, spool=tempfile.mkdtemp(prefix="peers-spool-")
    )
    return Sdk(lambda number: tracker.track(USER, "Seen", properties(number)), lambda: tracker.flush(120.0))


def ours_in_requests(url: str) -> Sdk:
    """This package as it is used: in the requests of a known visitor, enriched, stored after the response."""
    from mixpanel_visitor import Tracker
    from mixpanel_visitor.asgi import VisitorMiddleware

    tracker = Tracker(
        token=TOKEN, secret_key=SECRET_KEY, api_host=url, spool=tempfile.mkdtemp(prefix="peers-spool-")
    )
    work: Callable[[], object] = int
    visitor: Any = None
    cookies: list[bytes] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        nonlocal visitor
        visitor = scope["state"]["visitor"]
        work()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async def answered(message: Any) -> None:
        cookies.extend(value for name, value in message.get("headers", ()) if name == b"set-cookie")

    wrapped = VisitorMiddleware(app, tracker=tracker)

    def around(given: Callable[[], object]) -> None:
        nonlocal work
        work = given
        scope = {
            "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "root_path": "", "scheme": "http",
            "query_string": b"", "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 80), "state": {},
            "headers": [*BROWSER, (b"cookie", b"; ".join(cookie.partition(b";")[0] for cookie in cookies))],
        }  # fmt: skip
        serving = wrapped(scope, _nothing, answered)
        try:
            serving.send(None)
        except StopIteration:
            return
        raise RuntimeError("this request should not have waited for anything")

    around(int)  # the visitor is new, and is known from here on
    return Sdk(lambda number: visitor.track("Seen", properties(number)), lambda: tracker.flush(120.0), around)


async def _nothing() -> Any:
    raise RuntimeError("nobody reads the body")


def ours_with_isal(url: str) -> Sdk:
    """The same, where the extra is installed."""
    return ours_in_requests(url)


SDKS = {
    each.__name__: each
    for each in (
        ours,
        ours_in_requests,
        ours_with_isal,
        mixpanel_noop,
        mixpanel_buffered,
        posthog,
        segment,
        rudder,
        amplitude,
        snowplow,
    )
}
