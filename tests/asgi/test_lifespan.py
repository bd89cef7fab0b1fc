"""The lifespan over ASGI: delivery begins with the application and ends with it."""

import threading

import orjson
import pytest
from support.asgi_apps import answering, exchange
from support.trackers import SECRET_KEY

from mixpanel_visitor.asgi import VisitorMiddleware
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.engine import Engine
from mixpanel_visitor.tracking.tracker import Tracker

LIFESPAN = {"type": "lifespan", "asgi": {"version": "3.0"}}
COMPLETE = {"type": "lifespan.startup.complete"}
OVER = {"type": "lifespan.shutdown.complete"}


class Mixpanel:
    """The `post` of a tracker: takes everything and tells when it has something."""

    def __init__(self):
        self.bodies = []
        self.has_some = threading.Event()

    def __call__(self, endpoint, bodies):
        self.bodies.extend(bodies)
        self.has_some.set()
        answer = {"code": 200, "status": "OK", "num_records_imported": len(bodies)}
        return Response(status=200, body=orjson.dumps(answer), sent=True)


@pytest.fixture
def mixpanel():
    """Who takes everything that is delivered."""
    return Mixpanel()


@pytest.fixture
def delivering(mixpanel):
    """A tracker that delivers to `mixpanel`; before it began, somebody has left an event in its spool."""
    spool = open_spool("memory:")
    with_spool = {"token": "t", "secret_key": SECRET_KEY, "spool": "memory:"}
    Tracker(**with_spool, deliver=False, dependencies=Dependencies(spool=spool)).track("user-42", "Left over")
    tracker = Tracker(**with_spool, dependencies=Dependencies(spool=spool, post=mixpanel))
    yield tracker
    tracker.close()


def test_start_up_begins_to_deliver(delivering, mixpanel):
    """What an earlier process has left is on its way before the first request."""

    async def app(scope, receive, send):
        await send(COMPLETE)
        assert mixpanel.has_some.wait(10)

    exchange(VisitorMiddleware(app, tracker=delivering), dict(LIFESPAN))
    assert len(mixpanel.bodies) == 1


@pytest.mark.parametrize("over", ["lifespan.shutdown.complete", "lifespan.shutdown.failed"])
def test_shut_down_drains(delivering, mixpanel, over):
    """The server hears of the end only when everything has been delivered: it may exit right then."""
    delivered = {}

    async def app(scope, receive, send):
        await send(COMPLETE)
        delivering.track("user-42", "At the last moment")
        await send({"type": over})

    exchange(
        VisitorMiddleware(app, tracker=delivering),
        dict(LIFESPAN),
        on_send=lambda message: delivered.update({message["type"]: len(mixpanel.bodies)}),
    )
    assert delivered[over] == 2


def test_lifespan_messages_pass_as_they_are(wrap):
    """Start-up and shut-down are the application's and the server's."""
    conversation = exchange(wrap(answering(COMPLETE, OVER, track=False)), dict(LIFESPAN))
    assert [id(message) for message in conversation.sent] == [id(COMPLETE), id(OVER)]
    assert conversation.scope == LIFESPAN


def test_a_failing_start_up_stays_transparent(wrap):
    """Servers take an exception as "no lifespan here" or stop; either way they have to see it."""
    problem = RuntimeError("no database")

    async def app(scope, receive, send):
        raise problem

    with pytest.raises(RuntimeError) as caught:
        exchange(wrap(app), dict(LIFESPAN))
    assert caught.value is problem


def test_a_refused_start_up_passes(wrap):
    """So does the message with which an application says that it cannot start."""
    failed = {"type": "lifespan.startup.failed", "message": "no database"}
    assert exchange(wrap(answering(failed, track=False)), dict(LIFESPAN)).sent == [failed]


def test_a_failing_start_of_ours_does_not_stop_the_server(spool):
    """Where the tracker cannot start or drain, the lifespan goes on."""

    class BrokenEngine(Engine):
        def start(self):
            raise OSError("no threads")

        def drain(self, timeout_s=0.0):
            raise OSError("no disk")

    class Broken(Tracker):
        def __init__(self, **settings):
            self._engine = BrokenEngine(Settings.resolve(settings), Dependencies(spool=spool))

    tracker = Broken(token="t", secret_key=SECRET_KEY, spool="memory:")
    app = VisitorMiddleware(answering(COMPLETE, OVER, track=False), tracker=tracker)
    assert exchange(app, dict(LIFESPAN)).sent == [COMPLETE, OVER]
    assert tracker.stats()["notes"] == {"internal_error": 2}
