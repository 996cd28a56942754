"""A client cannot tell to which of several web processes it came: requests, their stories and ends, load, processes, logs."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from tests.unit.web_process.together.two_servers import of, serve_two
from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.messages.topology import EngineNow, Process, Topology
from yeoul.web_process.together.joins import join_topologies


async def listed(server: FakeServer, **query: str | int) -> list[dict[str, Any]]:
    answer = await server.http.get("/debug/requests", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def waiting(server: FakeServer, name: str) -> asyncio.Task[httpx.Response]:
    """A request that the engine holds back."""
    server.client.gate.clear()
    known = len(server.client.added)
    body = {"prompt": "hi", "max_tokens": 5}
    task = asyncio.create_task(server.http.post("/v1/completions", json=body, headers={"x-request-id": name}))
    await until(lambda: len(server.client.added) > known)
    return task


def test_any_process_lists_the_requests_of_all_those_that_run_and_those_that_have_ended():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        for _ in range(3):
            await one.complete(max_tokens=2)
            await other.complete(max_tokens=2)
        running = await waiting(other, "runs")
        lists = [await listed(server) for server in (one, other)]
        assert [entry["id"] for entry in lists[0]] == [entry["id"] for entry in lists[1]]
        assert len({entry["id"] for entry in lists[0]}) == 7
        assert lists[0][0]["id"].startswith("runs~")
        first = await one.http.get("/debug/requests", params={"limit": 3})
        assert first.json()["has_more"]
        rest = await other.http.get("/debug/requests", params={"before": first.json()["data"][-1]["id"]})
        assert [*(entry["id"] for entry in first.json()["data"]), *(entry["id"] for entry in rest.json()["data"])] == [
            entry["id"] for entry in lists[0]
        ]
        other.client.gate.set()
        await running

    serve_two(scene)


def test_those_that_wait_in_several_processes_have_places_in_one_line():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        tasks = []
        for number, server in enumerate((one, other, one, other)):
            server.client.max_num_running = 1
            tasks.append(await waiting(server, f"w{number}"))
        for server in (one, other):
            found = await listed(server, state="waiting")
            assert [(entry["id"][:2], entry["place"]) for entry in found] == [("w3", 4), ("w2", 3), ("w1", 2), ("w0", 1)]
            assert found[0]["why_it_waits"].endswith("3 requests are ahead of it")
            assert found[-1]["why_it_waits"].endswith("nobody is ahead of it")
        for server in (one, other):
            server.client.gate.set()
        await asyncio.gather(*tasks)

    serve_two(scene)


def test_a_request_of_another_process_has_its_story_and_its_trace_and_can_be_ended():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        task = await waiting(other, "mine")
        story = await one.http.get("/debug/requests/mine")
        assert story.status_code == 200, story.text
        assert story.json()["state"] in ("waiting", "running")
        assert (await one.http.get("/debug/requests/mine/trace")).json()["traceEvents"]
        ended = await one.http.post("/debug/requests/mine/abort")
        assert ended.json()["aborted"] is True
        assert (await task).json()["choices"][0]["finish_reason"] == "abort"
        assert (await one.http.post("/debug/requests/mine/abort")).json()["aborted"] is False
        assert (await one.http.get("/debug/requests/nobody")).status_code == 404

    serve_two(scene)


def test_of_several_requests_of_one_name_the_last_one_is_meant_wherever_it_is():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        await one.http.post("/v1/completions", json={"prompt": "hi"}, headers={"x-request-id": "same"})
        task = await waiting(other, "same")
        for server in (one, other):
            assert (await server.http.get("/debug/requests/same")).json()["state"] in ("waiting", "running")
        assert (await one.http.post("/debug/requests/same/abort")).json()["aborted"] is True
        await task

    serve_two(scene)


def test_the_load_is_that_of_all():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        tasks = [await waiting(server, "x") for server in (one, other, other)]
        for server in (one, other):
            assert (await server.http.get("/load")).json() == {"server_load": 3}
        for server in (one, other):
            server.client.gate.set()
        await asyncio.gather(*tasks)

    serve_two(scene)


def test_every_web_process_stands_in_the_topology_and_in_the_log():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        for server in (one, other):
            topology = (await server.http.get("/topology")).json()
            names = [process["name"] for process in topology["processes"]]
            assert {"Web_0", "Web_1"} <= set(names)
            assert len(names) == len(set(names))
            assert "Web" not in {link[end].partition("/")[0] for link in topology["links"] for end in ("source", "target")}
            log = (await server.http.get("/debug/log")).json()
            assert "Web" not in {line["process"] for line in log["data"]}
            for name in ("Web_0", "Web_1"):
                stack = (await server.http.get(f"/debug/stack/{name}")).json()
                assert stack["process"] == name
                assert stack["tasks"]
                lines = await server.http.get("/debug/log", params={"process": name})
                assert lines.status_code == 200
                assert {line["process"] for line in lines.json()["data"]} <= {name}
            assert (await server.http.get("/debug/stack/Web_7")).status_code == 404
            assert (await server.http.get("/debug/stack/EngineCore")).status_code in (200, 503)

    serve_two(scene)


def test_who_has_no_key_learns_nothing_of_another_process():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        for path in ("/metrics", "/debug/requests", "/topology", "/load"):
            assert (await one.http.get(path)).status_code == 401
        paths = ["/debug/log", "/debug/requests?before=req", "/v1/responses/resp_1"]
        assert [(await one.http.get(path)).status_code for path in paths] == [401] * 3
        assert (await one.http.delete("/v1/responses/resp_1")).status_code == 401
        assert of(one).asked == []
        with_key = {"authorization": "Bearer second"}
        await other.http.post("/v1/completions", json={"prompt": "hi"}, headers={"authorization": "Bearer first"})
        assert (await one.http.get("/debug/requests", headers=with_key)).json()["data"] == []

    serve_two(scene, settings(api_key=["first", "second"]))


def test_a_sibling_that_is_asked_asks_nobody():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        for path in ("/metrics", "/debug/requests", "/topology", "/load", "/debug/requests/x", "/v1/responses/resp_1"):
            await one.http.get(path)
        assert len(of(one).asked) == 6
        assert of(other).asked == []

    serve_two(scene)


def test_one_that_does_not_answer_is_left_out():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        await other.complete(max_tokens=2)

        async def broken(question: SiblingQuestion) -> SiblingAnswer:
            return SiblingAnswer(1, 200, b"{")

        of(one).others[1] = broken
        for path in ("/debug/requests", "/topology", "/load", "/debug/log"):
            assert (await one.http.get(path)).status_code == 200
        del of(one).others[1]
        for path in ("/metrics", "/debug/requests", "/topology", "/load", "/debug/log"):
            assert (await one.http.get(path)).status_code == 200

    serve_two(scene)


def test_the_link_for_a_browser_opens_one_session_whichever_process_is_asked_and_all_know_it():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        code = one.context.sessions.draw_code()
        assert (await other.http.post("/login", json={"code": "x"})).status_code == 401
        opened = await other.http.post("/login", json={"code": code})
        assert opened.status_code == 200, opened.text
        assert (await one.http.post("/login", json={"code": code})).status_code == 401
        (cookie,) = (value for name, value in opened.headers.items() if name == "set-cookie")
        port = cookie.partition("=")[0].removeprefix("yeoul-")
        session = {"cookie": cookie.partition(";")[0], "host": f"127.0.0.1:{port}"}
        for server in (one, other):
            assert (await server.http.get("/debug/requests", headers=session)).status_code == 200

    serve_two(scene, settings(api_key=["secret"]))


def test_one_web_process_alone_goes_by_no_other_way():
    async def scene(server: FakeServer) -> None:
        app: Any = server._server.config.loaded_app
        seen = []
        while app is not None:
            seen.append(type(app).__name__)
            app = next((getattr(app, name) for name in ("app", "_app") if getattr(app, name, None) is not None), None)
        assert "RequestIds" in seen
        assert "Together" not in seen

    serve(scene)


def test_the_keeper_stands_before_its_web_processes_each_as_it_tells_of_itself():
    def process(name: str, **fields: Any) -> Process:
        return Process(name=name, title=name, state="running", since=1.0, **fields)

    def topology(*processes: Process) -> Topology:
        return Topology(
            at=1.0, version="1", is_ready=True, processes=list(processes), links=[], engine=EngineNow(), incidents=[]
        )

    own = topology(process("Web", pid=1), process("Keeper"), process("Web_1", num_restarts=2), process("EngineCore"))
    other = topology(process("Web", pid=2, doing="waits"), process("Keeper"), process("Web_0"))
    joined = join_topologies(own, 0, [(1, other)]).processes
    assert [(one.name, one.parent) for one in joined] == [
        ("Keeper", None), ("Web_0", "Keeper"), ("Web_1", "Keeper"), ("EngineCore", None),
    ]  # fmt: skip
    assert [(one.pid, one.num_restarts, one.doing) for one in joined[1:3]] == [(1, 0, ""), (2, 2, "waits")]
    joined = join_topologies(other, 1, [(0, own)]).processes
    assert [(one.pid, one.num_restarts) for one in joined[1:3]] == [(1, 0), (2, 2)]
