"""What people install: the wheel, made from the source archive, serves in an environment of its own without a compiler."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.running_server import free_port
from yeoul.web_process.live.page.page_files import FOLDER

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True, timeout=1200)
    return folder


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    (wheel,) = built.glob("*.whl")
    install = [str(folder / "bin" / "pip"), "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True, env=without_compiler(folder), timeout=1200)
    return folder


def without_compiler(environment: Path) -> dict[str, str]:
    """A user's environment in which no compiler can be found."""
    return {**os.environ, "PATH": str(environment / "bin"), "CC": "/nowhere/cc", "CXX": "/nowhere/c++", "PYTHONPATH": ""}


def test_the_wheel_holds_the_libraries_and_nothing_to_build_them(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"yeoul/transport/libyeoul_ring.so", "yeoul/kernels/libyeoul_kernels.so", "yeoul/py.typed"} <= set(names)
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert {f"yeoul/web_process/live/page/static/{name}" for name in files} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_the_source_archive_holds_what_it_is_built_and_tested_from(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"CMakeLists.txt", "Makefile", "LICENSE", "yeoul/transport/ring_atomics.c", "tests/e2e/test_wheel.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "build/", "dist/")) or name.endswith(".so")]


def test_the_installed_wheel_serves_without_a_compiler(environment, tmp_path):
    port = free_port()
    command = [environment / "bin" / "yeoul", "serve", "--port", str(port)]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=without_compiler(environment), cwd=tmp_path, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_ready(process, port, log)
        body = {"prompt": "The river", "max_tokens": 8, "temperature": 0}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=60.0)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == 8
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 240.0
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5.0).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"not ready:\n{log.read_text()}")
