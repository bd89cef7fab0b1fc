"""mixpanel-browser's feature flags and the visitor's: the same, from the first page to after log-out."""

from __future__ import annotations

import pytest
from support.flags import a_b_test, on_off

pytestmark = pytest.mark.browser

BY_DEVICE = tuple(a_b_test(f"device-{number}") for number in range(20))
BY_USER = tuple(a_b_test(f"user-{number}", assigned_by="distinct_id") for number in range(20))
FLAGS = (*BY_DEVICE, *BY_USER, on_off("some", 0.4), on_off("everybody"), on_off("nobody", 0.0))

IN_THE_BROWSER = """async () => {
    await shop.mixpanel.flags.load_flags();
    const variants = await shop.mixpanel.flags.get_all_variants();
    return Object.fromEntries([...variants].map(([key, variant]) => [key, variant.value]));
}"""
ON_THE_SERVER = "() => fetch('/api/flags').then((answer) => answer.json())"


@pytest.mark.parametrize("visitor", range(3))
def test_browser_and_server_agree(start, visitor):
    """For a new visitor, after log-in, on the next page, and after log-out; what the device decides stays."""
    journey = start(config={"flags": True}, flags="local", flags_served=FLAGS)
    journey.wait_for_flags()
    journey.visit("/")
    before = journey.js(IN_THE_BROWSER)
    assert len(before) > 40
    assert journey.js(ON_THE_SERVER) == before
    journey.log_in(f"somebody-{visitor}")
    journey.identify(f"somebody-{visitor}")
    after = journey.js(IN_THE_BROWSER)
    assert journey.js(ON_THE_SERVER) == after
    changed = {key for key in before if before[key] != after.get(key)}
    assert changed
    assert changed <= {flag["key"] for flag in BY_USER}
    journey.visit("/tea")
    assert journey.js(IN_THE_BROWSER) == journey.js(ON_THE_SERVER) == after
    journey.log_out(form=True)
    assert journey.js(IN_THE_BROWSER) == journey.js(ON_THE_SERVER) != after
