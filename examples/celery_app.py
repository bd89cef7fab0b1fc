"""A Flask site whose Celery tasks track for its visitors.

Set MIXPANEL_TOKEN and MIXPANEL_VISITOR_SECRET_KEY, and in `examples`:

celery -A celery_app worker
flask --app celery_app run
curl -A Firefox/140.0 -X POST http://127.0.0.1:5000/orders/7
"""

import os

from celery import Celery
from flask import Flask

from mixpanel_visitor import Tracker
from mixpanel_visitor.celery import current_visitor, install
from mixpanel_visitor.flask import MixpanelVisitor

tracker = Tracker.from_env()
celery = Celery("shop", broker=os.environ.get("BROKER_URL", "redis://127.0.0.1:6379/0"))
install(tracker)


@celery.task
def charge(order: int) -> None:
    current_visitor.track("Invoice paid", order=order)


app = Flask(__name__)
MixpanelVisitor(app, tracker=tracker)


@app.post("/orders/<int:order>")
def pay(order: int) -> str:
    current_visitor.track("Ordered", order=order)
    charge.delay(order)
    return f"Thank you for order {order}.\n"
