"""Ray Serve with Yeoul as a deployment: streams through its proxy, an engine killed, a replica drained, one replaced."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.patience import until
from tests.python_packages import install_environment
from tests.running_server import descendants, free_port, title

REQUIREMENTS = Path(__file__).parent / "ray" / "requirements.txt"
ROOT = Path(__file__).parents[2]
MESSAGES: Any = [{"role": "user", "content": "hi"}]
NUM_STREAMS = 8
NUM_TOKENS = 60

pytestmark = [pytest.mark.agents, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python() -> Path:
    """Of an environment with Ray, that finds this package as the tests do."""
    python = install_environment(REQUIREMENTS, "ray", shares_packages=True)
    (own,) = python.parents[1].glob("lib/python*/site-packages")
    (own / "zz_yeoul.pth").write_text("import _editable_skbc_yeoul\n")
    return python


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """What starts a Ray of its own, in a folder whose path is short enough for its sockets."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    environment = {**os.environ, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder
        )
        try:
            yield process
        except BaseException:
            print(Path(log.name).read_text()[-5000:])
            raise
        finally:
            pids = descendants(process.pid)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30.0)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(10.0)
            shutil.rmtree(folder, ignore_errors=True)


def pids_called(name: str, process: subprocess.Popen[str]) -> list[int]:
    return [pid for pid in descendants(process.pid) if title(pid) == name]


def client_of(port: int) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60.0)


class Streams:
    """Some at a time, each with the text that a request alone has; ``texts`` are theirs, or what ended them."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client
        self.expected = client.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=NUM_TOKENS, seed=3)
        self.texts: list[object] = []
        self.num_begun = 0
        self._threads = [threading.Thread(target=self._read) for _ in range(NUM_STREAMS)]

    def _read(self) -> None:
        text, num_events = "", 0
        try:
            events = self._client.chat.completions.create(
                model="fake", messages=MESSAGES, max_tokens=NUM_TOKENS, seed=3, stream=True
            )
            for event in events:
                num_events += 1
                self.num_begun += num_events == 3
                text += event.choices[0].delta.content or ""
            self.texts.append(text if num_events > NUM_TOKENS // 2 else f"only {num_events} events")
        except Exception as error:
            self.texts.append(error)

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()
        assert until(lambda: self.num_begun == NUM_STREAMS, 60.0)
        assert not self.texts, "they have ended before they could be looked at"

    def finish(self) -> None:
        for thread in self._threads:
            thread.join()
        assert self.texts == [self.expected.choices[0].message.content] * NUM_STREAMS


def test_streams_go_on_while_an_engine_is_killed_a_replica_drained_and_one_replaced(python):
    port = free_port()
    with running(str(python), str(ROOT / "tests" / "suites" / "ray" / "replicas.py"), str(port)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert until_line(process, "READY")
        assert len(pids_called("yeoul::Web", process)) == 2
        with client_of(port) as client:
            streams = Streams(client)
            streams.begin()
            os.kill(pids_called("yeoul::EngineCore", process)[0], signal.SIGKILL)
            streams.finish()

            streams = Streams(client)
            streams.begin()
            process.stdin.write("1\n")
            process.stdin.flush()
            streams.finish()
            assert until_line(process, "READY")
            assert until(lambda: len(pids_called("yeoul::Web", process)) == 1, 60.0)

            (web,) = pids_called("yeoul::Web", process)
            os.kill(web, signal.SIGKILL)
            assert until(lambda: answers(client) and pids_called("yeoul::Web", process) not in ([], [web]), 120.0)


def until_line(process: subprocess.Popen[str], word: str) -> bool:
    assert process.stdout is not None
    return any(line.strip() == word for line in process.stdout)


def answers(client: openai.OpenAI) -> bool:
    try:
        return bool(client.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=3).choices)
    except openai.APIError:
        return False


def test_serve_run_as_the_documentation_has_it(python, tmp_path):
    port = free_port()
    config = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [{
            "name": "yeoul",
            "route_prefix": "/llm",
            "import_path": "yeoul.integrations.ray_serve:app",
            "args": {"model": "fake", "fake_step_seconds": 0.05},
            "deployments": [{"name": "Yeoul", "ray_actor_options": {"num_cpus": 0.5}}],
        }],
    }  # fmt: skip
    path = tmp_path / "serve.json"
    path.write_text(json.dumps(config))
    url = f"http://127.0.0.1:{port}/llm"
    with (
        running(str(python), "-m", "ray.serve.scripts", "run", str(path)) as process,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60.0) as client,
    ):
        assert until(lambda: process.poll() is not None or answers(client), 240.0)
        assert [model.id for model in client.models.list().data] == ["fake"]
        assert client.responses.create(model="fake", input="hi", max_output_tokens=9).output
        with pytest.raises(openai.BadRequestError, match="temperature"):
            client.chat.completions.create(model="fake", messages=MESSAGES, temperature=-3)
        assert httpx.get(f"{url}/ready", timeout=10.0).status_code == 200
        assert httpx.get(f"{url}/v1/nothing", timeout=10.0).json()["error"]["code"] == "unknown_url"

        def num_unfinished() -> int:
            return int(httpx.get(f"{url}/load", timeout=10.0).json()["server_load"])

        begin = time.monotonic()
        events = client.completions.create(model="fake", prompt="x", max_tokens=4000, stream=True)
        next(iter(events))
        assert num_unfinished() == 1
        events.close()
        assert until(lambda: num_unfinished() == 0, 60.0)
        assert time.monotonic() - begin < 4000 * 0.05, "it was computed to its end, though nobody read it"
