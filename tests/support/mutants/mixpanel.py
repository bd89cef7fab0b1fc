"""Defects that the tests in `tests/faults` must notice."""

from . import Mutant

MUTANTS: list[Mutant] = []
