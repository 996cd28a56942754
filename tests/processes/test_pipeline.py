"""Pipeline stages as real processes on the fake model: steps of several stages at once, deaths, hangs, a clean end."""

from __future__ import annotations

import os
import signal
from typing import Literal

import httpx
import pytest

from tests.chaos.traffic import MIXED, finish, send
from tests.processes.fake_engine import fake_engine_settings
from tests.processes.test_executor import LIMIT, LINK, Deaths, step
from tests.running_server import RunningServer, alive
from yeoul.config.settings import CacheSettings, ModelSettings, ParallelSettings, Settings, TimeSettings
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.worker_process.executor import executor_maker


def executor_of(num_stages: int, ranks_a_stage: int = 1, backend: Literal["mp", "loopback"] = "mp", **time_settings):
    parallel = ParallelSettings(
        pipeline_parallel_size=num_stages, tensor_parallel_size=ranks_a_stage, distributed_executor_backend=backend
    )
    settings = Settings(
        model=ModelSettings(model="fake"),
        parallel=parallel,
        time=TimeSettings(**time_settings),
        cache=CacheSettings(num_blocks_override=64),
    )
    return executor_maker(fake_engine_settings(LINK, settings))()


def prompt_step(number: int, num_tokens: int) -> StepInput:
    name = f"of step {number}"
    request = NewRequest(
        request_id=name, prompt_token_ids=[7] * num_tokens, sampling=SamplingParams(seed=1, max_tokens=1, temperature=1.0)
    )
    part = ScheduledRequest(name, 0, num_tokens, list(range(-(-num_tokens // 16))))
    return StepInput(step_number=number, new_requests=[request], scheduled=[part])


@pytest.mark.parametrize("backend", ["mp", "loopback"])
def test_steps_of_all_stages_are_on_their_way_at_once_and_come_back_in_order(backend):
    deaths, executor = Deaths(), executor_of(3, 2, backend)
    try:
        pids = [ready.pid for ready in executor.start(deaths)]
        assert len(set(pids)) == 6
        executor.allocate_cache(16)
        results = [executor.execute(prompt_step(number, 40), LIMIT) for number in range(5)]
        assert [result.result(5.0).step_number for result in results] == list(range(5))
        tokens = [result.result().results[0].token_ids for result in results]
        links = {link.name: (link.source.split("/")[0], link.target.split("/")[0]) for link in executor.look().links}
        assert [links[f"hidden states of Worker_{rank}"] for rank in range(4)] == [
            (f"Worker_{rank}", f"Worker_{rank + 2}") for rank in range(4)
        ]
        counts = [link.messages for link in executor.look().links if link.kind == "stage"]
        assert counts == [5 if backend == "mp" else None] * 4
        addresses = {link.address is None for link in executor.look().links if link.kind == "stage"}
        assert addresses == {backend == "mp"}
        assert {name for name in links if name.startswith("exchange")} == {f"exchange of Worker_{rank}" for rank in range(6)}
    finally:
        executor.stop()
    assert alive(pids) == set()
    assert deaths.errors == []
    whole = executor_of(1)
    try:
        whole.start(Deaths())
        whole.allocate_cache(16)
        alone = [whole.execute(prompt_step(number, 40), LIMIT).result(5.0).results[0].token_ids for number in range(5)]
    finally:
        whole.stop()
    assert tokens == alone


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stage_that_hangs_is_named(rank):
    deaths, executor = Deaths(), executor_of(2, stop_timeout_seconds=0.2, min_step_timeout_seconds=0.3)
    try:
        pids = [ready.pid for ready in executor.start(deaths)]
        executor.allocate_cache(16)
        os.kill(pids[rank], signal.SIGSTOP)
        with pytest.raises(ProcessDeadError, match=rf"Worker_{rank} hangs.*\(Worker_{rank} was stopped"):
            executor.execute(step(0), 0.5).result(5.0)
    finally:
        executor.stop()


def test_more_stages_than_layers_are_refused_before_anything_starts():
    with pytest.raises(
        ConfigError, match="pipeline_parallel_size 9 makes more stages than the model has layers; expected at most 8"
    ):
        executor_of(9)


def ask_all(*flags: str) -> list[object]:
    """Streams of every kind, and a vector."""
    with RunningServer("--max-num-batched-tokens", "64", "--check-invariants", *flags) as server:
        answers: list[object] = [answer.content for answer in finish(send(server.url, MIXED))]
        vector = httpx.post(f"{server.url}/v1/embeddings", json={"input": "a river " * 20, "model": "fake"}).json()
        return [*answers, vector["data"]]


def test_stages_say_what_the_whole_model_says_also_in_several_engines():
    whole = ask_all()
    assert ask_all("--pipeline-parallel-size", "2") == whole
    assert ask_all("--pipeline-parallel-size", "2", "--data-parallel-size", "2") == whole
