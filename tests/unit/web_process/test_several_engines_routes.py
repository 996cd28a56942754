"""What a server with several engines tells of each, and of all of them together."""

from __future__ import annotations

import asyncio

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.config.settings import ParallelSettings
from yeoul.messages.kv_events import KVEventSource
from yeoul.messages.topology import EngineReport, Process

SEVERAL = msgspec.structs.replace(settings(), parallel=ParallelSettings(data_parallel_size=2))


def samples(text: str) -> dict[str, dict[str, float]]:
    """By name, then by engine; "" where there is no such label."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[sample.labels.get("engine", "")] = sample.value
    return found


def test_health_is_well_while_one_engine_computes_and_says_which_one_does_not():
    async def scene(server: FakeServer) -> None:
        one, other = server.engine.clients
        answer = await server.http.get("/health")
        assert answer.status_code == 200
        assert [(one["name"], one["state"], one["cause"]) for one in answer.json()["engines"]] == [
            ("EngineCore_0", "ready", None),
            ("EngineCore_1", "ready", None),
        ]
        one.die()
        await until(lambda: server.engine.llm.engines.slots[0].state == "dead")
        answer = await server.http.get("/health")
        assert answer.status_code == (await server.http.get("/ready")).status_code == 200
        told = answer.json()["engines"][0]
        assert (told["name"], told["state"]) == ("EngineCore_0", "dead")
        assert "SIGKILL" in told["cause"]
        other.die()
        await until(lambda: server.engine.llm.engines.slots[1].state == "dead")
        assert (await server.http.get("/health")).status_code == 500

    serve(scene, SEVERAL)


def test_health_says_which_engines_compute_prompts_where_some_do_nothing_else():
    async def ask(server: FakeServer) -> None:
        told.append([one.get("role") for one in (await server.http.get("/health")).json()["engines"]])

    told: list[list[str | None]] = []
    for num_prefill_engines in (0, 1):
        parallel = ParallelSettings(data_parallel_size=3, num_prefill_engines=num_prefill_engines)
        serve(ask, msgspec.structs.replace(settings(), parallel=parallel))
    assert told == [[None] * 3, ["prefill", "decode", "decode"]]


def test_numbers_are_added_up_and_told_of_each_engine():
    async def scene(server: FakeServer) -> None:
        for client in server.engine.clients:
            client.gate.clear()
        body = {"model": "fake", "prompt": "hi", "max_tokens": 4}
        asking = [asyncio.create_task(server.http.post("/v1/completions", json=body)) for _ in range(4)]
        await until(lambda: [len(client.added) for client in server.engine.clients] == [2, 2])
        listed = (await server.http.get("/debug/requests")).json()["data"]
        assert sorted(one["engine"] for one in listed) == ["EngineCore_0"] * 2 + ["EngineCore_1"] * 2
        for client in server.engine.clients:
            client.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
        told = samples((await server.http.get("/metrics")).text)
        assert told["yeoul:num_kv_cache_blocks"] == {"": 128}
        assert told["yeoul:max_requests_running"] == {"": 512}
        assert told["yeoul:each_engine_up"] == {"0": 1, "1": 1}
        assert told["yeoul:each_engine_num_requests"] == {"0": 0, "1": 0}
        loads = (await server.http.get("/v1/loads")).json()
        assert loads["dp_rank_count"] == 2
        assert [entry["dp_rank"] for entry in loads["loads"]] == [0, 1]
        assert len((await server.http.get("/get_load")).json()) == 2
        info = (await server.http.get("/server_info")).json()
        assert (info["dp_size"], info["max_running_requests"]) == (2, 512)
        listed = (await server.http.get("/debug/requests")).json()["data"]
        assert {one["engine"] for one in listed} == {"EngineCore_0", "EngineCore_1"}

    serve(scene, SEVERAL)


def test_routers_find_the_events_of_each_engine_that_is_not_given_up():
    async def scene(server: FakeServer) -> None:
        for number, client in enumerate(server.engine.clients):
            source = KVEventSource(
                endpoint=f"tcp://*:{5557 + number}", replay_endpoint=None, topic="t", buffer_steps=1, hwm=2
            )
            assert client.ready is not None
            client.ready = msgspec.structs.replace(client.ready, kv_events=source)
        told = (await server.http.get("/kv_event_sources")).json()
        assert {number: one["endpoint"] for number, one in told.items()} == {"0": "tcp://*:5557", "1": "tcp://*:5558"}
        server.engine.clients[0].die()
        await until(lambda: server.engine.llm.engines.slots[0].state == "dead")
        assert list((await server.http.get("/kv_event_sources")).json()) == ["1"]

    serve(scene, SEVERAL)


def test_one_engine_tells_nothing_of_others():
    async def scene(server: FakeServer) -> None:
        await server.http.post("/v1/completions", json={"model": "fake", "prompt": "hi", "max_tokens": 4})
        assert (await server.http.get("/health")).content == b""
        assert "each_engine" not in (await server.http.get("/metrics")).text
        (listed,) = (await server.http.get("/debug/requests")).json()["data"]
        assert "engine" not in listed

    serve(scene)


def test_the_hierarchy_has_all_engines_and_questions_find_theirs():
    async def scene(server: FakeServer) -> None:
        for number, client in enumerate(server.engine.clients):
            client.report = EngineReport(clock=0.0, processes=[
                process(client.name, "Web"), process(f"Worker_{number}", client.name),
            ])  # fmt: skip
        topology = (await server.http.get("/topology")).json()
        assert [one["name"] for one in topology["processes"]] == [
            "Web", "EngineCore_0", "Worker_0", "EngineCore_1", "Worker_1",
        ]  # fmt: skip
        assert topology["processes"][3]["threads"] == []
        for name in ("EngineCore_1", "Worker_1"):
            answer = await server.http.get(f"/debug/stack/{name}")
            assert answer.status_code == 503
            assert "EngineCore_1 is being started" in answer.text
        assert (await server.http.get("/debug/stack/EngineCore")).status_code == 404
        assert (await server.http.get("/debug/stack/Worker_2")).status_code == 404

    serve(scene, SEVERAL)


def process(name: str, parent: str) -> Process:
    return Process(name=name, title=f"yeoul::{name}", parent=parent, state="running", since=0.0)
