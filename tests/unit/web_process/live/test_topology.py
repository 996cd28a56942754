"""``/topology``: what is true while all is well, while something is missing, and between two looks."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import msgspec

import yeoul
from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.engines.incidents import IncidentLog
from yeoul.messages.outputs import WorkerInfo, WorkersLost, WorkersReplaced
from yeoul.messages.topology import EngineNow, EngineReport, Link, Part, Process, Thread, Topology
from yeoul.web_process.live.topology import topology_watch
from yeoul.web_process.live.topology.doings import tell_doings
from yeoul.web_process.live.topology.known_names import KERNEL_NAME_LENGTH, THREADS
from yeoul.web_process.live.topology.rates import Rates


def thread(name: str, tid: int = 5, state: str = "sleeping", cpu_seconds: float = 0.0) -> Thread:
    return Thread(name=name, tid=tid, state=state, cpu_seconds=cpu_seconds, is_main=tid == 4)


def process(name: str, **fields: Any) -> Process:
    return Process(**{"name": name, "title": f"yeoul::{name}", "pid": 4, "state": "running", "since": 1.0, **fields})


def report(clock: float = 1.0, cpu_seconds: float = 0.0, **fields: Any) -> EngineReport:
    core = process("EngineCore", pid=10, parent="Web", cpu_seconds=cpu_seconds, started=time.time() - 1e8)
    worker = process("Worker_0", pid=11, parent="EngineCore", parts=[Part(name="WorkerProc")])
    return EngineReport(clock=clock, **{"processes": [core, worker], **fields})


async def look(server: FakeServer) -> Topology:
    answer = await server.http.get("/topology")
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Topology)


def by_name(topology: Topology) -> dict[str, Process]:
    return {one.name: one for one in topology.processes}


def test_a_running_system_is_told_whole():
    async def scene(server: FakeServer) -> None:
        engine = EngineNow(step_number=7, step_num_requests=2, step_num_tokens=9, is_computing=True, step_seconds=0.25)
        requests = Link(name="requests", kind="zmq", source="Web/AsyncMPClient", target="EngineCore/x", messages=3)
        server.client.report = report(engine=engine, links=[requests])
        await server.complete()
        topology = await look(server)
        assert topology.is_ready
        assert [one.name for one in topology.processes] == ["Web", "EngineCore", "Worker_0"]
        web, core, worker = topology.processes
        assert (web.state, web.parent, web.doing) == ("running", None, "waits for requests")
        assert [(part.name, part.inside) for part in web.parts][-1] == ("AsyncMPClient", "AsyncLLM")
        assert web.threads[0].is_main
        assert web.threads[0].name == "asyncio loop"
        tasks = {task.name: task for task in web.tasks}
        assert tasks["OutputQueueLoop"].part == "AsyncMPClient"
        assert tasks["uvicorn"].state == "waiting"
        assert core.doing == "waits for step 7: 2 requests, 9 tokens"
        assert worker.doing == "computes step 7: 2 requests, 9 tokens"
        assert [link.name for link in topology.links] == ["calls", "requests"]
        assert topology.engine.kv_usage == 0.25
        assert topology.engine.kv_tier_usage is None
        assert topology.engine.step_seconds == 0.25
        assert topology.incidents == []

    serve(scene)


def test_before_the_engine_is_there_the_web_process_is_told_alone():
    async def scene(server: FakeServer) -> None:
        topology = await look(server)
        assert not topology.is_ready
        (web,) = topology.processes
        assert (web.name, web.state, web.doing) == ("Web", "starting", "waits for the engine")

    serve(scene, starts_engine=False)


def test_it_is_behind_the_key():
    async def scene(server: FakeServer) -> None:
        assert (await server.http.get("/topology")).status_code == 401
        keyed = await server.http.get("/topology", headers={"x-api-key": "secret"})
        assert keyed.status_code == 200

    serve(scene, settings(api_key=["secret"]))


def test_who_is_gone_is_dead_since_it_was_missed_until_another_takes_its_place(monkeypatch):
    monkeypatch.setattr(topology_watch, "_FRESH_SECONDS", 0.0)

    async def scene(server: FakeServer) -> None:
        server.client.report = report()
        await look(server)
        server.client.report = EngineReport(clock=2.0)
        missed = by_name(await look(server))
        for name, pid in (("EngineCore", 10), ("Worker_0", 11)):
            assert (missed[name].state, missed[name].pid, missed[name].doing) == ("dead", pid, "is dead")
        again = by_name(await look(server))
        assert again["Worker_0"].since == missed["Worker_0"].since
        server.client.report = EngineReport(clock=3.0, processes=[process("EngineCore", pid=20, state="starting")])
        starting = by_name(await look(server))
        assert (starting["EngineCore"].pid, starting["EngineCore"].doing) == (20, "starts its workers")
        assert starting["Worker_0"].state == "dead"

    serve(scene)


def test_what_happens_to_workers_is_told_at_once_and_counted():
    async def scene(server: FakeServer) -> None:
        server.client.report = report()
        heard: list[str] = []
        server.engine.llm.engines.incidents.listeners.append(lambda incident: heard.append(incident.kind))
        assert (await look(server)).incidents == []
        server.client.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: heard == ["death"])
        topology = await look(server)
        assert not topology.is_ready
        assert [(one.process, one.kind, one.words) for one in topology.incidents] == [
            ("Worker_0", "death", "was killed by signal 9 (SIGKILL)")
        ]
        server.client.emit(WorkersReplaced([WorkerInfo(0, 3, "cpu")], 1.5))
        await until(lambda: len(heard) == 3)
        topology = await look(server)
        assert topology.is_ready
        assert [one.kind for one in topology.incidents] == ["death", "restart", "recovery"]
        assert topology.incidents[-1].seconds == 1.5
        assert {name: one.num_restarts for name, one in by_name(topology).items()} == {
            "Web": 0, "EngineCore": 0, "Worker_0": 1,
        }  # fmt: skip

    serve(scene)


def test_many_who_look_at_once_cost_one_look(monkeypatch):
    async def scene(server: FakeServer) -> None:
        looks: list[int] = []
        whole_look = server.client.look

        async def counted() -> EngineReport:
            looks.append(1)
            return await whole_look()

        monkeypatch.setattr(server.client, "look", counted)
        answers = {(await server.http.get("/topology")).content for _ in range(3)}
        assert len(answers) == len(looks) == 1

    monkeypatch.setattr(topology_watch, "_FRESH_SECONDS", 60.0)
    serve(scene)


def test_shares_and_rates_are_of_what_was_added_since_the_last_look(monkeypatch):
    monkeypatch.setattr(topology_watch, "_FRESH_SECONDS", 0.0)

    async def scene(server: FakeServer) -> None:
        server.client.report = report(clock=10.0, cpu_seconds=5e7)
        assert by_name(await look(server))["EngineCore"].cpu_share == 0.5  # of its whole life
        server.client.report = report(clock=12.0, cpu_seconds=5e7 + 0.5)
        assert by_name(await look(server))["EngineCore"].cpu_share == 0.25
        server.client.report = report(clock=12.1, cpu_seconds=5e7 + 0.6)
        assert by_name(await look(server))["EngineCore"].cpu_share == 0.25  # too soon to tell

    serve(scene)


def test_a_rate_is_of_one_counter_and_who_was_not_seen_is_forgotten():
    rates = Rates()
    seen = []
    for clock, value in ((0.0, 0.0), (1.0, 10.0), (1.1, 11.0), (2.0, 10.0)):
        rates.begin()
        seen.append(rates.rates_of("a", clock, {"x": value})["x"])
        rates.end()
    assert seen == [None, 10.0, 10.0, 0.0]
    rates.begin()
    rates.end()
    rates.begin()
    assert rates.rates_of("a", 3.0, {"x": 20.0}) == {"x": None}


def test_a_counter_that_is_new_beside_others_has_no_rate_yet():
    rates = Rates()
    for clock, values in ((0.0, {"x": 1.0}), (2.0, {"x": 5.0, "y": 9.0}), (2.1, {"x": 6.0, "z": 1.0})):
        rates.begin()
        seen = rates.rates_of("a", clock, values)
        rates.end()
        if clock == 2.0:
            assert seen == {"x": 2.0, "y": None}
    assert seen == {"x": 2.0, "z": None}, "too soon to tell"


def test_the_last_hundred_incidents_are_kept():
    log = IncidentLog()
    for number in range(120):
        log.note("Worker_0", "restart", str(number), 0.12345)
    assert [one.words for one in log.last] == [str(number) for number in range(20, 120)]
    assert log.last[0].seconds == 0.123
    assert log.num_restarts["Worker_0"] == 120


def test_threads_have_whole_names_and_what_a_library_started_is_told_apart():
    core = process("EngineCore", threads=[
        thread("yeoul::EngineCo", 4), thread("process_input_s"), thread("ZMQbg/IO/0"), thread("yeoul::EngineCo", 6),
    ])  # fmt: skip
    worker = process("Worker_1", threads=[
        thread("yeoul::Worker_1", 4, "stopped"), thread("yeoul::Worker_1", 6, "running"), thread("Worker_1 omp 1"),
    ])  # fmt: skip
    tell_doings([core, worker], {}, 0)
    assert [(one.name, one.is_library, one.part, one.doing) for one in core.threads] == [
        ("run_busy_loop", False, "EngineCoreProc", "waits for requests"),
        ("process_input_sockets", False, "EngineCoreProc", "waits for what the web process says"),
        ("ZMQbg/IO/0", True, None, "carries ZeroMQ's messages"),
        ("unnamed", True, None, "waits"),
    ]
    assert [(one.name, one.doing) for one in worker.threads] == [
        ("WorkerProc.run", "is stopped"),
        ("unnamed", "computes"),
        ("Worker_1 omp 1", "waits"),
    ]
    assert worker.doing == "is stopped by a signal"


def test_every_thread_that_the_sources_start_is_known():
    named = re.compile(r'(?:start_thread\(\s*|setthreadtitle\(|set_thread_name\(|thread_name = )"(\w+)"')
    started = {
        name
        for path in Path(yeoul.__file__).parent.rglob("*.py")
        if path.parts[-2] != "benchmark"
        for name in named.findall(path.read_text())
    }
    # The first two have other names where they are used, the third is not served.
    assert started - {"DeathWatch", "PeerWatch", "LLMLoop"} <= set(THREADS)
    assert len({name[:KERNEL_NAME_LENGTH] for name in THREADS}) == len(THREADS)
