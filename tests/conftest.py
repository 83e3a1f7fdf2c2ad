"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a machine that stands still for a while now and then.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
