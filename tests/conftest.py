"""Settings of the test run that no single test should choose."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady",  # shared machines stall: a slow example is not a failure
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("steady")
