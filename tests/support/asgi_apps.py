"""ASGI applications for tests, the messages that they send, and one exchange with them."""

from support.asgi_driver import Conversation, http_scope, run

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY = {"type": "http.response.body", "body": b"hello"}
PART = {"type": "http.response.body", "body": b"part", "more_body": True}
END = {"type": "http.response.body", "body": b"", "more_body": False}


def answering(*messages, track=True):
    """Build an application that tracks "Page" and sends these messages."""

    async def app(scope, receive, send):
        if track:
            scope["state"]["visitor"].track("Page")
        for message in messages:
            await send(message)

    return app


def exchange(app, scope=None, incoming=(), **more):
    """Run the application for one scope; give the conversation."""

    async def main():
        conversation = Conversation(scope or http_scope(), incoming, **more)
        await conversation.with_app(app)
        return conversation

    return run(main())
