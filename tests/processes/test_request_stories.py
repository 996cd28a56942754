"""Stories of real processes on the fake model: what delays a request is what its story says."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from tests.running_server import RunningServer

Scene = Callable[[httpx.AsyncClient, RunningServer], Coroutine[Any, Any, None]]


def play(scene: Scene, *arguments: str) -> None:
    async def run(server: RunningServer) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60.0) as http:
            await scene(http, server)

    with RunningServer("--fake-step-seconds", "0.005", *arguments) as server:
        asyncio.run(run(server))


async def complete(http: httpx.AsyncClient, name: str, prompt: str, max_tokens: int) -> None:
    body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True}
    answer = await http.post("/v1/completions", json=body, headers={"x-request-id": name})
    assert answer.status_code == 200, answer.text


async def story(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """Of one that has ended; its causes are all of its time."""
    told: dict[str, Any] = (await http.get(f"/debug/requests/{name}")).json()
    assert sum(cause["seconds"] for cause in told["causes"]) == pytest.approx(told["seconds"], abs=1e-4)
    assert told["state"] == "finished"
    return told


def causes(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cause["cause"]: cause for cause in told["causes"]}


async def until_it_has_tokens(http: httpx.AsyncClient, name: str) -> None:
    for _ in range(2000):
        if (await http.get(f"/debug/requests/{name}")).json().get("num_output_tokens", 0) >= 5:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} got no tokens")


def test_who_waits_for_a_place_learns_behind_whom_and_who_loses_its_blocks_to_whom():
    async def scene(http: httpx.AsyncClient, server: RunningServer) -> None:
        # Answers longer than those that were seen: two are admitted, and grow until one has to give way.
        requests = [asyncio.create_task(complete(http, name, name * 100, 200)) for name in ("a", "b", "c")]
        await asyncio.gather(*requests)
        told = {name: causes(await story(http, name)) for name in ("a", "b", "c")}
        first, *_, last = sorted(told, key=lambda name: told[name]["queued"]["seconds"] if "queued" in told[name] else 0.0)
        assert any(other.startswith(f"{first}~") for other in told[last]["queued"]["because"])
        preempted = [cause["preempted"] for cause in told.values() if "preempted" in cause]
        assert (await http.get("/metrics")).text.count("yeoul:num_preemptions_total 0.0") == (not preempted)

    play(scene, "--num-blocks-override", "32", "--max-num-seqs", "2", "--max-model-len", "400", "--no-enable-prefix-caching")


@pytest.mark.parametrize("title", ["yeoul::Worker_0", "yeoul::EngineCore"])
def test_who_goes_on_after_a_death_has_a_recovery_in_its_story(title):
    async def scene(http: httpx.AsyncClient, server: RunningServer) -> None:
        going_on = asyncio.create_task(complete(http, "going", "river", 150))
        await until_it_has_tokens(http, "going")
        os.kill(server.by_title()[title], signal.SIGKILL)
        await going_on
        told = await story(http, "going")
        recovery = causes(told)["recovery"]
        assert recovery["seconds"] > 0.05
        assert "killed by signal 9" in recovery["words"]
        assert told["num_output_tokens"] == 150
        assert "preempted" not in causes(told)

    play(scene)


def test_stories_are_there_after_a_restart(tmp_path):
    async def write(http: httpx.AsyncClient, server: RunningServer) -> None:
        await complete(http, "kept", "river", 5)
        os.kill(server.pid, signal.SIGTERM)
        assert await asyncio.to_thread(server.wait_exit, 20.0) == 0

    async def read(http: httpx.AsyncClient, server: RunningServer) -> None:
        assert (await story(http, "kept"))["num_steps"] == 5

    for scene in (write, read):
        play(scene, "--data-dir", str(tmp_path))
