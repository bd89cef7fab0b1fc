"""A middleware around an application, and what its tracker stores."""

import pytest
from support.spools import RecordingSpool
from support.trackers import tracker_into

from mixpanel_visitor.wsgi import VisitorMiddleware


@pytest.fixture
def spool():
    """What the tracker has stored."""
    return RecordingSpool()


@pytest.fixture
def wrap(spool):
    """Wrap an application with a middleware whose tracker stores into `spool`."""

    def wrap(app, **settings):
        return VisitorMiddleware(app, tracker=tracker_into(spool, **settings))

    return wrap
