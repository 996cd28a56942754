"""Three models on one port with room for two: each route finds its model, models come and go, and a death is one model's."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.patience import until
from tests.running_server import RunningServer
from tests.unit.model_files.gguf_bytes import tiny_model

NAMES = ("fake", "second", "third")
HI: list[Any] = [{"role": "user", "content": "hi"}]
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": "hi", "max_tokens": 2}),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 2}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 2}),
    ("/v1/messages", {"messages": HI, "max_tokens": 2}),
    ("/v1/embeddings", {"input": "hi"}),
    ("/v1/completions/render", {"prompt": "hi"}),
    ("/v1/chat/completions/render", {"messages": HI}),
    ("/api/chat", {"messages": HI, "stream": False, "options": {"num_predict": 2}}),
    ("/api/generate", {"prompt": "hi", "stream": False, "options": {"num_predict": 2}}),
    ("/api/embed", {"input": "hi"}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tmp_path_factory.mktemp("models") / "models.toml"
    path.write_text('[second]\nmodel = "fake"\nseed = 7\n[third]\nmodel = "fake"\nmax-model-len = 256\n')
    arguments = ("--models-file", str(path), "--models-max", "2", "--model-turn-seconds", "0.1", "--allow-kill")
    with RunningServer(*arguments, "--fake-step-seconds", "0.01") as running:
        yield running


def statuses(server: RunningServer) -> dict[str, str]:
    return {one["id"]: one["status"]["value"] for one in httpx.get(f"{server.url}/models").json()["data"]}


def wait_for(server: RunningServer, name: str, status: str) -> None:
    assert until(lambda: statuses(server)[name] == status, 60)


def order(server: RunningServer, what: str, name: str) -> None:
    answer = httpx.post(f"{server.url}/models/{what}", json={"model": name})
    assert answer.json() == {"success": True}, answer.text


@pytest.mark.parametrize(("path", "body"), ROUTES, ids=[path for path, _ in ROUTES])
def test_every_route_finds_its_model_and_tells_what_there_is_for_another_name(
    server: RunningServer, path: str, body: dict[str, Any]
) -> None:
    answer = httpx.post(server.url + path, json={**body, "model": "second"}, timeout=60)
    assert answer.status_code == 200, answer.text
    shown = answer.json()[0] if isinstance(answer.json(), list) else answer.json()
    assert shown["model"] == "second"
    stranger = httpx.post(server.url + path, json={**body, "model": "fourth"}, timeout=60)
    assert stranger.status_code == 404
    assert "fake, second, third" in stranger.text


def test_tokens_are_counted_by_the_model_that_is_named(server: RunningServer) -> None:
    answers = {
        name: httpx.post(f"{server.url}/tokenize", json={"model": name, "prompt": "hi"}, timeout=60).json() for name in NAMES
    }
    assert answers["third"]["max_model_len"] == 256
    assert answers["fake"]["max_model_len"] > 256
    assert httpx.post(f"{server.url}/tokenize", json={"prompt": "hi"}).status_code == 400


def test_models_are_loaded_and_unloaded_by_order_and_the_one_used_longest_ago_makes_room(server: RunningServer) -> None:
    for name in NAMES[:2]:
        if statuses(server)[name] != "loaded":
            order(server, "load", name)
        wait_for(server, name, "loaded")
    order(server, "load", "third")
    wait_for(server, "third", "loaded")
    assert sorted(statuses(server).values()) == ["loaded", "loaded", "unloaded"]
    refused = httpx.post(f"{server.url}/models/load", json={"model": "third"})
    assert refused.status_code == 400
    assert "is loaded already" in refused.text
    order(server, "unload", "third")
    wait_for(server, "third", "unloaded")
    probe = httpx.get(f"{server.url}/health/generate", params={"model": "third"})
    assert (probe.status_code, probe.json()) == (200, {"seconds": None, "status": "unloaded"})
    assert httpx.get(f"{server.url}/health/generate").json()["seconds"] > 0
    about = httpx.get(f"{server.url}/server_info", params={"model": "third"}).json()
    assert (about["status"], about["max_model_len"], about["devices"]) == ("sleeping", 256, [])
    assert statuses(server)["third"] == "unloaded"
    assert [one["name"] for one in httpx.get(f"{server.url}/api/ps").json()["models"]] != []
    assert "third:latest" not in [one["name"] for one in httpx.get(f"{server.url}/api/ps").json()["models"]]
    assert len(httpx.get(f"{server.url}/api/tags").json()["models"]) == len(NAMES)


def test_who_watches_is_told_of_a_model_that_comes_and_goes(server: RunningServer) -> None:
    if statuses(server)["third"] != "unloaded":
        order(server, "unload", "third")
        wait_for(server, "third", "unloaded")
    told: list[dict[str, Any]] = []
    with httpx.stream("GET", f"{server.url}/models/sse", timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        order(server, "load", "third")
        for line in answer.iter_lines():
            if line:
                told.append(json.loads(line.removeprefix("data: ")))
            if [one["data"] for one in told if one["model"] == "third"][-1:] == [{"status": "loaded"}]:
                break
    assert [one["data"]["status"] for one in told if one["model"] == "third"] == ["loading", "loaded"]
    assert {one["event"] for one in told} == {"model_status"}


def test_the_models_of_a_folder_are_served_by_its_names_and_what_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "half.gguf").write_bytes(bytes(64))
    for name in ("one.gguf", "two/any.gguf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(tiny_model().build())
    with RunningServer("--models-dir", str(tmp_path)) as server:
        assert statuses(server) == {"fake": "unloaded", "one": "unloaded", "two": "unloaded"}
        assert "WARNING Web" in server.log()
        assert "the model half is left out, since it cannot be used" in server.log()


@pytest.mark.long
def test_a_crowd_of_all_models_is_answered_whole(server: RunningServer) -> None:
    def ask(index: int) -> str:
        body = {"model": NAMES[index % 3], "prompt": "hi", "max_tokens": 4, "seed": 1, "ignore_eos": True}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == NAMES[index % 3]
        return str(answer.json()["choices"][0]["text"])

    with ThreadPoolExecutor(12) as pool:
        assert len(set(pool.map(ask, range(60)))) == 1


@pytest.mark.parametrize("victim", ["EngineCore", pytest.param("Worker_0", marks=pytest.mark.long)])
def test_a_killed_engine_is_one_models_and_its_stream_goes_on_with_the_same_text(server: RunningServer, victim: str) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120)

    def stream(name: str, begun: threading.Event | None = None) -> str:
        text = ""
        events = client.completions.create(
            model=name, prompt="hi", max_tokens=60, seed=3, stream=True, extra_body={"ignore_eos": True}
        )
        for event in events:
            text += event.choices[0].text
            if begun is not None and len(text) > 5:
                begun.set()
        return text

    whole = {name: stream(name) for name in NAMES[:2]}
    assert (statuses(server)["fake"], statuses(server)["second"]) == ("loaded", "loaded")
    pids = {name: pid_of(server, name, victim) for name in NAMES[:2]}
    begun = [threading.Event() for _ in NAMES[:2]]
    with ThreadPoolExecutor(2) as pool:
        streams = [pool.submit(stream, name, one) for name, one in zip(NAMES[:2], begun, strict=True)]
        assert all(one.wait(60) for one in begun)
        os.kill(pids["fake"], signal.SIGKILL)
        assert [one.result() for one in streams] == [whole["fake"], whole["second"]]
    assert pid_of(server, "second", victim) == pids["second"]
    assert pid_of(server, "fake", victim) != pids["fake"]


def pid_of(server: RunningServer, name: str, process: str) -> int:
    processes = httpx.get(f"{server.url}/topology", params={"model": name}).json()["processes"]
    return next(int(one["pid"]) for one in processes if one["name"] == process)


@pytest.mark.long
def test_an_engine_that_is_given_up_ends_nothing_but_its_requests_and_who_waits_is_told_its_place(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[second]\nmodel = "fake"\n')
    flags = ("--models-file", str(path), "--models-max", "1", "--max-restarts", "0", "--queue-notice-seconds", "0.05")
    with RunningServer(*flags, "--fake-step-seconds", "0.02", "--model-turn-seconds", "0.1") as server:
        body = {"prompt": "hi", "max_tokens": 100, "ignore_eos": True, "stream": True}

        def stream(name: str) -> str:
            headers = {"accept": "text/event-stream"}
            return httpx.post(f"{server.url}/v1/completions", json={**body, "model": name}, headers=headers, timeout=120).text

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(stream, "fake")
            assert until(lambda: statuses(server)["fake"] == "loaded", 60)
            behind = pool.submit(stream, "second")
            assert behind.result().startswith(": queued place=1\n")
            assert all(one.result().endswith("data: [DONE]\n\n") for one in (first, behind))
            lost = pool.submit(stream, "second")
            assert until(lambda: httpx.get(f"{server.url}/load").json()["server_load"] == 1, 60)
            os.kill(pid_of(server, "second", "EngineCore"), signal.SIGKILL)
            assert '"error"' in lost.result()
        wait_for(server, "second", "unloaded")
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert stream("fake").endswith("data: [DONE]\n\n")
        assert stream("second").endswith("data: [DONE]\n\n")


def test_metrics_have_the_name_of_their_model_and_a_strange_name_is_told(server: RunningServer) -> None:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    for name in NAMES:
        assert any(line.startswith(f'vllm:num_requests_running{{engine="0",model_name="{name}"}}') for line in lines)
        assert any(line.startswith("yeoul:generation_tokens_total") and f'model_name="{name}"' in line for line in lines)
    assert sum(line.startswith("# TYPE yeoul:num_requests_running ") for line in lines) == 1
    assert sum(line.startswith("yeoul:http_connections") for line in lines) == 1
    asked = {
        name: httpx.get(f"{server.url}/topology", params={"model": name}).status_code for name in ("third", "", "fourth")
    }
    assert asked == {"third": 200, "": 400, "fourth": 404}


def test_ollamas_clients_say_how_long_a_model_stays(server: RunningServer) -> None:
    def ask(**fields: Any) -> httpx.Response:
        return httpx.post(f"{server.url}/api/generate", json={"model": "third", "stream": False, **fields}, timeout=60)

    assert ask().json()["done_reason"] == "load"
    assert statuses(server)["third"] == "loaded"
    assert ask(prompt="hi", keep_alive="1h", options={"num_predict": 1}).json()["done"]
    (entry,) = [one for one in httpx.get(f"{server.url}/api/ps").json()["models"] if one["name"] == "third:latest"]
    assert not entry["expires_at"].startswith("2318")
    assert ask(keep_alive="soon").status_code == 400
    assert ask(keep_alive=0).json()["done_reason"] == "unload"
    wait_for(server, "third", "unloaded")
    assert ask(prompt="hi", keep_alive=0, options={"num_predict": 1}).json()["done"]
    wait_for(server, "third", "unloaded")
