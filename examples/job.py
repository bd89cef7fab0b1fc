"""A job outside of any request: events are durable at once, and delivered before it ends.

MIXPANEL_TOKEN=... MIXPANEL_VISITOR_SECRET_KEY=... python examples/job.py user-42
"""

import sys

from mixpanel_visitor import Tracker


def main(user_id: str) -> int:
    tracker = Tracker.from_env()
    with tracker.visitor(user_id=user_id) as visitor:
        visitor.track("Invoice paid", amount=12)
        visitor.people_increment({"invoices": 1})
    delivered = tracker.flush(timeout_s=10)
    print("delivered" if delivered else "stored; it will be delivered by whoever uses this spool next")
    tracker.close()
    return 0 if delivered else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
