"""The pytest plugin: fixtures that every test can ask for once this package is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .emulator import LocalMixpanel
    from .testing import TrackedEvents


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
