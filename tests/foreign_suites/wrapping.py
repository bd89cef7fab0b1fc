"""A pytest plugin for the suites of others: puts the middleware around every ASGI application that they call.

Loaded with `-p wrapping`. Nothing is delivered, and nothing is written to a disk.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from mixpanel_visitor import Tracker
from mixpanel_visitor.asgi import VisitorMiddleware

TRACKER = Tracker(token="f" * 32, secret_key="a-key-of-some-length", spool="memory:", deliver=False)


def wrap_falcon() -> None:
    """Wrap Falcon's own ASGI application, whoever calls it."""
    from falcon.asgi import App

    serve = App.__call__

    async def serve_wrapped(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await VisitorMiddleware(partial(serve, self), tracker=TRACKER)(scope, receive, send)

    App.__call__ = serve_wrapped


def wrap_communicators() -> None:
    """Wrap what the communicators of asgiref and of channels are given."""
    from asgiref.compatibility import guarantee_single_callable
    from asgiref.testing import ApplicationCommunicator

    begin = ApplicationCommunicator.__init__

    def begin_wrapped(self: Any, application: Any, scope: Any) -> None:
        wrapped = VisitorMiddleware(guarantee_single_callable(application), tracker=TRACKER)
        begin(self, wrapped, scope)

    ApplicationCommunicator.__init__ = begin_wrapped


for wrap in (wrap_falcon, wrap_communicators):
    try:
        wrap()
    except ImportError:
        continue  # this suite is another one's
