"""WSGI applications for tests, their bodies, and one request to them."""

from mixpanel_visitor.wsgi import VISITOR_KEY
from support.responses import Jar
from support.wsgi_driver import call_wsgi, environ_of

HEADERS = [("Content-Type", "text/plain")]


class Body:
    """A body that tells what was done to it, tracks where it is told to, and may fail."""

    def __init__(self, parts=(b"hello",), *, visitor=None, fails=None, fails_at_close=None):
        self._parts = iter(parts)
        self._visitor = visitor
        self._fails = fails
        self._fails_at_close = fails_at_close
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self._visitor is not None:
            self._visitor.track("Part")
        try:
            return next(self._parts)
        except StopIteration:
            if self._fails is not None:
                raise self._fails from None
            raise

    def close(self):
        self.closed += 1
        if self._visitor is not None:
            self._visitor.track("Closed")
        if self._fails_at_close is not None:
            raise self._fails_at_close


def answering(body, status="200 OK", headers=HEADERS, *, track=True):
    """Build an application that tracks "Page" and returns `body`, or what it gives for the visitor."""

    def app(environ, start_response):
        visitor = environ[VISITOR_KEY]
        if track:
            visitor.track("Page")
        start_response(status, headers)
        return body(visitor) if callable(body) else body

    return app


def call(app, **more):
    """Serve one request."""
    return call_wsgi(app, environ_of(**more))


def known(app):
    """Return the headers of a visitor who has been here before."""
    jar = Jar()
    jar.keep(call(app).headers)
    return jar.header
