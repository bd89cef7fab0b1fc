"""Metrics server of a worker: `/metrics` for Prometheus, `/healthz` for probes."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections import Counter
from typing import TYPE_CHECKING

from mixpanel_visitor.errors import MissingExtraError
from mixpanel_visitor.settings.masked import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mixpanel_visitor.tracking.tracker import Tracker


@contextlib.contextmanager
def serve(trackers: Sequence[Tracker], host: str, port: int) -> Iterator[int]:
    """Serve both while the block runs; yield the port.

    Raise OSError where the address is not available, MissingExtraError without the extra `prometheus`.
    """
    metrics = _metrics(trackers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._respond(200, metrics())
            elif self.path == "/healthz":
                well = all(tracker.stats()["sender"]["running"] for tracker in trackers)
                self._respond(200 if well else 503, b"ok\n" if well else b"a sender does not run\n")
            else:
                self._respond(404, b"/metrics or /healthz\n")

        def _respond(self, status: int, body: bytes) -> None:
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
    try:
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

        from mixpanel_visitor.prometheus import VisitorCollector  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("prometheus-client", "prometheus") from None
    registry = CollectorRegistry()
    registry.register(VisitorCollector(trackers[0] if len(trackers) == 1 else dict(_by_spool(trackers))))
    return lambda: generate_latest(registry)


def _by_spool(trackers: Sequence[Tracker]) -> Iterator[tuple[str, Tracker]]:
    """Name each after its spool; those that share one are numbered."""
    seen: Counter[str] = Counter()
    for tracker in trackers:
        name = without_secrets(tracker.settings.spool)
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), tracker
