"""A fixture for every test of a module that imports it: no shared memory and no file with a name outlives the test."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch):
    """Shared memory, and the folder for what must have a name, which each test has for itself."""
    shared_memory = set(os.listdir("/dev/shm"))
    with tempfile.TemporaryDirectory(prefix="yeoul-test-", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield
        assert [path for path in Path(folder).rglob("*") if path.parent != Path(folder)] == []
    assert set(os.listdir("/dev/shm")) - shared_memory == set()
