"""An environment of Python packages at the versions of a file, for programs of others; skips where pip has none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "build"


def install_environment(requirements: Path, name: str) -> Path:
    """The python of an environment in ``build`` with the packages of ``requirements``; nothing of ours is in it."""
    folder = BUILD / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        pytest.skip(f"pip does not give {name}: {done.stderr[-500:]}")
    return python
