"""Settings of the test run that no single test should choose."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from processes.signals import ENDING

settings.register_profile(
    "steady",  # shared machines stall: a slow example is not a failure
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("steady")


@pytest.fixture
def heard():
    """Signals that end a process end this one too, if a shell runs it in the background."""
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
