"""The current visitor over ASGI: one for each request."""

import asyncio

from support.asgi_apps import END, PART, START
from support.asgi_driver import Conversation, call_asgi, http_scope, run

from mixpanel_visitor.tracking.context import current_visitor


def test_the_current_visitor_is_the_requests(wrap):
    """It is there in the handler, between the parts of a stream and in tasks that the handler starts."""
    seen = []

    async def look():
        seen.append(current_visitor.id)

    async def app(scope, receive, send):
        await look()
        await send(START)
        await send(PART)
        await look()
        await asyncio.create_task(look())
        await asyncio.to_thread(lambda: seen.append(current_visitor.id))
        await send(END)
        seen.append(scope["state"]["visitor_id"])

    call_asgi(wrap(app), http_scope())  # which checks that nobody is the current visitor afterwards
    assert len(seen) == 5
    assert len(set(seen)) == 1


def test_overlapping_requests_have_their_own_current_visitors(wrap):
    """What one request awaits does not change who visits in the other."""
    ids = {}

    async def app(scope, receive, send):
        before = current_visitor.id
        await receive()
        ids[scope["path"]] = before, current_visitor.id

    async def main():
        wrapped = wrap(app)
        talks = [Conversation(http_scope(path=path), ()) for path in ("/first", "/second")]
        tasks = [asyncio.create_task(talk.with_app(wrapped)) for talk in talks]
        await asyncio.sleep(0)
        for talk in talks:
            talk.gone.set()
        await asyncio.gather(*tasks)

    run(main())
    assert ids["/first"][0] == ids["/first"][1] != ids["/second"][0] == ids["/second"][1]
