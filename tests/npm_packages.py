"""Packages from npm at the versions of a lock file, for tests that run programs of others; skips where there is no node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "build"


def install_packages(files: Path, name: str) -> Path:
    """The folder in ``build`` with the packages that ``package.json`` and the lock file in ``files`` name."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip(f"there is no node here: {name} comes from npm")
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(files / file, folder)
    command = [npm, "install", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        pytest.skip(f"npm does not give {name}: {done.stderr[-500:]}")
    return folder
