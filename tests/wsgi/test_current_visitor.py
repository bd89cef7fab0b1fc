"""The current visitor over WSGI: while the application runs, and while its body is read."""

import contextvars

import pytest
from support.wsgi_apps import answering
from support.wsgi_driver import Starter, environ_of

from mixpanel_visitor.tracking.context import current_visitor


class Watched:
    """A body that looks who the current visitor is, in each part and at the end."""

    def __init__(self, visitor):
        self._visitor = visitor
        self._left = 2

    def __iter__(self):
        assert current_visitor == self._visitor
        return self

    def __next__(self):
        assert current_visitor == self._visitor
        if not self._left:
            raise StopIteration
        self._left -= 1
        return b"part"

    def close(self):
        assert current_visitor == self._visitor


def test_the_current_visitor_is_the_requests(wrap):
    """It is there in the handler, in each part of the body and in its close, and nowhere between them."""

    def handle(visitor):
        assert current_visitor == visitor
        return Watched(visitor)

    def serve():
        body = wrap(answering(handle))(environ_of(), Starter())
        assert not current_visitor
        for _ in body:
            assert not current_visitor
        body.close()
        assert not current_visitor

    contextvars.Context().run(serve)


def test_an_exception_leaves_no_current_visitor(wrap):
    """A thread that goes on to the next request does not take the last one's visitor with it."""

    def serve():
        with pytest.raises(RuntimeError):
            wrap(answering(failing_body))(environ_of(), Starter())
        assert not current_visitor

    def failing_body(visitor):
        raise RuntimeError("of the application")

    contextvars.Context().run(serve)


def test_a_body_may_be_iterated_in_other_contexts(wrap, spool):
    """Servers and bridges take each part in a context of its own, and close in yet another."""
    body = contextvars.Context().run(wrap(answering(Watched)), environ_of(), Starter())
    parts = []
    while (part := contextvars.Context().run(next, body, None)) is not None:
        parts.append(part)
    contextvars.Context().run(body.close)
    assert parts == [b"part", b"part"]
    assert spool.names == ["Page"]
