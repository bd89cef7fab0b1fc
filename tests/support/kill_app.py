"""The application of the kill tests: every answer says that its event is durable."""

from __future__ import annotations

from urllib.parse import parse_qs

from mixpanel_visitor.wsgi import VisitorMiddleware


def _answer(environ, start_response):
    number = parse_qs(environ["QUERY_STRING"])["n"][0]
    environ["mixpanel_visitor.visitor"].track("Answered", n=number)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    yield b"ok"  # a generator: the event is stored before its last byte leaves, not when it returns


app = VisitorMiddleware(_answer, durability="before-response")
