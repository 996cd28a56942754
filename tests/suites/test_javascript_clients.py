"""JavaScript clients as applications use them, on a running server: the tests in ``javascript``, run by node."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.small_model import END_OF_TURN, write_small_model
from tests.npm_packages import install_packages
from tests.running_server import RunningServer

pytestmark = [pytest.mark.agents, pytest.mark.timeout(900)]

MODEL = "small"
SCRIPTS = Path(__file__).parent / "javascript"


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the clients and the scripts that use them: node looks for a package from a script's place upwards."""
    folder = install_packages(SCRIPTS, "javascript_clients")
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("model") / MODEL
    write_small_model(folder)
    with RunningServer("--allow-forced-tokens", "--served-model-name", MODEL, model=str(folder)) as running:
        yield running


@pytest.mark.parametrize("client", sorted(script.name.removesuffix(".test.mjs") for script in SCRIPTS.glob("*.test.mjs")))
def test_a_client_reads_every_answer(client, packages, server):
    node = packages / "node_modules" / ".bin" / "node"
    environment = os.environ | {"SERVER": server.url, "MODEL": MODEL, "END": END_OF_TURN}
    command = [str(node), "--test", "--test-reporter=spec", f"{client}.test.mjs"]
    done = subprocess.run(command, cwd=packages, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:]
    print(done.stdout)
