"""What holds for all tests."""

import os

from hypothesis import HealthCheck, Phase, settings
from support.mutants import IN_A_MUTANT

# A slow machine is no finding: timing never fails a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("mutant", settings.get_profile("patient"), phases=[Phase.generate])
settings.load_profile("mutant" if IN_A_MUTANT in os.environ else "patient")
