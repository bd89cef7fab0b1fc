"""What in the settings of a Redis is told before it costs somebody his events."""

import pytest

from mixpanel_visitor.delivery.redis_streams.config_check import judge

WELL = {"redis_version": "7.0.15", "maxmemory_policy": "noeviction", "aof_enabled": 1, "connected_slaves": 1}


def test_nothing_is_found_where_all_is_well():
    """As the documentation asks for it."""
    assert list(judge(WELL, wait=1)) == []


def test_what_is_not_told_is_no_shortcoming():
    """Who hosts a Redis may keep much of it to himself."""
    assert list(judge({}, wait=0)) == []


@pytest.mark.parametrize(
    ("change", "wait", "problem", "refuses"),
    [
        ({"redis_version": "6.0.16"}, 0, "Redis 6.0.16 is too old", True),
        ({"maxmemory_policy": "allkeys-lru"}, 0, "maxmemory-policy is allkeys-lru", True),
        ({"aof_enabled": 0}, 0, "appendonly is off", False),
        ({"connected_slaves": 0}, 1, "wait=1 is asked for, and 0 replicas are connected", False),
    ],
)
def test_a_shortcoming_is_told(change, wait, problem, refuses):
    """And a worker does not start on what loses events by design."""
    (found,) = judge({**WELL, **change}, wait=wait)
    assert (found.problem, found.refuses) == (problem, refuses)
    assert found.impact
    assert found.fix


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl", "noeviction"])
def test_a_policy_that_spares_our_keys_is_well(policy):
    """Streams have no time to live."""
    assert list(judge({**WELL, "maxmemory_policy": policy}, wait=0)) == []
