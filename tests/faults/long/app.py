"""The applications of the outage and drain parts: two events a request, and their counters at /stats."""

from __future__ import annotations

import json

from mixpanel_visitor.asgi import SCOPE_KEY
from mixpanel_visitor.asgi import VisitorMiddleware as AsgiMiddleware
from mixpanel_visitor.wsgi import VisitorMiddleware as WsgiMiddleware


def _track(visitor):
    visitor.track("Viewed", page="/shoes/42")
    visitor.track("Priced", price=89.5)


def _wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/stats":
        body = json.dumps(wsgi_app.tracker.stats()).encode()
    else:
        _track(environ["mixpanel_visitor.visitor"])
        body = b"ok"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def _asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["path"] == "/stats":
        body = json.dumps(asgi_app.tracker.stats()).encode()
    else:
        _track(scope[SCOPE_KEY])
        body = b"ok"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


wsgi_app = WsgiMiddleware(_wsgi)
asgi_app = AsgiMiddleware(_asgi)
