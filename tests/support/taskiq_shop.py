"""A FastAPI site that sends tasks, and its taskiq tasks: imported by a test, and by the worker of it."""

from __future__ import annotations

import contextlib
import os

from fastapi import FastAPI
from taskiq_redis import ListQueueBroker

from mixpanel_visitor import Tracker, current_visitor
from mixpanel_visitor.fastapi import VisitorMiddleware
from mixpanel_visitor.taskiq import VisitorMiddleware as TaskVisitors

from .job_visitors import consent

tracker = Tracker(consent=consent)
broker = ListQueueBroker(os.environ["JOBS_REDIS"])
broker.add_middlewares(TaskVisitors(tracker))


@contextlib.asynccontextmanager
async def lifespan(_app):
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=lifespan)
app.add_middleware(VisitorMiddleware, tracker=tracker)


@broker.task
async def pay(name: str) -> None:
    current_visitor.track("Paid", name=name)


@app.post("/order/{name}")
async def order(name: str) -> None:
    current_visitor.identify(name)
    current_visitor.register(plan="pro")
    current_visitor.set_group("company", "Acme")
    current_visitor.track("Ordered", name=name)
    await pay.kiq(name)


@app.post("/opt-out")
async def opt_out() -> None:
    current_visitor.opt_out()
