"""``yeoul topology``: its diagram is the documented one, whatever is missing is missing in it, and its text is whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from tests.mermaid_boxes import documented_boxes, read_boxes
from yeoul.cli import server
from yeoul.cli.main import run
from yeoul.cli.mermaid import to_mermaid
from yeoul.cli.topology_text import to_text
from yeoul.messages.topology import EngineNow, Incident, Link, Part, Process, Task, Thread, Topology


def thread(name: str, part: str | None, *, is_main: bool = False, is_library: bool = False) -> Thread:
    return Thread(
        name=name, tid=7, state="sleeping", cpu_seconds=1.0, part=part, is_main=is_main, is_library=is_library, doing="waits"
    )


def worker(rank: int) -> Process:
    parts = [Part(name="WorkerProc"), Part(name="Worker", inside="WorkerProc"), Part(name="GPUModelRunner", inside="Worker")]
    return Process(
        name=f"Worker_{rank}", title=f"yeoul::Worker_{rank}", pid=30 + rank, parent="EngineCore", state="running", since=90.0,
        threads=[thread("WorkerProc.run", "WorkerProc", is_main=True), thread("OpenMP", None, is_library=True)], parts=parts,
    )  # fmt: skip


def links() -> Iterator[Link]:
    yield Link(name="calls", kind="call", source="Web/API router", target="Web/AsyncLLM")
    yield Link(name="start of EngineCore", kind="spawn", source="Web/AsyncLLM", target="EngineCore")
    client, executor = "Web/AsyncMPClient", "EngineCore/MultiprocExecutor"
    more: dict[str, Any] = {"kind": "zmq", "address": "ipc:///tmp/a", "messages": 3, "num_bytes": 2048, "queue_depth": 1}
    yield Link(name="requests", source=client, target="EngineCore/process_input_sockets", **more)
    yield Link(name="outputs", source="EngineCore/process_output_sockets", target=client, **more)
    for rank in range(2):
        yield Link(name=f"start of Worker_{rank}", kind="spawn", source=executor, target=f"Worker_{rank}")
        ring: dict[str, Any] = {"kind": "ring", "messages": 5, "num_bytes": 64, "queue_depth": 1, "fill": 0.25}
        yield Link(name=f"steps to Worker_{rank}", source=executor, target=f"Worker_{rank}/WorkerProc", **ring)
        yield Link(name=f"answers of Worker_{rank}", source=f"Worker_{rank}/WorkerProc", target=executor, **ring)
    for rank in range(2):
        ends: dict[str, Any] = {"source": f"Worker_{rank}/GPUModelRunner", "target": f"Worker_{1 - rank}/GPUModelRunner"}
        yield Link(name=f"exchange of Worker_{rank}", kind="exchange", messages=7, num_bytes=4096, **ends)


def whole() -> Topology:
    web = Process(
        name="Web", title="yeoul::Web", pid=10, state="running", since=90.0, doing='answers "1" <request>',
        threads=[
            thread("asyncio loop", None, is_main=True), thread("store", None),
            thread("MPClientEngineMonitor", "AsyncMPClient"),
        ],
        tasks=[
            Task(name="uvicorn", state="waiting", part="API router"),
            Task(name="OutputQueueLoop", state="waiting", part="AsyncMPClient"),
        ],
        parts=[Part(name="API router"), Part(name="AsyncLLM"), Part(name="AsyncMPClient", inside="AsyncLLM")],
    )  # fmt: skip
    core = Process(
        name="EngineCore", title="yeoul::EngineCore", pid=20, parent="Web", state="running", since=90.0, num_restarts=2,
        threads=[
            thread("run_busy_loop", "EngineCoreProc", is_main=True), thread("ParentDeathWatch", None),
            thread("ZMQbg/IO/0", None, is_library=True), thread("process_input_sockets", "EngineCoreProc"),
            thread("process_output_sockets", "EngineCoreProc"), thread("mp_exec_io_0", "MultiprocExecutor"),
            thread("MultiprocWorkerMonitor", "MultiprocExecutor"),
        ],
        parts=[Part(name="EngineCoreProc"), Part(name="MultiprocExecutor")],
    )  # fmt: skip
    incident = Incident(at=95.0, process="Worker_0", kind="death", words="was killed by signal 9 (SIGKILL)", seconds=1.25)
    return Topology(
        at=100.0, version="1", is_ready=True, processes=[web, core, worker(0), worker(1)], links=list(links()),
        engine=EngineNow(num_running=1, kv_usage=0.5), incidents=[incident],
    )  # fmt: skip


def test_the_diagram_of_what_runs_is_the_documented_one_box_by_box():
    assert read_boxes(to_mermaid(whole())) == documented_boxes()


def test_a_box_says_what_it_does_now_and_nothing_breaks_out_of_it():
    text = to_mermaid(whole())
    assert 'subgraph W["Web server process (FastAPI on uvicorn)<br/>pid 10 · answers #quot;1#quot; #lt;request>"]' in text
    assert 'C <== "ZeroMQ (ipc)<br/>3 requests" ==> IT' in text
    assert 'X <== "shared memory + ZeroMQ<br/>5 steps, 5 answers" ==> WP1' in text


def test_what_is_missing_has_no_box_and_who_is_dead_looks_so():
    topology = whole()
    web, core, first, _ = topology.processes
    core.state, core.threads, core.parts, core.doing = "dead", [], [], "is dead"
    first.state = "starting"
    topology.processes = [web, core, first]
    boxes = read_boxes(to_mermaid(topology))
    assert boxes.places < documented_boxes().places | {("EngineCore process (child of the web server)", "nothing is here")}
    assert {"class E dead", "class W0 starting"} <= {line.strip() for line in to_mermaid(topology).splitlines()}
    assert not any("MultiprocExecutor" in place for place in boxes.places)


def test_what_is_below_the_cache_is_told_where_there_is_any():
    topology = whole()
    topology.engine.kv_tier_usage = 0.25
    assert "50% of the cache used, 25% of the tier below it\n" in to_text(topology)


def test_the_text_is_a_tree_with_links_and_incidents():
    text = to_text(whole())
    assert text.startswith("Yeoul 1, ready: 1 running, 0 waiting, 50% of the cache used\n")
    assert "\n└─ EngineCore (20): running for 10 s, replaced 2 times, 0.0% of a core, 0 B: \n" in text
    assert "\n   ├─ Worker_0 (30): running for 10 s" in text
    assert "\n   └─ Worker_1 (31): running for 10 s" in text
    assert "1 of libraries" in text
    assert "3 sent, 2 kB" in text
    assert "1 wait, 25% full" in text
    assert "death    Worker_0: was killed by signal 9 (SIGKILL) (1.2 s)\n" in text


def answering(monkeypatch: pytest.MonkeyPatch, status: int, content: bytes) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/topology"
        return httpx.Response(status, content=content)

    def open_client(url: str, *_: object, **options: object) -> httpx.Client:
        return httpx.Client(base_url=url, transport=httpx.MockTransport(handle))

    monkeypatch.setattr(server, "open_client", open_client)


def test_json_is_what_the_server_answers(monkeypatch, capsys):
    raw = msgspec.json.encode(whole())
    answering(monkeypatch, 200, raw)
    assert run(["topology", "host:1", "--json"]) == 0
    assert capsys.readouterr().out == f"{raw.decode()}\n"
    assert run(["topology", "host:1", "--mermaid"]) == 0
    assert capsys.readouterr().out == to_mermaid(whole())


@pytest.mark.parametrize(
    ("status", "content", "complaint"),
    [
        (404, b"{}", "http://host:1 has no /topology; expected a Yeoul server of this version"),
        (401, b'{"error": {"message": "no key"}}', "no key; give --api-key"),
        (
            200,
            b'{"at": 1}',
            "http://host:1 answers what is no topology of this version: Object missing required field `version`",
        ),
        (200, b"\xff", "http://host:1 answers what is no topology of this version"),
    ],
)
def test_another_server_is_told_in_a_line(monkeypatch, capsys, status, content, complaint):
    answering(monkeypatch, status, content)
    assert run(["topology", "host:1", "--json"]) in (1, 2)
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


def test_flags_that_contradict_each_other_and_urls_that_are_none_are_mistakes(capsys):
    assert run(["topology", "--json", "--mermaid"]) == 2
    assert run(["topology", "ftp://host"]) == 2
    assert "URL is 'ftp://host'; expected one that begins with http:// or https://" in capsys.readouterr().err
