"""Kept blocks as users see them: found after a restart, after a kill, and by new workers; the answer is the same."""

from __future__ import annotations

import os
import random
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import until
from tests.running_server import RunningServer

PROMPT = "".join(random.Random(7).choice("abcdefgh ") for _ in range(1500))  # 93 full blocks of 16
NUM_CACHED = 1488


def serve(folder: Path, *flags: str, size: str = "8MiB") -> RunningServer:
    return RunningServer("--data-dir", str(folder), "--kv-disk-bytes", size, "--max-model-len", "4096", *flags)


def ask(server: RunningServer, prompt: str = PROMPT, **fields: Any) -> Any:
    body = {"prompt": prompt, "max_tokens": 24, "temperature": 1.0, "seed": 5, "logprobs": 2, "ignore_eos": True} | fields
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60.0)
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(answer: Any) -> Any:
    return answer["choices"][0]["text"], answer["choices"][0]["logprobs"]


def cached(answer: Any) -> int:
    return int((answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens", 0))


def causes_of_last(server: RunningServer) -> dict[str, float]:
    (last,) = httpx.get(f"{server.url}/debug/requests?limit=1", timeout=10.0).json()["data"]
    story = httpx.get(f"{server.url}/debug/requests/{last['id']}", timeout=10.0).json()
    assert sum(cause["seconds"] for cause in story["causes"]) == pytest.approx(story["seconds"], abs=1e-4)
    return {cause["cause"]: cause["seconds"] for cause in story["causes"]}


def await_stored(server: RunningServer, num_blocks: int) -> None:
    assert until(lambda: server.metrics()["yeoul:num_kv_tier_blocks"] >= num_blocks, 20.0), server.log()


def test_a_prompt_is_found_again_after_a_restart_and_after_a_kill(tmp_path):
    with serve(tmp_path) as server:
        first = ask(server)
        assert cached(first) == 0
        await_stored(server, 94)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
    with serve(tmp_path) as server:
        second = ask(server)
        assert said(second) == said(first)
        assert cached(second) == NUM_CACHED
        metrics = server.metrics()
        assert metrics["yeoul:kv_tier_loaded_blocks_total"] == 93
        assert metrics["vllm:external_prefix_cache_hits_total"] == NUM_CACHED
        assert metrics["yeoul:kv_tier_failed_blocks_total"] == 0
        engine = httpx.get(f"{server.url}/topology", timeout=10.0).json()["engine"]
        assert 0 < engine["kv_tier_usage"] < 0.1
        causes = causes_of_last(server)
        assert causes["loading"] > 0
        assert "cold_prefix" not in causes
        for pid in server.tree():
            os.kill(pid, signal.SIGKILL)
        server.process.wait(20)
    (slots,) = (tmp_path / "kv").glob("*.slots")
    with slots.open("r+b") as file:  # and one block is damaged meanwhile
        file.seek(40 * 4096 + 3)
        file.write(b"!")
    with serve(tmp_path) as server:
        third = ask(server)
        assert said(third) == said(first)
        assert 0 < cached(third) < NUM_CACHED
        assert server.metrics()["yeoul:kv_tier_failed_blocks_total"] == 1
        assert "could not be read (it is not what was written), and is computed anew" in server.log()


@pytest.mark.parametrize("ranks", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_a_worker_that_is_killed_costs_no_prefill(tmp_path, ranks):
    flags = ["--kv-memory-bytes", "8MiB", "--max-model-len", "4096", "--tensor-parallel-size", ranks]
    with RunningServer(*flags, "--fake-step-seconds", "0.01", "--fake-token-seconds", "0.0002") as server:
        undisturbed = ask(server, max_tokens=200, cache_salt="other")
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(ask(server, max_tokens=200)))
        before = server.metrics()["yeoul:num_kv_tier_blocks"]
        thread.start()
        await_stored(server, int(before) + 95)
        os.kill(server.by_title()[f"yeoul::Worker_{int(ranks) - 1}"], signal.SIGKILL)
        thread.join(60)
        assert said(answers[0]) == said(undisturbed)
        metrics = server.metrics()
        assert metrics["yeoul:kv_tier_loaded_blocks_total"] >= 93
        assert metrics["yeoul:kv_tier_failed_blocks_total"] == 0


@pytest.mark.long
@pytest.mark.parametrize("ranks", ["1", "2"])
def test_what_an_engine_has_kept_the_other_finds_when_it_dies(tmp_path, ranks):
    flags = ["--data-parallel-size", "2", "--fake-step-seconds", "0.005", "--tensor-parallel-size", ranks]
    with serve(tmp_path, *flags) as server:
        undisturbed = ask(server, max_tokens=200, cache_salt="other")
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(ask(server, max_tokens=200)))
        before = server.metrics()["yeoul:num_kv_tier_blocks"]
        thread.start()
        await_stored(server, int(before) + 95)
        (running,) = httpx.get(f"{server.url}/debug/requests?state=running", timeout=10.0).json()["data"]
        os.kill(server.by_title()[f"yeoul::{running['engine']}"], signal.SIGKILL)
        thread.join(60)
        assert said(answers[0]) == said(undisturbed)
        metrics = server.metrics()
        assert metrics["yeoul:kv_tier_loaded_blocks_total"] >= 93
        assert metrics["yeoul:kv_tier_failed_blocks_total"] == 0


def crowd() -> list[tuple[str, int]]:
    """Prompts that begin in few ways and end in many, more than the cache has room for."""
    chooser = random.Random(11)
    heads = ["".join(chooser.choice("abcdefgh ") for _ in range(480)) for _ in range(5)]
    return [(chooser.choice(heads) + f"{number} " * chooser.randrange(1, 60), number) for number in range(40)]


def ask_crowd(server: RunningServer) -> list[Any]:
    def one(asked: tuple[str, int]) -> Any:
        return said(ask(server, asked[0], seed=asked[1], max_tokens=60))

    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(one, crowd()))


@pytest.mark.long
@pytest.mark.parametrize(
    ("ranks", "engines", "victims"),
    [
        ("1", "1", ["Worker_0", "EngineCore", "Worker_0"]),
        ("2", "1", ["Worker_0", "EngineCore", "Worker_1"]),
        ("1", "2", ["Worker_0", "EngineCore_1", "Worker_1", "EngineCore_0"]),
    ],
)
def test_a_crowd_in_a_small_cache_is_answered_the_same_whoever_dies(tmp_path, ranks, engines, victims):
    """Blocks leave for lack of room and come back; workers and EngineCore are killed meanwhile, and at last the server."""
    with RunningServer("--max-model-len", "4096") as server:
        undisturbed = ask_crowd(server)
    few = ["--num-blocks-override", "280", "--fake-step-seconds", "0.005", "--check-invariants", "--max-restarts", "20"]
    flags = [*few, "--tensor-parallel-size", ranks, "--data-parallel-size", engines, "--async-scheduling"]
    with serve(tmp_path, *flags, size="16MiB") as server:
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask_crowd, server)
            for role in victims:
                await_steps(server, 25, asking)
                os.kill(await_process(server, f"yeoul::{role}"), signal.SIGKILL)
            assert asking.result(120) == undisturbed
        assert ask_crowd(server) == undisturbed
        assert server.metrics()["yeoul:kv_tier_loaded_blocks_total"] > 0
        for pid in server.tree():
            os.kill(pid, signal.SIGKILL)
        server.process.wait(20)
    with serve(tmp_path, *flags, size="16MiB") as server:
        assert ask_crowd(server) == undisturbed
        assert server.metrics()["yeoul:kv_tier_loaded_blocks_total"] > 0


def await_process(server: RunningServer, title: str) -> int:
    assert until(lambda: title in server.by_title(), 20.0), server.log()
    return server.by_title()[title]


def await_steps(server: RunningServer, num_steps: int, asking: Future[Any]) -> None:
    """Until that many more have been computed than now, or nothing is left to compute."""

    def total() -> float:
        try:
            return server.metrics()["yeoul:engine_steps_total"]
        except httpx.HTTPError:
            return 0.0

    start = total()
    assert until(lambda: asking.done() or total() >= start + num_steps, 60.0), server.log()


def test_a_prefill_engine_hands_a_request_on_with_its_prompt(tmp_path):
    with serve(tmp_path, "--data-parallel-size", "2", "--num-prefill-engines", "1", "--fake-step-seconds", "0.002") as server:
        handed = ask(server, max_tokens=300)
        metrics = server.metrics()
        assert metrics["yeoul:kv_tier_loaded_blocks_total"] == 93
        assert metrics["yeoul:kv_tier_failed_blocks_total"] == 0
        assert cached(handed) == 0
        (last,) = httpx.get(f"{server.url}/debug/requests?limit=1", timeout=10.0).json()["data"]
        assert last["engine"] == "EngineCore_1"
        assert causes_of_last(server)
    with serve(tmp_path / "alone") as server:
        assert said(ask(server, max_tokens=300)) == said(handed)
