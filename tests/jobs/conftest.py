"""What the tests of job queues share."""

import orjson
import pytest
from support.trackers import NOW_S, recording_tracker


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


@pytest.fixture
def site():
    """A site with a visitor who has logged in."""
    return Site()
