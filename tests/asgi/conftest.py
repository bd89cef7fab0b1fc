"""A middleware around an application, and what its tracker stores."""

import pytest
from support.spools import RecordingSpool
from support.trackers import tracker_into

from mixpanel_visitor.asgi import VisitorMiddleware


@pytest.fixture
def spool():
    """What the tracker has stored."""
    return RecordingSpool()


@pytest.fixture
def wrap(spool):
    """Wrap an application with a middleware whose tracker stores into `spool`."""
    trackers = []

    def wrap(app, **settings):
        tracker = tracker_into(spool, **settings)
        trackers.append(tracker)
        return VisitorMiddleware(app, tracker=tracker)

    yield wrap
    for tracker in trackers:
        tracker.close()
