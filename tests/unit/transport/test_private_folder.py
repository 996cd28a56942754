"""Private folders: whose they are, and what is left of them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from yeoul.errors import ConfigError
from yeoul.transport.private_folder import PrivateFolder


def test_a_folder_is_its_owners_alone_and_goes_with_everything_in_it(tmp_path: Path) -> None:
    with PrivateFolder.create(str(tmp_path)) as folder:
        Path(folder.path, "socket").touch()
        for path in (folder.path, os.path.dirname(folder.path)):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert not os.path.exists(folder.path)
    folder.remove()


def test_two_folders_of_one_process_live_side_by_side(tmp_path: Path) -> None:
    with PrivateFolder.create(str(tmp_path)) as one, PrivateFolder.create(str(tmp_path)) as other:
        assert one.path != other.path
        PrivateFolder.create(str(tmp_path)).remove()
        assert os.path.isdir(one.path)
        assert os.path.isdir(other.path)


def _killed(base: Path) -> str:
    return f"""
import os, signal
from yeoul.transport.private_folder import PrivateFolder
folder = PrivateFolder.create({str(base)!r})
open(folder.path + "/left-behind", "w").close()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_whose_owner_was_killed_is_swept_by_the_next_start(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _killed(tmp_path)], cwd=Path(__file__).parents[3], check=False)
    (left,) = tmp_path.glob("yeoul-*/*")
    assert (left / "left-behind").exists()
    with PrivateFolder.create(str(tmp_path)) as folder:
        assert not left.exists()
        assert os.path.isdir(folder.path)


def test_a_folder_whose_owner_was_killed_is_swept_by_who_ends(tmp_path: Path) -> None:
    with PrivateFolder.create(str(tmp_path)) as folder, PrivateFolder.create(str(tmp_path)) as other:
        folder.remove()
        subprocess.run([sys.executable, "-c", _killed(tmp_path)], cwd=Path(__file__).parents[3], check=False)
        (left,) = set(map(str, tmp_path.glob("yeoul-*/*"))) - {other.path}
        folder.remove()
        assert not os.path.exists(left)
        assert os.path.isdir(other.path)


def test_the_runtime_folder_is_preferred_and_a_long_path_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = Path("/tmp", f"yeoul-test-{os.getpid()}")
    short.mkdir()
    try:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
        with PrivateFolder.create() as folder:
            assert folder.path.startswith(str(short))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("long" * 30)))
        monkeypatch.setattr("tempfile.tempdir", str(short))
        with PrivateFolder.create() as folder:
            assert folder.path.startswith(str(short))
            assert len(folder.path) + 25 <= 107
    finally:
        (short / f"yeoul-{os.geteuid()}").rmdir()
        short.rmdir()


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / f"yeoul-{os.geteuid()}"
    parent.mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="mode 755: remove it"):
        PrivateFolder.create(str(tmp_path))


def test_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / f"yeoul-{os.geteuid()}").symlink_to(target)
    with pytest.raises(ConfigError, match="should be a folder of user"):
        PrivateFolder.create(str(tmp_path))


def test_a_base_that_does_not_exist_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        PrivateFolder.create(str(tmp_path / "missing"))
