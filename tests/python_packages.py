"""An environment of Python packages at the versions of a file, for programs of others; skips where pip has none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "build"


def install_environment(requirements: Path, name: str, *, shares_packages: bool = False) -> Path:
    """The python of an environment in ``build`` with the packages of ``requirements``; nothing of ours is in it.

    With ``shares_packages`` it also sees those beside which the tests run: for what would bring a torch of its own.
    """
    folder = BUILD / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
        if shares_packages:
            (own,) = folder.glob("lib/python*/site-packages")
            others = [path for path in sys.path if path.endswith("site-packages")]
            (own / "shared.pth").write_text("\n".join(others))
    command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        pytest.skip(f"pip does not give {name}: {done.stderr[-500:]}")
    return python
