"""What every test run needs of its own process, however it was started."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A run in the background ignores SIGINT and its children inherit that; tests of Ctrl-C need the ordinary way."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
