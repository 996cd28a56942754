"""Health, readiness, version, metrics, models and keys: what supervisors, scrapers and strangers see."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul import __version__
from yeoul.messages.outputs import StepFacts, StepOutputs, StepParts, WorkerInfo, WorkersLost, WorkersReplaced
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.operations import health
from yeoul.web_process.operations.metrics import Metrics


def test_a_ready_server_says_so():
    async def scene(server: FakeServer) -> None:
        for path in ("/health", "/ready"):
            assert (await server.http.get(path)).status_code == 200
            assert (await server.http.head(path)).status_code == 200
        assert (await server.http.get("/version")).json() == {"version": __version__}

    serve(scene)


def test_before_the_engine_is_ready_everything_is_503_with_retry_after():
    async def scene(server: FakeServer) -> None:
        for path in ("/health", "/ready"):
            answer = await server.http.get(path)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        for answer in (await server.complete(), await server.chat()):
            assert answer.status_code == 503
            assert "starting" in answer.json()["error"]["message"]
        assert (await server.http.get("/version")).status_code == 200
        assert (await server.http.get("/metrics")).status_code == 200

    serve(scene, starts_engine=False)


def test_a_draining_server_is_alive_but_not_ready():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        running = asyncio.create_task(server.complete())
        await until(lambda: bool(server.client.added))
        draining = asyncio.create_task(server.engine.llm.drain())
        await asyncio.sleep(0)
        assert (await server.http.get("/health")).status_code == 200
        assert (await server.http.get("/ready")).status_code == 503
        refused = await server.complete()
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        server.client.gate.set()
        assert (await running).json()["choices"][0]["text"] == "hello world"
        await draining

    serve(scene)


def test_a_server_that_recovers_is_neither_healthy_nor_ready_and_takes_requests():
    async def scene(server: FakeServer) -> None:
        server.client.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: server.engine.llm.state == "recovering")
        for path in ("/health", "/ready"):
            answer = await server.http.get(path)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "Worker_0 was killed by signal 9" in answer.json()["error"]["message"]
        assert (await server.complete()).status_code == 200
        metrics = (await server.http.get("/metrics")).text
        assert 'yeoul:engine_state{state="recovering"} 1.0' in metrics
        assert 'yeoul:process_deaths_total{cause="signal",role="Worker_0"} 1.0' in metrics
        server.client.emit(WorkersReplaced([WorkerInfo(0, 3, "cpu")], 1.5))
        await until(lambda: server.engine.llm.state == "ready")
        assert (await server.http.get("/health")).status_code == 200
        assert "yeoul:recovery_seconds_sum 1.5" in (await server.http.get("/metrics")).text

    serve(scene)


def test_a_token_is_made_for_who_asks_whether_one_can_be():
    async def scene(server: FakeServer) -> None:
        answer = await server.http.get("/health/generate")
        assert answer.status_code == 200
        assert answer.json()["seconds"] > 0
        assert server.client.added[0].sampling.max_tokens == 1

    serve(scene)


def test_where_no_token_comes_in_time_it_is_said(monkeypatch):
    monkeypatch.setattr(health, "_GENERATE_TIMEOUT_SECONDS", 0.1)

    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        answer = await server.http.get("/health/generate")
        assert answer.status_code == 503
        assert "no token was made within 0.1 s" in answer.json()["error"]["message"]
        assert server.engine.llm.num_unfinished == 0
        server.client.gate.set()

    serve(scene)


def test_the_times_from_token_to_token_are_a_histogram():
    llm = AsyncLLM(settings())
    llm.resolve()
    metrics = Metrics(FleetModel(llm))
    for seconds, num_tokens in ((0.0009, 1), (0.02, 4), (0.001, 1), (11.0, 1)):
        llm.token_gaps.add(seconds, num_tokens)
    lines = metrics.render().decode().splitlines()
    gap = "yeoul:inter_token_latency_seconds"
    assert f"# TYPE {gap} histogram" in lines
    assert f'{gap}_bucket{{le="0.001"}} 2.0' in lines
    assert f'{gap}_bucket{{le="0.01"}} 2.0' in lines
    assert f'{gap}_bucket{{le="0.02"}} 6.0' in lines
    assert f'{gap}_bucket{{le="10.0"}} 6.0' in lines
    assert f'{gap}_bucket{{le="+Inf"}} 7.0' in lines
    assert f"{gap}_count 7.0" in lines
    assert sum(float(line.split()[1]) for line in lines if line.startswith(f"{gap}_sum")) == pytest.approx(11.0819)


def test_what_steps_took_is_told_by_parts_without_the_wait_for_the_step_before():
    llm = AsyncLLM(settings())
    llm.resolve()
    metrics = Metrics(FleetModel(llm))
    parts = StepParts(schedule=0.5, behind=4.0, out=0.125, compute=2.0, sample=0.75, back=0.25, update=0.0625)
    metrics.stepped(StepOutputs(steps=[StepFacts(1, 1.0, 7.1875, 4, 2, 2, parts=parts)] * 2))
    lines = metrics.render().decode().splitlines()
    told = {part: f'yeoul:step_part_seconds_total{{part="{part}"}}' for part in ("schedule", "compute", "sample", "send")}
    for part, seconds in (("schedule", 1.125), ("compute", 4.0), ("sample", 1.5), ("send", 0.75)):
        assert f"{told[part]} {seconds}" in lines
    assert 'yeoul:step_duration_seconds_bucket{le="2.0"} 0.0' in lines
    assert 'yeoul:step_duration_seconds_bucket{le="5.0"} 2.0' in lines
    assert "yeoul:step_duration_seconds_sum 6.375" in lines


def test_metrics_count_what_happened():
    async def scene(server: FakeServer) -> None:
        await server.complete()
        await server.complete(max_tokens=3)
        text = (await server.http.get("/metrics")).text
        samples = {
            line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[:1] not in ("#", "")
        }
        assert samples['yeoul:request_success_total{finished_reason="stop"}'] == 1
        assert samples['yeoul:request_success_total{finished_reason="length"}'] == 1
        assert samples["yeoul:time_to_first_token_seconds_count"] == 2
        assert samples["yeoul:inter_token_latency_seconds_count"] == 11 + 2
        assert samples["yeoul:e2e_request_latency_seconds_count"] == 2
        assert samples["yeoul:request_queue_time_seconds_count"] == 2
        assert samples["yeoul:kv_cache_usage_ratio"] == 0.25
        for name in (
            "num_requests_running", "num_requests_waiting", "prompt_tokens_total", "generation_tokens_total",
            "num_preemptions_total", "prefix_cache_queries_total", "prefix_cache_hits_total", "engine_steps_total",
        ):  # fmt: skip
            assert f"yeoul:{name}" in samples

    serve(scene)


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", "Basic first", "first", "Bearer first extra", "Bearer é"]
)
def test_without_a_known_key_there_is_no_answer(given):
    async def scene(server: FakeServer) -> None:
        headers = {} if given is None else {"authorization": given.encode()}
        for path in ("/v1/models", "/docs", "/openapi.json", "/metrics", "/version", "/health/generate", "/nothing"):
            answer = await server.http.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
        for path in ("/health", "/ready"):
            assert (await server.http.get(path)).status_code == 200

    serve(scene, settings(api_key=["first", "second"]))


def test_each_key_has_a_prefix_cache_of_its_own():
    async def scene(server: FakeServer) -> None:
        for key in ("first", "second", "first"):
            answer = await server.http.post(
                "/v1/completions", json={"prompt": "hi"}, headers={"authorization": f"bearer {key}"}
            )
            assert answer.status_code == 200
        first, second, again = (add.cache_salt for add in server.client.added)
        assert first == again != second
        assert "first" not in first
        await server.openai.completions.create(model="fake", prompt="hi", extra_body={"cache_salt": "mine"})
        assert server.client.added[-1].cache_salt == f"{first}:mine"

    serve(scene, settings(api_key=["first", "second"]))


def test_the_routes_are_documented():
    async def scene(server: FakeServer) -> None:
        document = (await server.http.get("/openapi.json")).json()
        paths, schemas = document["paths"], document["components"]["schemas"]
        body = paths["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert "messages" in schemas[body["$ref"].removeprefix("#/components/schemas/")]["properties"]
        assert "openapi.json" in (await server.http.get("/docs")).text
        assert {"/v1/completions", "/v1/models", "/health", "/metrics", "/tokenize", "/detokenize"} <= set(paths)

    serve(scene)
