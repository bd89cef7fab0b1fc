"""How users' code looks to type checkers: never run, only checked by mypy and pyright."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import uuid
from dataclasses import dataclass
from typing import Any, Literal, assert_type

import msgspec
import pydantic
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request

from mixpanel_visitor import Tracker, Visitor, current_visitor
from mixpanel_visitor.asgi import VisitorMiddleware as ASGIMiddleware
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.flask import current_visitor as flask_visitor
from mixpanel_visitor.plan import Plan
from mixpanel_visitor.starlette import VisitorMiddleware, get_visitor
from mixpanel_visitor.testing import TrackedEvent, capture_events
from mixpanel_visitor.tracking.offline_visitor import OfflineVisitor
from mixpanel_visitor.wsgi import VisitorMiddleware as WSGIMiddleware

plan = Plan(partial=True)


@plan.event("Signed up")
@dataclass
class SignedUp:
    """Somebody has made an account."""

    plan: Literal["free", "pro"]


@plan.event("Paid")
class Paid(pydantic.BaseModel):
    """Somebody has paid."""

    amount: float


@plan.event("Left")
class Left(msgspec.Struct):
    """Somebody has left."""

    reason: str


def planned() -> None:
    """A declared class keeps its type, and its instances can be tracked."""
    tracker = Tracker(token="t", secret_key="s", plan=plan)
    visitor = tracker.visitor("ann")
    assert_type(SignedUp(plan="pro"), SignedUp)
    visitor.track(SignedUp(plan="pro"))
    visitor.identify(42)
    visitor.alias(uuid.uuid4())
    tracker.track(42, "Paid")
    assert_type(tracker.visitor(device_id="d", user_id=None), OfflineVisitor)
    tracker.visitor(1.5)  # type: ignore[arg-type]
    visitor.identify(b"x")  # type: ignore[arg-type]
    visitor.track(Paid(amount=1), coupon="autumn")
    current_visitor.track(Left(reason="noise"))
    tracker.track("ann", Left(reason="noise"))
    with capture_events() as events:
        assert_type(events.assert_tracked(SignedUp(plan="free")), TrackedEvent)
        events.assert_not_tracked(Paid, amount=3)


def handler(request: Request) -> None:
    """A handler uses the visitor without a cast."""
    visitor = get_visitor(request)
    assert_type(visitor, Visitor)
    assert_type(visitor.id, str)
    assert_type(visitor.user_id, str | None)
    visitor.track("Signed up", {"plan": "pro"}, seats=3)
    visitor.people_set({"$email": "a@example.com"})
    visitor.people_unset(["a"])
    visitor.set_group("company", "Acme")
    if visitor.flag("new-checkout") or visitor.flag("layout", default="wide") == "wide":
        assert_type(visitor.flags().get("layout"), Any)
    current_visitor.track("x")
    flask_visitor.track("x")
    if current_visitor:
        assert_type(current_visitor.distinct_id, str)


def internals(tracker: Tracker, visitor: Visitor) -> None:
    """What the middlewares need is not offered to users."""
    _ = tracker.begin  # type: ignore[attr-defined]
    _ = tracker.drain  # type: ignore[attr-defined]
    _ = tracker.failed  # type: ignore[attr-defined]
    _ = visitor.forget  # type: ignore[attr-defined]
    _ = visitor.announce  # type: ignore[attr-defined]


def application() -> None:
    """Every way of installing it type-checks."""
    tracker = Tracker(token="t", secret_key=["old", "new"], region="eu")
    starlette = Starlette(middleware=[Middleware(VisitorMiddleware, token="t", secret_key="s")])
    starlette.add_middleware(VisitorMiddleware, tracker=tracker)
    ASGIMiddleware(starlette, tracker=tracker)
    flask = Flask(__name__)
    WSGIMiddleware(flask, token="t")
    MixpanelVisitor(flask, tracker=tracker)
    with tracker.visitor("user-42") as visitor:
        visitor.track("Invoice paid", amount=12)
    assert_type(tracker.flush(timeout_s=5), bool)
