"""The application of the hostile part: a page that tracks, and a collector that takes nobody's word."""

from __future__ import annotations

import json

from mixpanel_visitor.asgi import SCOPE_KEY, VisitorMiddleware


async def _app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    body = b"ok"
    if scope["path"] == "/stats":
        body = json.dumps(asgi_app.tracker.stats()).encode()
    elif scope["path"] == "/":
        scope[SCOPE_KEY].track("Viewed")
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


asgi_app = VisitorMiddleware(_app)
