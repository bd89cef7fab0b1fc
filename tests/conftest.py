"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# A slow machine is no finding: timing never fails a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
