"""The body of a response over WSGI: it passes, it is closed, and its events are stored."""

import io
from wsgiref.util import FileWrapper

import pytest
from support.wsgi_apps import Body, answering, call
from support.wsgi_driver import Starter, environ_of

from mixpanel_visitor.wsgi import VISITOR_KEY

# --- the body --------------------------------------------------------------------------------


def test_a_list_passes_as_it_is(wrap, spool):
    """Servers are fastest with a plain list; its events are stored when it is returned."""
    body = [b"hello"]
    assert wrap(answering(body))(environ_of(), Starter()) is body
    assert spool.names == ["Page"]


def test_a_sized_body_keeps_its_length(wrap):
    """Servers make a Content-Length of a single part."""
    body = wrap(answering((b"hello",)))(environ_of(), Starter())
    assert len(body) == 1
    assert list(body) == [b"hello"]


def test_a_body_without_a_length_gets_none(wrap):
    """A `__len__` that fails would confuse servers more than none."""
    body = wrap(answering(Body()))(environ_of(), Starter())
    assert not hasattr(body, "__len__")
    body.close()


def test_an_instance_of_the_servers_file_wrapper_passes_as_it_is(wrap, spool):
    """Servers send the very object with sendfile; its events are stored when it is returned."""
    file = FileWrapper(io.BytesIO(b"hello"))
    assert wrap(answering(file))(environ_of(), Starter()) is file
    assert spool.names == ["Page"]


def test_the_servers_file_wrapper_may_be_a_function(wrap):
    """With uWSGI it is a builtin that gives the file back, and the server compares identities."""
    file = io.BytesIO(b"hello")
    environ = environ_of(**{"wsgi.file_wrapper": lambda file, _size=0: file})
    assert wrap(answering(lambda _visitor: environ["wsgi.file_wrapper"](file)))(environ, Starter()) is file


def test_an_applications_own_file_wrapper_is_a_body_like_any_other(wrap, spool):
    """What is not the server's own wrapper is iterated, and its events are stored at the end."""
    seen = call(wrap(answering(Body((b"hello",)))), **{"wsgi.file_wrapper": FileWrapper})
    assert seen.body == b"hello"
    assert spool.names == ["Page"]


def test_parts_are_asked_for_one_by_one(wrap):
    """Nothing is read ahead: the server has each part before the next one is made."""
    made = []

    def parts():
        for number in (1, 2, 3):
            made.append(number)
            yield b"%d" % number

    body = wrap(answering(parts()))(environ_of(), Starter())
    seen = [(part, len(made)) for part in body]
    body.close()
    assert seen == [(b"1", 1), (b"2", 2), (b"3", 3)]


# --- close() ---------------------------------------------------------------------------------


def test_close_reaches_the_body_once(wrap):
    """After a complete response the application's body is closed once."""
    body = Body()
    call(wrap(answering(body)))
    assert body.closed == 1


def test_close_reaches_a_body_that_was_never_begun(wrap, spool):
    """HEAD requests and early disconnects close without a single `next`."""
    body = Body()
    wrap(answering(body))(environ_of(), Starter()).close()
    assert body.closed == 1
    assert spool.names == ["Page"]


def test_close_reaches_a_body_that_failed(wrap, spool):
    """The very exception reaches the server, the body is closed once, the events are stored."""
    problem = RuntimeError("in the body")
    body = Body(fails=problem)
    assert call(wrap(answering(body))).error == repr(problem)
    assert body.closed == 1
    assert spool.names == ["Page"]


def test_close_is_optional(wrap):
    """Most iterables have none."""
    assert call(wrap(answering(iter([b"hello"])))).body == b"hello"


def test_events_tracked_in_close_are_stored(wrap, spool):
    """Frameworks run call-on-close functions there."""
    call(wrap(answering(lambda visitor: Body(visitor=visitor))))
    assert spool.names == ["Page", "Part", "Part", "Closed"]


def test_an_exception_from_close_passes(wrap, spool):
    """It is the server's to handle; what was tracked until then is stored."""
    problem = RuntimeError("in close")
    body = wrap(answering(lambda visitor: Body(visitor=visitor, fails_at_close=problem)))(
        environ_of(), Starter()
    )
    with pytest.raises(RuntimeError) as caught:
        body.close()
    assert caught.value is problem
    assert spool.names == ["Page", "Closed"]


# --- when events are stored ------------------------------------------------------------------


def test_the_applications_exception_passes(wrap, spool):
    """The very exception reaches the server; nothing will be closed, so its events are stored at once."""
    problem = RuntimeError("of the application")

    def app(environ, start_response):
        environ[VISITOR_KEY].track("Page")
        raise problem

    with pytest.raises(RuntimeError) as caught:
        wrap(app)(environ_of(), Starter())
    assert caught.value is problem
    assert spool.names == ["Page"]


def test_an_exhausted_body_needs_no_close(wrap, spool):
    """Some bridges to ASGI never call it: the events are stored when the last part has been asked for."""
    assert list(wrap(answering(lambda visitor: Body(visitor=visitor)))(environ_of(), Starter())) == [b"hello"]
    assert spool.names == ["Page", "Part", "Part"]


def test_a_stream_is_stored_as_it_goes(wrap, spool):
    """The events of a part are stored, at the latest, when the next one is asked for."""
    parts = (b"1", b"2", b"3")
    body = wrap(answering(lambda visitor: Body(parts, visitor=visitor)))(environ_of(), Starter())
    stored = [len(spool.names) for _ in body]
    body.close()
    assert stored == [0, 2, 3]


def test_before_response_stores_before_each_part(wrap, spool):
    """With `durability="before-response"` any part may be the last that the client needs."""
    parts = (b"1", b"2")
    app = wrap(answering(lambda visitor: Body(parts, visitor=visitor)), durability="before-response")
    body = app(environ_of(), Starter())
    stored = [len(spool.names) for _ in body]
    body.close()
    assert stored == [2, 3]


def test_wrapping_twice_does_nothing_twice(wrap, spool):
    """One visitor, one cookie, each event once."""
    outer = wrap(wrap(answering(Body())))
    seen = call(outer)
    assert len(seen.our_cookies) == 1
    assert spool.names == ["Page"]
    assert outer.tracker.stats()["accepted"] == 1
    assert outer.tracker.stats()["notes"] == {}
