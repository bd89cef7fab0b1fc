"""OwnEndpoints: the endpoints of the middleware itself, hand-over and collector, for adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .handover_endpoint import HandoverEndpoint

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mixpanel_visitor.core.request import RequestFacts

    from .collector_endpoint import CollectorEndpoint
    from .engine import Engine
    from .handover_endpoint import Reply


class OwnEndpoint(Protocol):
    """Answers the requests to some paths; `reply` first, and where that is None the body is read and taken.

    Of a body no more than `body_limit_bytes` is read, and no longer than `body_deadline_s` (None: as long as
    the server waits).
    """

    @property
    def body_limit_bytes(self) -> int:
        """How much of a body is read: enough to see that it is too long."""
        ...

    @property
    def body_deadline_s(self) -> float | None:
        """How long a body is waited for, in seconds."""
        ...

    def reply(self, path: str, facts: RequestFacts) -> Reply | None:
        """Answer a request without its body; None: the body is needed."""
        ...

    def take(self, path: str, facts: RequestFacts, body: bytes, *, in_background: bool) -> Reply:
        """Answer a request with its body."""
        ...

    def submit(self, path: str, facts: RequestFacts, body: bytes) -> Future[Reply] | None:
        """Have a thread `take` a request that blocks; None: too many wait already."""
        ...

    def unavailable(self, note: str, facts: RequestFacts) -> Reply:
        """Answer a request that cannot be taken now."""
        ...


class OwnEndpoints:
    """The endpoints of one tracker.

    `endings` are the ends of their paths, by which other requests are ruled out at once; `paths` are the
    paths themselves, some with `{flag_id:str}`, for frameworks that register routes.
    """

    def __init__(self, engine: Engine) -> None:
        self._handover = HandoverEndpoint(engine)
        self._collector = _collector(engine)
        collector_paths = () if self._collector is None else self._collector.paths
        self.endings: tuple[str, ...] = (*self._handover.paths, *collector_paths)
        collector_patterns = () if self._collector is None else self._collector.routes.patterns
        self.paths: tuple[str, ...] = (*self._handover.paths, *collector_patterns)

    def find(self, path: str, facts: RequestFacts) -> OwnEndpoint | None:
        """Return the endpoint of a request; None: the application's. `path` is below its root.

        To be called only where the request's path ends with one of `endings`.
        """
        if self._handover.matches(path, facts):
            return self._handover
        if self._collector is not None and self._collector.matches(path, facts):
            return self._collector
        return None


def _collector(engine: Engine) -> CollectorEndpoint | None:
    if engine.settings.collector_path is None:
        return None
    from .collector_endpoint import CollectorEndpoint  # noqa: PLC0415  # late: for collectors only

    return CollectorEndpoint(
        engine, events=engine.browser_events(), pass_through=engine.pipeline.pass_through()
    )
