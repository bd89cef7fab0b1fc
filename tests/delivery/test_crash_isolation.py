"""Suspects: how records are sent after processes have died that handled them."""

import pytest

from mixpanel_visitor.delivery.sending.crash_isolation import most_together, separate


@pytest.mark.parametrize(
    ("crashes", "together"), [(0, 2_000), (1, 2_000), (2, 125), (3, 7), (4, 1), (5, 1), (50, 1)]
)
def test_with_each_death_fewer_go_together(crashes, together):
    """One death may have any reason; from the second on the search narrows."""
    assert most_together(crashes) == together


def test_without_deaths_a_run_stays_whole():
    """The usual case costs nothing."""
    assert list(map(list, separate([range(5)], {}, ordered=False))) == [[0, 1, 2, 3, 4]]


def test_suspects_go_behind_all_others():
    """Who is innocent must not wait for the search."""
    parts = separate([range(6)], {1: 4, 2: 4, 3: 1}, ordered=False)
    assert list(map(list, parts)) == [[0], [3], [4, 5], [1], [2]]


def test_where_the_order_counts_suspects_stay_where_they_are():
    """Updates of one person keep their order."""
    parts = separate([range(6)], {1: 4, 2: 4}, ordered=True)
    assert list(map(list, parts)) == [[0], [1], [2], [3, 4, 5]]
