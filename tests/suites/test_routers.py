"""Two servers behind routers from PyPI, unchanged: every kind of request, and one server drained or killed."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.patience import until
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
def routed(
    begin: list[str], policy: str, *servers: RunningServer, prometheus_port: int | None = None
) -> Iterator[openai.OpenAI]:
    """A client of a router in front of these; ``begin`` is how it is started."""
    port, prometheus_port = free_port(), prometheus_port or free_port()
    place = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--prometheus-port",
        str(prometheus_port),
        "--policy",
        policy,
        *HEALTH,
    ]
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


# What a router says of requests whose beginning it took to be cached somewhere, and of those whose was not.
HITS_AND_MISSES = {
    ("vllm-router", "kv_aware"): (
        'vllm_router_kv_placement_lookups_total{result="hit"}',
        'vllm_router_kv_placement_lookups_total{result="miss"}',
    ),
    ("vllm-router", "cache_aware"): (
        'vllm_router_prefix_routing_decisions_total{policy="cache_aware",stage="regular",outcome="prefix_hit"}',
        'vllm_router_prefix_routing_decisions_total{policy="cache_aware",stage="regular",outcome="prefix_miss"}',
    ),
    ("smg", "cache_aware"): (
        'smg_cache_aware_policy_branch_total{branch="tree_match"}',
        'smg_cache_aware_policy_branch_total{branch="expected_wait_fallback"}',
    ),
}
NUM_AGENTS = 8


class Agents:
    """Conversations that have nothing in common but that all of a conversation so far is in each of its requests."""

    def __init__(self, client: openai.OpenAI, prometheus_port: int, names: tuple[str, str]) -> None:
        self._client = client
        self._names = names
        self._prometheus_url = f"http://127.0.0.1:{prometheus_port}/metrics"
        self._talks: list[Any] = [
            [{"role": "user", "content": f"{letter} is my name. " * 20}] for letter in "abcdefghijkl"[:NUM_AGENTS]
        ]

    def take_turns(self) -> tuple[float, float]:
        """Each one's next turn; how many of them the router counted as hits and as misses."""
        before = self.counted()
        for talk in self._talks:
            self._client.chat.completions.create(model="fake", messages=talk, max_tokens=4, seed=1)
            talk += [{"role": "assistant", "content": "I know."}, {"role": "user", "content": "And what then, and why? " * 3}]
        hits, misses = (after - now for after, now in zip(self.counted(), before, strict=True))
        return hits, misses

    def counted(self) -> tuple[float, float]:
        samples = dict(
            line.rsplit(" ", 1) for line in httpx.get(self._prometheus_url, timeout=10.0).text.splitlines() if line
        )
        hits, misses = (float(samples.get(name, 0)) for name in self._names)
        return hits, misses


def share_of_hits(*servers: RunningServer) -> float:
    counted = [server.metrics() for server in servers]
    hits, asked = (sum(one[f"vllm:prefix_cache_{what}_total"] for one in counted) for what in ("hits", "queries"))
    return hits / asked


@contextlib.contextmanager
def two_that_tell() -> Iterator[tuple[RunningServer, RunningServer]]:
    """Two servers with KV events."""
    with contextlib.ExitStack() as stack:
        servers = []
        for _ in range(2):
            live, replay = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
            config = {"enable_kv_cache_events": True, "endpoint": live, "replay_endpoint": replay}
            servers.append(stack.enter_context(RunningServer("--kv-events-config", json.dumps(config))))
        yield servers[0], servers[1]


@pytest.mark.parametrize(("name", "policy"), HITS_AND_MISSES)
def test_a_conversation_goes_on_where_it_is_cached(commands, name, policy):
    port = free_port()
    with two_that_tell() as servers, routed(commands[name], policy, *servers, prometheus_port=port) as client:
        agents = Agents(client, port, HITS_AND_MISSES[name, policy])
        assert agents.take_turns() == (0, NUM_AGENTS)
        for _ in range(3):
            assert agents.take_turns() == (NUM_AGENTS, 0)
        print(f"{name} {policy}: {share_of_hits(*servers):.0%} of the tokens of prompts were cached")
        assert share_of_hits(*servers) > 0.6


def test_a_router_that_is_told_knows_when_an_engine_has_lost_its_cache(commands):
    """It hears it of the engine that took the dead one's place, and looks for nothing there that is gone."""
    port, names = free_port(), HITS_AND_MISSES["vllm-router", "kv_aware"]
    with two_that_tell() as servers, routed(commands["vllm-router"], "kv_aware", *servers, prometheus_port=port) as client:
        agents = Agents(client, port, names)
        assert agents.take_turns() == (0, NUM_AGENTS)
        assert agents.take_turns() == (NUM_AGENTS, 0)
        for server in servers:
            os.kill(server.by_title()["yeoul::EngineCore"], signal.SIGKILL)
        assert until(lambda: all("EngineCore was replaced" in server.log() for server in servers), 30.0)
        # Whether it follows the new engines: what one of them computes now is found.
        for number, server in enumerate(servers):
            prompt = f"{number} is a number. " * 10

            def is_found(prompt=prompt, server=server) -> bool:
                body = {"prompt": prompt, "max_tokens": 1}
                httpx.post(f"{server.url}/v1/completions", json=body, timeout=10.0).raise_for_status()
                before = agents.counted()[0]
                with contextlib.suppress(openai.APIError):  # it has not seen yet that the server is ready again
                    client.completions.create(model="fake", prompt=prompt, max_tokens=1)
                return agents.counted()[0] > before

            assert until(is_found, 30.0)
        assert agents.take_turns() == (0, NUM_AGENTS)
        assert agents.take_turns() == (NUM_AGENTS, 0)


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
