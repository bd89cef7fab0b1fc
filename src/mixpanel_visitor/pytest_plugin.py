"""The pytest plugin: fixtures that every test can ask for once this package is installed."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .emulator import LocalMixpanel
    from .testing import TrackedEvents

_LATE_MODULES = ("endpoint_worker", "transport", "http_client")


def pytest_collection_finish() -> None:
    """Import what the sender's thread would import in the middle of a test, where the tests use a tracker.

    pytest rewrites the modules of a plugin's package, so importing one is parsing it; and CPython before
    3.11.8 and 3.12.2 cannot parse in two threads: "AST constructor recursion depth mismatch" (gh-106905).
    """
    if "mixpanel_visitor.tracking.pipeline" in sys.modules:
        for name in _LATE_MODULES:
            importlib.import_module(f"mixpanel_visitor.delivery.sending.{name}")


@pytest.fixture
def mixpanel_events() -> Iterator[TrackedEvents]:
    """What is tracked during this test; nothing of it is stored or sent. See `mixpanel_visitor.testing`."""
    from .testing import capture_events  # noqa: PLC0415  # sessions that do not ask for it pay nothing

    with capture_events() as events:
        yield events


@pytest.fixture
def mixpanel_flags() -> Iterator[dict[str, Any]]:
    """What feature flags are in this test: `mixpanel_flags["new-checkout"] = True`; others: their default."""
    from .testing import force_flags  # noqa: PLC0415

    with force_flags() as flags:
        yield flags


@pytest.fixture
def live_mixpanel(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalMixpanel]:
    """A local Mixpanel on a free port, to which trackers send that are made from the environment here."""
    from .emulator import LocalMixpanel  # noqa: PLC0415

    with LocalMixpanel() as mixpanel:
        monkeypatch.setenv("MIXPANEL_API_HOST", mixpanel.url)
        monkeypatch.setenv("MIXPANEL_VISITOR_SPOOL", "memory:")
        yield mixpanel
