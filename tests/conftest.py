"""What every test run needs of its own process, however it was started."""

from __future__ import annotations

import gc
import signal

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    """A run in the background ignores SIGINT, one under nohup SIGHUP, and their children inherit that.

    Tests of Ctrl-C and of closed terminals need the ordinary way.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # What an example may take is a matter of the machine; where it is meant, a test says little_time.
    settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("unhurried")


@pytest.fixture(scope="module", autouse=True)
def _what_others_left_is_not_collected():
    """What thousands of tests have left costs each full collection most of a second, in the middle of the next test."""
    gc.collect()
    gc.freeze()
