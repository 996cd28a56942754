"""What others on the same machine can reach of a running engine: nothing by name, nothing over tcp but HTTP."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
import time
from pathlib import Path

import pytest

from tests.running_server import RunningServer, listening_addresses


def unix_sockets(folder: str) -> set[str]:
    """The names in ``folder`` of all unix sockets of this machine, those whose name is gone included."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return {line.split(maxsplit=7)[7] for line in lines[1:] if folder in line}


def modes_below(folder: Path) -> dict[Path, int]:
    """The mode of every folder below this one; what goes while it is looked at is left out."""
    modes = {}
    for parent, names, _ in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                modes[Path(parent, name)] = stat.S_IMODE(Path(parent, name).lstat().st_mode)
    return modes


def test_on_one_host_the_sockets_have_no_name_that_could_be_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="yeoul-test-", dir="/tmp") as name:
        folder = Path(name)
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        # Told by the log: what is asked may be answered only when the folders are gone.
        with RunningServer("--tensor-parallel-size", "2", wait=False, ready_line="Address:") as server:
            modes: dict[Path, int] = {}
            until = time.monotonic() + 60.0
            while not server._is_ready() and time.monotonic() < until:
                modes |= modes_below(folder)
            assert len(modes) > 1, "the start was over before it was looked at"
            assert set(modes.values()) == {0o700}
            assert [path for path in folder.rglob("*") if path.parent != folder] == []
            sockets = unix_sockets(name)
            assert sockets, "there are no links"
            for path in sockets:
                with socket.socket(socket.AF_UNIX) as stranger, pytest.raises(FileNotFoundError):
                    stranger.connect(path)
            assert listening_addresses(server.tree()) == {("0100007F", server.port)}  # 127.0.0.1, and nothing but HTTP
