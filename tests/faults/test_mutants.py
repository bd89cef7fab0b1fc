"""The guards are guarded: each row of the fault table has a defect that turns its test red."""

import pytest
from support.mutants import engine, guarded, letters, network, plant, processes, run_test

MUTANTS = [
    *processes.MUTANTS,
    *engine.MUTANTS,
    *guarded.MUTANTS,
    *letters.MUTANTS,
    *network.MUTANTS,
]
ROWS = {*range(1, 29), *range(32, 36)}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_planted_defect_is_noticed(mutant, tmp_path):
    """With the defect in the package, the test of its row fails."""
    result = run_test(mutant.test, plant(mutant, tmp_path), timeout_s=100)
    assert result.returncode == 1, f"nobody noticed: {mutant}\n{result.stdout[-3000:]}{result.stderr[-1000:]}"


def test_every_row_has_a_defect():
    """No row of the fault table is without a test that was seen to fail."""
    assert {row for mutant in MUTANTS for row in mutant.rows} == ROWS
