"""What the tests of job queues share."""

import orjson
import pytest
from support.inbox import Inbox
from support.trackers import NOW_S, SECRET_KEY, TOKEN, recording_tracker
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor import Tracker
from mixpanel_visitor.emulator import LocalMixpanel


class Site:
    """A tracker, as a site and its workers have it, and what it has stored; its clock stands."""

    def __init__(self, **settings):
        self.now_s = NOW_S
        self.tracker, self.spool = recording_tracker(clock=lambda: self.now_s, **settings)

    def visitor(self, user_id="ann", device_id="phone-1"):
        """Return a visitor, for `with`: in the block a request of theirs is being answered."""
        return self.tracker.visitor(device_id=device_id, user_id=user_id)

    def refusing(self):
        """Return a visitor who has opted out in the request that is being answered."""
        visitor = self.visitor()
        visitor.opt_out()
        return visitor

    @property
    def tracked(self):
        """What has been tracked, of which user and device."""
        events = [orjson.loads(record.body) for record in self.spool.records]
        return [
            (event["event"], event["properties"]["distinct_id"], event["properties"].get("$device_id"))
            for event in events
        ]

    @property
    def refused(self):
        """How many events were refused, by reason."""
        return self.tracker.stats()["refused"]


class Delivery:
    """A tracker that has not begun to deliver, and an event of an earlier process that waits in its spool."""

    def __init__(self, directory, mixpanel):
        settings = {
            "token": TOKEN, "secret_key": SECRET_KEY, "spool": str(directory), "api_host": mixpanel.url
        }  # fmt: skip
        earlier = Tracker(deliver=False, **settings)
        earlier.track("ann", "Waits")
        earlier.close()
        self.tracker = Tracker(**settings)
        self._inbox = Inbox(mixpanel.url)

    @property
    def has_begun(self):
        """Whether Mixpanel has the event, at once or soon."""
        return wait_until(lambda: [each["event"] for each in self._inbox.events()] == ["Waits"], PATIENCE_S)

    @property
    def goes_on(self):
        """Whether the tracker's thread runs."""
        return self.tracker.stats()["sender"]["running"]

    @property
    def has_ended(self):
        """Whether the tracker's thread has ended, at once or soon."""
        return wait_until(lambda: not self.goes_on, PATIENCE_S)


@pytest.fixture
def delivery(tmp_path):
    """A tracker that has not begun to deliver."""
    with LocalMixpanel() as mixpanel:
        delivery = Delivery(tmp_path, mixpanel)
        yield delivery
        delivery.tracker.close()


def assert_takes_trackers_only(door):
    """Check that what is no tracker is refused at once: a mistake in the configuration."""
    with pytest.raises(TypeError, match=r"a mixpanel_visitor\.Tracker, or a function for one, not 'token'"):
        door("token")


@pytest.fixture
def site():
    """A site with a visitor who has logged in."""
    return Site()
