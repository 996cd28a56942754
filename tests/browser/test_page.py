"""The page in a browser: a headless Chromium from npm, which looks, clicks and types as people do, and axe, which judges it.

``drive.mjs`` plays the scenes; here is what they have to show. Skipped where npm does not give the browser.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.npm_packages import install_packages
from tests.processes.forced_calls import TEMPLATE
from tests.running_server import RunningServer

pytestmark = [pytest.mark.agents, pytest.mark.timeout(600)]

TIMEOUT_SECONDS = 300.0
FILES = Path(__file__).parent


class Browser:
    """Plays a scene at an address; ``trouble`` is all that it has complained of."""

    def __init__(self, packages: Path) -> None:
        self._script = packages / "drive.mjs"
        self._script.write_text((FILES / "drive.mjs").read_text())

    def play(self, scene: str, url: str, **options: object) -> dict[str, Any]:
        given = [f"{name}={value}" for name, value in options.items()]
        command = ["node", str(self._script), scene, f"{url}/", *given]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env={**os.environ, "LANG": "C"}
        )
        assert done.returncode == 0, done.stderr[-3000:]
        seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert seen.pop("trouble") == []
        return seen


@pytest.fixture(scope="module")
def browser() -> Browser:
    return Browser(install_packages(FILES, "browser"))


@pytest.fixture(scope="module")
def slow() -> Iterator[RunningServer]:
    """A server whose answers take some seconds, by two workers."""
    with RunningServer("--tensor-parallel-size", "2", "--fake-step-seconds", "0.02", "--max-model-len", "8192") as server:
        yield server


def topology(server: RunningServer) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/topology", timeout=30.0).json()
    return found


def test_a_link_lets_one_browser_in_and_a_key_the_others(browser: Browser):
    with RunningServer("--api-key", "secret") as server:
        found = re.search(r"Page: +(\S+)", server.log())
        assert found is not None
        seen = browser.play("way_in", server.url, link=found[1], key="secret")
    assert seen["address"] == f"{server.url}/"
    assert seen["cookies"] == [{"httpOnly": True, "sameSite": "Strict"}]
    assert "used before" in seen["used"]
    assert "none of the server's API keys" in seen["wrong"]


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("num_webs", [1, 2])
def test_every_process_part_thread_and_link_is_in_the_picture(browser: Browser, num_webs: int, num_workers: int):
    options = ["--tensor-parallel-size", str(num_workers), "--api-server-count", str(num_webs)]
    with RunningServer(*options) as server:
        told = topology(server)
        seen = browser.play("boxes", server.url)
    boxes = set(seen["boxes"])
    webs = {"Web"} if num_webs == 1 else {"Keeper", "Web_0", "Web_1"}
    names = {*webs, "EngineCore", *(f"Worker_{rank}" for rank in range(num_workers))}
    assert names == {process["name"] for process in told["processes"]} <= boxes
    for process in told["processes"]:
        assert {f"{process['name']}/{part['name']}" for part in process["parts"]} <= boxes
        own = {thread["name"] for thread in process["threads"] if not thread["is_library"]}
        assert {f"{process['name']}/thread {name}" for name in own} <= boxes
    assert all(f"{name}/task OutputQueueLoop" in boxes for name in webs - {"Keeper"})
    assert {link["name"] for link in told["links"]} == set(seen["lines"])
    engine = next(process for process in told["processes"] if process["name"] == "EngineCore")
    assert {thread["name"] for thread in engine["threads"]} == set(seen["threads"])


def test_answers_stream_side_by_side_and_are_the_same_again(browser: Browser, slow: RunningServer):
    seen = browser.play("chat", slow.url)
    assert "<img src=x onerror=alert(1)>" in seen["said"]
    assert seen["images"] == 0
    assert len(seen["verdicts"]) == 3
    assert all(verdict.startswith("the same, byte for byte") for verdict in seen["verdicts"])


def test_requests_are_seen_to_wait_run_and_end_without_asking(browser: Browser):
    with RunningServer("--max-num-seqs", "1", "--fake-step-seconds", "0.05") as server:
        seen = browser.play("list", server.url)
    assert [why.startswith(f"place {place}") for why, place in zip(seen["why"], (2, 1), strict=True)] == [True, True]
    assert all("all 1 places of a step are taken" in why for why in seen["why"])
    assert set(seen["asked"]) == {"/debug/requests"}, "what somebody chose alone"
    assert len(seen["asked"]) == 2


def test_a_request_is_ended_by_its_page(browser: Browser, slow: RunningServer):
    seen = browser.play("abort", slow.url)
    assert seen["cards"] == ["What its time went to", "Its steps", "What happened", "Send it again"]


def test_what_stands_beside_a_conversation_does_what_it_says(browser: Browser):
    template = TEMPLATE.replace("think>", "ponder>")  # calls of tools, and no thoughts
    with RunningServer("--chat-template", template, "--max-model-len", "4096") as server:
        seen = browser.play("controls", server.url)
    first, second, *calls = seen["sent"]
    regex = r"(yes|no), because [a-z ]{10,20}\."
    wanted = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "repetition_penalty": 1.1, "presence_penalty": 0.2,
        "frequency_penalty": 0.3, "seed": 7, "max_tokens": 60, "stop": ["@@"], "logprobs": True, "n": 1,
        "structured_outputs": {"regex": regex},
    }  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert first == second
    assert re.fullmatch(regex, seen["answers"][0])
    assert seen["answers"][0] == seen["answers"][1], "of one seed"
    assert len(seen["byMouse"]) >= 5, "what else might have stood there"
    assert seen["answers"][0][2] in seen["byMouse"]
    assert seen["answers"][0][0] in seen["byKeys"]
    assert "the tools are no JSON" in seen["wrong"]
    assert seen["calls"] == ["get_weather"]
    assert [call["tool_choice"] for call in calls] == ["required", "none"]
    assert calls[1]["messages"][-1]["role"] == "tool"
    assert calls[1]["messages"][-1]["content"] == "It rains."


def test_requests_of_before_are_there_when_the_server_was_started_again(browser: Browser, tmp_path: Path):
    flags = ("--data-dir", str(tmp_path))
    with RunningServer(*flags) as server, ThreadPoolExecutor(1) as apart:
        httpx.post(f"{server.url}/v1/completions", json={"prompt": "a"}, timeout=60.0).raise_for_status()
        playing = apart.submit(browser.play, "history", server.url, pid=server.process.pid)
        server.process.wait(TIMEOUT_SECONDS)
        with RunningServer(*flags, port=server.port):
            seen = playing.result(TIMEOUT_SECONDS)
    assert len(seen["before"]) == 1
    assert seen["after"] == seen["before"]


def test_a_worker_is_seen_to_die_and_the_answer_goes_on_to_the_same_last_byte(browser: Browser, slow: RunningServer):
    worker = next(process for process in topology(slow)["processes"] if process["name"] == "Worker_1")
    seen = browser.play("heal", slow.url, pid=worker["pid"])
    assert any(incident.startswith("Worker_1 · died") for incident in seen["incidents"])
    assert seen["verdicts"][0].startswith("the same, byte for byte")


def test_models_are_loaded_and_unloaded_by_their_buttons(browser: Browser, tmp_path: Path):
    tables = tmp_path / "models.toml"
    tables.write_text('[second]\nmodel = "fake"\n')
    with RunningServer("--models-file", str(tables)) as server:
        seen = browser.play("models", server.url)
    assert seen["before"] == ["unloaded", "unloaded"]
    assert {"Web", "EngineCore", "Worker_0"} <= set(seen["boxes"])
    assert "Talk to second" in seen["greeting"]
    assert seen["faults"] == []


def test_every_view_is_without_faults_narrow_and_wide_light_and_dark(browser: Browser, slow: RunningServer):
    assert browser.play("looks", slow.url)["found"] == []
