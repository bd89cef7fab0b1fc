"""The application of the kill tests: every answer says that its event is durable."""

from __future__ import annotations

from urllib.parse import parse_qs

from mixpanel_visitor.asgi import VisitorMiddleware as ASGIVisitorMiddleware
from mixpanel_visitor.wsgi import VisitorMiddleware


def _answer(environ, start_response):
    number = parse_qs(environ["QUERY_STRING"])["n"][0]
    environ["mixpanel_visitor.visitor"].track("Answered", n=number)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    yield b"ok"  # a generator: the event is stored before its last byte leaves, not when it returns


app = VisitorMiddleware(_answer, durability="before-response")


async def _answer_asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    number = parse_qs(scope["query_string"].decode())["n"][0]
    scope["state"]["visitor"].track("Answered", n=number)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


asgi_app = ASGIVisitorMiddleware(_answer_asgi, durability="before-response")
