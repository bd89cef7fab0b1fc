"""The applications of the collector part, which have nothing but a collector."""

from __future__ import annotations

from mixpanel_visitor.asgi import VisitorMiddleware as AsgiMiddleware
from mixpanel_visitor.wsgi import VisitorMiddleware as WsgiMiddleware


def _wsgi(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


async def _asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


wsgi_app = WsgiMiddleware(_wsgi)
asgi_app = AsgiMiddleware(_asgi)
