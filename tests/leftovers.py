"""A fixture for every test of a module that imports it: no shared memory and no file with a name outlives the test."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

import pytest

SHARED_MEMORY = Path("/dev/shm")


def held_names() -> set[str]:
    """What in shared memory a living process has open or mapped: with a test's own processes gone, that of another run."""
    held: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            held.update(re.findall(rf"{SHARED_MEMORY}/([^/\n]+)", (process / "maps").read_text()))
            held.update(re.findall(rf"{SHARED_MEMORY}/([^/\n]+)", "\n".join(map(os.readlink, (process / "fd").iterdir()))))
    return held


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch):
    """Shared memory, and the folder for what must have a name, which each test has for itself."""
    before = set(os.listdir(SHARED_MEMORY))
    with tempfile.TemporaryDirectory(prefix="yeoul-test-", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield
        files = [path for path in Path(folder).rglob("*") if path.parent != Path(folder)]
        assert files == [], files
    left = set(os.listdir(SHARED_MEMORY)) - before
    left -= held_names()
    left &= set(os.listdir(SHARED_MEMORY))  # what another run had let go of before it was asked is gone by now
    assert left == set(), left
