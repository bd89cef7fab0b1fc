"""How bounded tables forget."""

from __future__ import annotations

import pytest

from mixpanel_visitor.emulator.eviction import forget_first


@pytest.mark.parametrize(("size", "left"), [(1, 0), (2, 1), (9, 8), (10, 8), (1000, 899)])
def test_what_was_put_in_first_is_forgotten(size, left):
    """A tenth, and at least one."""
    table = dict.fromkeys(range(size))
    forget_first(table)
    assert list(table) == list(range(size - left, size))
