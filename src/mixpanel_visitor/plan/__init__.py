"""The tracking plan: which events there are, with which properties, written down as classes.

    plan = Plan()

    @plan.event("Signed up")
    @dataclass
    class SignedUp:
        plan: Literal["free", "pro"]
        seats: int = 1

With `Tracker(..., plan=plan)` both `visitor.track(SignedUp(plan="pro"))` and `visitor.track("Signed up",
{"plan": "pro"})` are compared with it: in tests a difference raises, in production it is logged and counted,
and the event goes out as it is. `mixpanel-visitor plan check` looks at the plan and the sources.

| module | content |
|---|---|
| `models` | the fields of a dataclass, pydantic model or msgspec struct, and the values of one |
| `annotations` | a type as JSON Schema |
| `differences` | how an event differs from its schema |
| `event`, `plan` | one declared event; all of them |
| `checker` | compares what `track` is given with the plan |
| `lint` | mistakes of the plan itself |
| `call_finder`, `scan` | calls of `track` in sources, compared with the plan |
| `lexicon` | the plan as Mixpanel's data dictionary takes it |
"""

from .declared import Declared as Declared
from .differences import Difference as Difference
from .event import Event as Event
from .plan import Plan as Plan

__all__ = ["Declared", "Difference", "Event", "Plan"]
