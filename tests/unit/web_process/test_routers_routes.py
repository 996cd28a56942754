"""What routers and clouds ask: vLLM's names of metrics, loads, who serves, prompts that are only rendered."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.messages.kv_events import KVEventSource

HI: list[Any] = [{"role": "user", "content": "hi"}]
# What routers and autoscalers read (docs/routers.md).
NAMES = {
    "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info", "lora_requests_info",
    "engine_sleep_state", "num_preemptions", "prompt_tokens", "generation_tokens", "prefix_cache_queries",
    "prefix_cache_hits", "request_success", "time_to_first_token_seconds", "inter_token_latency_seconds",
    "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
    "request_decode_time_seconds", "request_inference_time_seconds", "request_prompt_tokens", "request_generation_tokens",
    "external_prefix_cache_queries", "external_prefix_cache_hits",
}  # fmt: skip


def test_metrics_have_the_names_and_labels_of_vllm_and_the_numbers_of_ours():
    async def scene(server: FakeServer) -> None:
        assert (await server.chat(max_tokens=3)).status_code == 200
        families = list(text_string_to_metric_families((await server.http.get("/metrics")).text))
        assert len({family.name for family in families}) == len(families)
        theirs = {family.name.removeprefix("vllm:"): family for family in families if family.name.startswith("vllm:")}
        ours = {family.name.removeprefix("yeoul:"): family for family in families if family.name.startswith("yeoul:")}
        assert set(theirs) == NAMES
        for name, family in theirs.items():
            if name != "lora_requests_info":
                for sample in family.samples:
                    assert (sample.labels["model_name"], sample.labels["engine"]) == ("one", "0")
            if name in ours:
                assert family.type == ours[name].type
                values = [sample.value for sample in ours[name].samples if not sample.name.endswith("_created")]
                assert [sample.value for sample in family.samples] == values
        (config,) = theirs["cache_config_info"].samples
        assert (config.labels["block_size"], config.labels["num_gpu_blocks"]) == ("16", "64")
        counts = [sample for sample in theirs["request_decode_time_seconds"].samples if sample.name.endswith("_count")]
        assert [sample.value for sample in counts] == [1.0]

    serve(scene, settings(served_model_name=["one", "two"]))


def test_loads_tell_what_runs_and_what_waits():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        running = asyncio.create_task(server.complete())
        await until(lambda: bool(server.client.added))
        assert (await server.http.get("/load")).json() == {"server_load": 1}
        server.client.gate.set()
        await running
        (entry,) = (await server.http.get("/v1/loads?include=core,queues")).json()["loads"]
        assert entry["max_total_num_tokens"] == 64 * 16
        assert entry["num_used_tokens"] == 16 * 16
        assert entry["token_usage"] == 0.25
        assert (await server.http.get("/loads?model=fake")).json()["loads"] == [entry]
        (old,) = (await server.http.get("/get_load")).json()
        assert old["num_reqs"] == entry["num_running_reqs"] + entry["num_waiting_reqs"]

    serve(scene)


def test_a_server_tells_what_it_serves_and_no_secret():
    async def scene(server: FakeServer) -> None:
        key = {"authorization": "Bearer secret"}
        for path in ("/server_info", "/get_server_info"):
            info = await server.http.get(path, headers=key)
            assert info.json()["served_model_name"] == "fake"
            assert info.json()["max_model_len"] == 256
            assert "secret" not in info.text
            assert (await server.http.get(path)).status_code == 401
        assert (await server.http.get("/model_info", headers=key)).json()["is_generation"] is True
        tokenizer = (await server.http.get("/tokenizer_info", headers=key)).json()
        assert tokenizer["eos_token"] == "<eos>"
        assert tokenizer["eos_tokens"] == ["<eos>"]
        assert "{% for message" in tokenizer["chat_template"]

    serve(scene, settings(api_key=["secret"]))


def test_kv_event_sources_are_those_that_the_engine_has_opened_or_a_404():
    source = KVEventSource(endpoint="tcp://*:5557", replay_endpoint=None, topic="t", buffer_steps=1, hwm=2)

    async def scene(server: FakeServer) -> None:
        answer = await server.http.get("/kv_event_sources")
        assert answer.status_code == 404
        assert "--kv-events-config" in answer.json()["error"]["message"]
        assert server.client.ready is not None
        server.client.ready = msgspec.structs.replace(server.client.ready, kv_events=source)
        assert (await server.http.get("/kv_event_sources")).json() == {
            "0": {
                **msgspec.structs.asdict(source), "publisher": "zmq", "encoding": "msgpack", "schema_version": 1,
                "enable_kv_cache_events": True,
            }
        }  # fmt: skip

    serve(scene)


def test_ping_and_live_need_no_key_and_know_what_a_start_is():
    async def ready(server: FakeServer) -> None:
        for path in ("/ping", "/live"):
            assert (await server.http.get(path)).status_code == 200

    async def starting(server: FakeServer) -> None:
        assert (await server.http.get("/ping")).status_code == 503
        assert (await server.http.get("/live")).status_code == 200
        assert (await server.http.get("/load")).status_code == 200

    serve(ready, settings(api_key=["secret"]))
    serve(starting, starts_engine=False)


def test_a_rendered_request_has_the_tokens_that_it_would_be_computed_with(lasting):
    async def scene(server: FakeServer) -> None:
        rendered = (await server.http.post("/v1/chat/completions/render", json={"messages": HI, "temperature": 0.5})).json()
        assert server.client.added == []
        await server.chat()
        assert rendered["token_ids"] == server.client.added[-1].prompt_token_ids
        assert rendered["sampling_params"]["temperature"] == 0.5
        assert rendered["model"] == "fake"
        tokens = (await server.http.post("/tokenize", json={"model": "fake", "messages": HI})).json()["tokens"]
        assert tokens == rendered["token_ids"]
        several = (await server.http.post("/v1/completions/render", json={"prompt": ["ab", "c"]})).json()
        assert [entry["token_ids"][-2:] for entry in several] == [[*b"ab"], [256, *b"c"]]
        cut = {"prompt": "abcdef", "truncate_prompt_tokens": 2}
        (entry,) = (await server.http.post("/v1/completions/render", json=cut)).json()
        assert entry["token_ids"] == [ord("e"), ord("f")]
        text = (await server.http.post("/apply-template", json={"messages": HI})).json()
        assert text == {"prompt": "[user] hi\n[assistant]"}
        counted = (await server.http.post("/v1/chat/completions/input_tokens", json={"messages": HI})).json()
        assert counted == {"object": "response.input_tokens", "input_tokens": len(rendered["token_ids"])}

    lasting.play(scene)


@pytest.mark.parametrize("path", ["/v1/chat/completions/render", "/v1/chat/completions/input_tokens", "/apply-template"])
def test_what_would_be_refused_is_not_rendered(lasting, path):
    async def scene(server: FakeServer) -> None:
        wrong: list[dict[str, Any]] = [
            {"messages": []},
            {"messages": HI, "temperature": -1},
            {"messages": HI, "model": "other"},
            {"messages": HI, "documents": [{"text": "x"}]},
            {"messages": HI, "tools": [{"type": "function", "function": {"name": "f"}}]},
        ]
        for fields in wrong:
            rendered = await server.http.post(path, json=fields)
            answered = await server.http.post("/v1/chat/completions", json=fields)
            assert rendered.status_code in (400, 404)
            assert rendered.json() == answered.json()
        without_effect = {"messages": HI, "chat_template_kwargs": {"mood": "high"}}
        rendered = await server.http.post(path, json=without_effect)
        assert rendered.headers["yeoul-ignored-fields"] == "chat_template_kwargs.mood"

    lasting.play(scene)
