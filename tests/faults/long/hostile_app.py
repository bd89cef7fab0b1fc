"""The application of the hostile part, which tracks in its page, with a collector that refuses strangers.

`bare_app` is the same without us: by it one sees what the server alone makes of an attack. As any application
does that takes a POST, it reads the body, unless that is larger than 1 MiB.
"""

from __future__ import annotations

import json

from mixpanel_visitor.asgi import SCOPE_KEY, VisitorMiddleware

MAX_BODY_BYTES = 2**20


async def _app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    body = b"ok"
    if scope["method"] == "POST" and int(dict(scope["headers"])[b"content-length"]) <= MAX_BODY_BYTES:
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/stats":
        body = json.dumps(asgi_app.tracker.stats()).encode()
    elif scope["path"] == "/" and SCOPE_KEY in scope:
        scope[SCOPE_KEY].track("Viewed")
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


bare_app = _app
asgi_app = VisitorMiddleware(_app)
