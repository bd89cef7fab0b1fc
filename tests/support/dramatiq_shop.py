"""A Flask site that sends messages, and its Dramatiq actor: imported by a test, and by the worker of it."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from flask import Flask

from mixpanel_visitor import Tracker
from mixpanel_visitor.dramatiq import VisitorMiddleware
from mixpanel_visitor.flask import MixpanelVisitor, current_visitor

from .job_visitors import consent

tracker = Tracker(consent=consent)
broker = RedisBroker(url=os.environ["JOBS_REDIS"])
broker.add_middleware(VisitorMiddleware(tracker))
app = Flask(__name__)
MixpanelVisitor(app, tracker=tracker)


@dramatiq.actor(broker=broker)
def pay(name):
    current_visitor.track("Paid", name=name)


@app.post("/order/<name>")
def order(name):
    current_visitor.identify(name)
    current_visitor.register(plan="pro")
    current_visitor.set_group("company", "Acme")
    current_visitor.track("Ordered", name=name)
    pay.send(name)
    return ""


@app.post("/opt-out")
def opt_out():
    current_visitor.opt_out()
    return ""
