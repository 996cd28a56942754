"""Two servers behind routers from PyPI, unchanged: every kind of request, and one server drained or killed."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.python_packages import install_environment
from tests.running_server import RunningServer, free_port

REQUIREMENTS = Path(__file__).parent / "routers" / "requirements.txt"
PROGRAMS = {"smg": ["smg", "launch"], "vllm-router": ["python", "-m", "vllm_router.launch_router"]}
# So a router learns in time that a server is going to stop (docs/routers.md).
HEALTH = [
    "--health-check-endpoint", "/ready", "--health-check-interval-secs", "1", "--health-failure-threshold", "1",
]  # fmt: skip
MESSAGES: Any = [{"role": "user", "content": "hi"}]
NUM_CLIENTS = 8

pytestmark = [pytest.mark.agents, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def commands() -> dict[str, list[str]]:
    """How each router is started."""
    programs = install_environment(REQUIREMENTS, "routers").parent
    return {name: [str(programs / program), *arguments] for name, (program, *arguments) in PROGRAMS.items()}


@contextlib.contextmanager
def routed(begin: list[str], policy: str, *servers: RunningServer) -> Iterator[openai.OpenAI]:
    """A client of a router in front of these; ``begin`` is how it is started."""
    port = free_port()
    place = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port()), "--policy", policy, *HEALTH]
    command = [*begin, *place, "--worker-urls", *(server.url for server in servers)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=30.0) as client:
            wait_for_router(client, process)
            yield client
    finally:
        process.terminate()
        process.wait(20.0)


def wait_for_router(client: openai.OpenAI, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the router ended with {process.returncode}"
        with contextlib.suppress(openai.APIError):
            client.completions.create(model="fake", prompt="x", max_tokens=1)
            return
        time.sleep(0.2)
    raise AssertionError("the router does not answer")


class Kinds:
    """One request of each kind; each answer is checked."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client
        self._expected = self._chat()

    def _chat(self) -> str | None:
        answer = self._client.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=60, seed=3)
        return answer.choices[0].message.content

    def chat(self) -> None:
        assert self._chat() == self._expected

    def stream(self) -> None:
        events = self._client.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=60, seed=3, stream=True)
        assert "".join(event.choices[0].delta.content or "" for event in events) == self._expected

    def completion(self) -> None:
        assert self._client.completions.create(model="fake", prompt="x", max_tokens=60).usage

    def completion_stream(self) -> None:
        events = self._client.completions.create(model="fake", prompt="x", max_tokens=9, stream=True)
        assert [event.choices[0].finish_reason for event in events][-1] == "length"

    def vectors(self) -> None:
        assert len(self._client.embeddings.create(model="fake", input=["x", "y"]).data) == 2

    def response(self) -> None:
        assert self._client.responses.create(model="fake", input="hi", max_output_tokens=9).output

    @property
    def all(self) -> list[Callable[[], None]]:
        return [self.chat, self.stream, self.completion, self.completion_stream, self.vectors, self.response]


@pytest.mark.parametrize("policy", ["round_robin", "cache_aware", "power_of_two"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_kind_of_request_is_answered(commands, name, policy):
    with RunningServer() as one, RunningServer() as other, routed(commands[name], policy, one, other) as client:
        kinds = Kinds(client)
        for _ in range(4):
            for kind in kinds.all:
                kind()
        assert [model.id for model in client.models.list().data] == ["fake"]
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="fake", messages=MESSAGES, temperature=-3)
        if policy == "round_robin":
            assert min(server.metrics()["vllm:request_success_total"] for server in (one, other)) >= 8
        for server in (one, other):
            assert "Traceback" not in server.log()


def drain(server: RunningServer) -> None:
    os.kill(server.pid, signal.SIGTERM)


def kill(server: RunningServer) -> None:
    for pid in server.tree():
        os.kill(pid, signal.SIGKILL)


def kill_worker(server: RunningServer) -> None:
    os.kill(server.by_title()["yeoul::Worker_0"], signal.SIGKILL)


@pytest.mark.parametrize("harm", [drain, kill, kill_worker])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_server_goes_and_nothing_is_lost(commands, name, harm):
    """But streams that a killed server had begun, which no router begins anew, and vllm-router does not repeat Responses."""
    flags = ("--fake-step-seconds", "0.004", "--drain-delay-seconds", "4")
    with (
        RunningServer(*flags) as one,
        RunningServer(*flags) as other,
        routed(commands[name], "round_robin", one, other) as client,
    ):
        kinds = Kinds(client)
        answered: collections.Counter[str] = collections.Counter()
        failed: list[tuple[str, float, str]] = []
        end = time.monotonic() + 8.0

        def ask(number: int) -> None:
            while time.monotonic() < end:
                kind = kinds.all[number % len(kinds.all)]
                number += 1
                try:
                    kind()
                    answered[kind.__name__] += 1
                except Exception as error:
                    failed.append((kind.__name__, time.monotonic(), repr(error)))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(NUM_CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(2.0)
        harmed_at = time.monotonic()
        harm(one)
        for thread in threads:
            thread.join()
        if harm is kill:
            lost = {"stream", "completion_stream"} | ({"response"} if name == "vllm-router" else set())
            assert all(kind in lost and when < harmed_at + 3.0 for kind, when, _ in failed), failed
            assert len(failed) <= 2 * NUM_CLIENTS
        else:
            assert failed == []
        assert all(answered[kind.__name__] > 10 for kind in kinds.all), answered
        if harm is drain:
            assert one.wait_exit(20.0) == 0
