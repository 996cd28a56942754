"""What the tests of routes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.web_process.fake_server import LastingServer


@pytest.fixture(scope="module")
def lasting() -> Iterator[LastingServer]:
    """One server for all tests of a file that leave nothing behind in it."""
    with LastingServer() as server:
        yield server
