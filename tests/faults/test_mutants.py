"""The guards are guarded: each row of the fault table has a defect that turns its test red."""

import pytest
from support.components import needs
from support.mutants import (
    collector,
    delivered,
    engine,
    flags,
    guarded,
    letters,
    logins,
    network,
    plant,
    processes,
    redis_streams,
    run_test,
    travels,
)

MUTANTS = [
    *processes.MUTANTS,
    *engine.MUTANTS,
    *guarded.MUTANTS,
    *letters.MUTANTS,
    *network.MUTANTS,
    *travels.MUTANTS,
    *flags.MUTANTS,
    *delivered.MUTANTS,
    *logins.MUTANTS,
    *collector.MUTANTS,
]
IN_REDIS = [pytest.param(each, marks=needs("redis-server"), id=str(each)) for each in redis_streams.MUTANTS]
ROWS = {*range(1, 36), *range(37, 44)}


@pytest.mark.mutants
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", [*MUTANTS, *IN_REDIS], ids=str)
def test_a_planted_defect_is_noticed(mutant, tmp_path):
    """With the defect in the package, the test of its row fails."""
    result = run_test(mutant.test, plant(mutant, tmp_path), timeout_s=240)
    assert result.returncode == 1, f"nobody noticed: {mutant}\n{result.stdout[-3000:]}{result.stderr[-1000:]}"


def test_every_row_has_a_defect():
    """No row of the fault table is without a test that was seen to fail."""
    assert {row for mutant in [*MUTANTS, *redis_streams.MUTANTS] for row in mutant.rows} == ROWS
