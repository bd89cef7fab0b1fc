"""What a worker shows of itself: `/metrics` for Prometheus, `/healthz` for probes."""

from __future__ import annotations

import contextlib
import http.server
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mixpanel_visitor.tracker import Tracker


@contextlib.contextmanager
def serve(trackers: Sequence[Tracker], host: str, port: int) -> Iterator[int]:
    """Serve both while the block runs; gives the port. Raises OSError where that cannot be listened on."""
    metrics = _metrics(trackers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, metrics())
            elif self.path == "/healthz":
                well = all(tracker.stats()["sender"]["running"] for tracker in trackers)
                self._answer(200 if well else 503, b"ok\n" if well else b"a sender does not run\n")
            else:
                self._answer(404, b"/metrics or /healthz\n")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer((host, port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _metrics(trackers: Sequence[Tracker]) -> Callable[[], bytes]:
    # Late: who only wants /healthz needs no extra, and hears of it at /metrics.
    try:
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

        from mixpanel_visitor.prometheus import VisitorCollector  # noqa: PLC0415
    except ImportError as error:
        hint = f"{error}\n".encode()
        return lambda: hint
    registry = CollectorRegistry()
    for number, tracker in enumerate(trackers, 1):
        # Names must differ; with one, as everywhere, there is none to tell it from.
        namespace = "mixpanel_visitor" if number == 1 else f"mixpanel_visitor_{number}"
        registry.register(VisitorCollector(tracker, namespace=namespace))
    return lambda: generate_latest(registry)
