"""Events over ASGI: when they are stored, and that a failure of ours stops nothing."""

import asyncio

import pytest
from support.asgi_apps import BODY, END, PART, START, answering, exchange
from support.asgi_driver import Conversation, call_asgi, http_scope, run
from support.failing import EACH_CALLABLE, failing
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.errors import SpoolFullError

# --- when events are stored ------------------------------------------------------------------


def test_an_application_that_does_not_answer_keeps_its_events(wrap, spool):
    """Returning without a response is the application's business; what it tracked is stored."""
    assert exchange(wrap(answering())).sent == []
    assert spool.names == ["Page"]


def test_what_follows_the_last_part_is_stored_as_well(wrap, spool):
    """Background tasks run after the response and may track."""

    async def app(scope, receive, send):
        await answering(START, BODY)(scope, receive, send)
        scope["state"]["visitor"].track("Mailed")

    wrapped = wrap(app)
    call_asgi(wrapped, http_scope())
    assert wrapped.tracker.flush()
    assert spool.names == ["Page", "Mailed"]


def test_a_stream_is_stored_as_it_goes(wrap, spool):
    """The events of a part are stored while the next one is still to come."""
    stored = []

    async def app(scope, receive, send):
        await send(START)
        for number in (1, 2):
            scope["state"]["visitor"].track(f"Part {number}")
            await send(PART)
            assert wrapped.tracker.flush()
            stored.append(list(spool.names))
        await send(END)

    wrapped = wrap(app)
    call_asgi(wrapped, http_scope())
    assert stored == [["Part 1"], ["Part 1", "Part 2"]]


def test_cancellation_keeps_the_events_and_goes_on(wrap, spool):
    """A request that the server cancels loses nothing, and the cancellation is not swallowed."""

    async def app(scope, receive, send):
        scope["state"]["visitor"].track("Before")
        try:
            await send(START)
            await receive()
        finally:
            scope["state"]["visitor"].track("Cancelled")

    async def main():
        conversation = Conversation(http_scope(), ())
        wrapped = wrap(app)
        task = asyncio.create_task(conversation.with_app(wrapped))
        await asyncio.sleep(0)  # the task runs until it waits for the client
        assert conversation.sent
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Before the flush, for that takes what is in open requests as well.
        assert wait_until(lambda: wrapped.tracker.stats()["buffered"] == 0, PATIENCE_S)
        assert wrapped.tracker.flush()

    run(main())
    assert spool.names == ["Before", "Cancelled"]


@pytest.mark.parametrize("before", [(), (START,), (START, PART)])
def test_the_applications_exception_passes(wrap, spool, before):
    """The very exception reaches the server, before and after the response has begun."""
    problem = RuntimeError("of the application")

    async def app(scope, receive, send):
        await answering(*before)(scope, receive, send)
        raise problem

    with pytest.raises(RuntimeError) as caught:
        exchange(wrap(app))
    assert caught.value is problem
    assert spool.names == ["Page"]


def test_the_servers_exception_passes(wrap, spool):
    """Servers of today raise from `send` when the client has gone; the application learns of it."""
    gone = OSError("the client has gone")

    def fail_at_body(message):
        if message["type"] == "http.response.body":
            raise gone

    with pytest.raises(OSError, match="has gone") as caught:
        exchange(wrap(answering(START, PART, PART)), on_send=fail_at_body)
    assert caught.value is gone
    assert spool.names == ["Page"]


HEAD_ONLY = {**START, "status": 204, "headers": [(b"x-all", b"of it")]}
SIZED = {**START, "headers": [(b"content-length", b"4")]}


@pytest.mark.parametrize(
    ("messages", "last"),
    [
        pytest.param([START, BODY], 1, id="body"),
        pytest.param([START, PART, END], 2, id="stream"),
        pytest.param([SIZED, PART, END], 1, id="stream-of-known-length"),
        pytest.param([HEAD_ONLY, END], 0, id="head-only"),
        pytest.param([START, {"type": "http.response.pathsend", "path": "/a"}], 1, id="pathsend"),
        pytest.param([START, {"type": "http.response.zerocopysend", "file": 3}], 1, id="zerocopysend"),
        pytest.param(
            [{**START, "trailers": True}, BODY, {"type": "http.response.trailers"}], 1, id="trailers"
        ),
    ],
)
def test_before_response_stores_before_the_client_has_it_all(wrap, spool, messages, last):
    """With `durability="before-response"` whoever has the whole response can rely on its events."""
    stored = []
    exchange(
        wrap(answering(*messages), durability="before-response"),
        on_send=lambda _message: stored.append(list(spool.names)),
    )
    assert stored[last] == ["Page"]


def test_before_response_stores_what_a_stream_tracks(wrap, spool):
    """Each part's events are stored before the part leaves: any of them may be the last."""
    stored = []

    async def app(scope, receive, send):
        await send(START)
        for number in (1, 2):
            scope["state"]["visitor"].track(f"Part {number}")
            await send(PART)
        scope["state"]["visitor"].track("Ended")
        await send(END)

    wrapped = wrap(app, durability="before-response")
    exchange(wrapped, on_send=lambda _message: stored.append(list(spool.names)))
    assert stored == [[], ["Part 1"], ["Part 1", "Part 2"], ["Part 1", "Part 2", "Ended"]]


# --- our own failures ------------------------------------------------------------------------


@EACH_CALLABLE
def test_a_failing_callable_in_the_settings_does_not_reach_the_application(
    wrap, spool, setting, stored, cookies
):
    """The response is the application's own; who cannot be asked for consent has not given it."""
    seen = call_asgi(wrap(answering(START, BODY), **{setting: failing}), http_scope())
    assert (seen.status, seen.body, seen.error) == (200, b"hello", None)
    assert len(seen.our_cookies) == cookies
    assert spool.names == stored


@pytest.mark.parametrize("durability", ["after-response", "before-response"])
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(SpoolFullError("the disk is full"), "spool_full"), (ZeroDivisionError("a bug"), "internal_error")],
)
def test_a_failing_spool_does_not_reach_the_application(wrap, spool, trouble, reason, durability):
    """Events that cannot be stored are refused and counted; the response is complete."""
    spool.trouble = trouble
    app = wrap(answering(START, PART, END), durability=durability)
    seen = call_asgi(app, http_scope())
    assert (seen.status, seen.body, seen.error) == (200, b"part", None)
    assert app.tracker.stats()["refused"] == {reason: 1}
