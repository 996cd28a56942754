"""The trace of a whole server: what its processes noted, on one clock, whoever dies, leaves or asks meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from tests.unit.web_process.live.trace_parser import ParsedTrace
from yeoul.messages.questions import Answer, NoAnswer, Question, RowOfSpans, Span, SpansAnswer, SpansQuestion
from yeoul.web_process.http import writing
from yeoul.web_process.live.traces import recording as recording_module
from yeoul.web_process.live.traces.recording import Recording
from yeoul.web_process.live.traces.server_trace import ServerTraceWriter
from yeoul.web_process.live.traces.trace_events import TraceWriter
from yeoul.web_process.live.traces.trace_watch import TraceWatch

CORE = [RowOfSpans("run_busy_loop", 20), RowOfSpans("process_output_sockets", 21)]
WORKER = [RowOfSpans("WorkerProc", 30)]


def steps_of_core(began: float, *numbers: int) -> list[Span]:
    found: list[Span] = []
    for place, number in enumerate(numbers):
        at = began + place
        found += [
            Span(0, "schedule", at, at + 0.1, number, 2, 5), Span(0, "send step", at + 0.1, at + 0.2, number, 2, 5),
            Span(0, "wait", at + 0.2, at + 0.8, number, 2, 5), Span(0, "apply", at + 0.8, at + 0.9, number, 2, 5),
        ]  # fmt: skip
    return found


def steps_of_worker(began: float, *numbers: int) -> list[Span]:
    found: list[Span] = []
    for place, number in enumerate(numbers):
        at = began + place
        found += [
            Span(0, "step", at + 0.25, at + 0.75, number, 2, 5), Span(0, "compute", at + 0.3, at + 0.6, number, 2, 5),
            Span(0, "sample", at + 0.6, at + 0.7, number, 2, 5), Span(0, "send", at + 0.7, at + 0.75, number, 2, 5),
        ]  # fmt: skip
    return found


def record(
    answer: Callable[[SpansQuestion], Answer],
    names: list[str],
    seconds: float = 0.0,
    stopped: threading.Event | None = None,
) -> Recording:
    def ask(question: Question) -> Answer:
        assert isinstance(question, SpansQuestion)
        return answer(question)

    made = Recording(1, names, ask, seconds, stopped or threading.Event())
    made.run()
    return made


def parsed(made: Recording, watch: TraceWatch) -> ParsedTrace:
    writer = ServerTraceWriter(made, watch)
    writer.write()
    return ParsedTrace(msgspec.json.encode({"traceEvents": writer.events, "otherData": writer.about}))


def with_llm(scene: Callable[[FakeServer, TraceWatch], None]) -> None:
    async def play(server: FakeServer) -> None:
        scene(server, TraceWatch(server.engine.llm, []))

    serve(play)


def test_steps_are_followed_from_where_they_are_planned_to_where_they_are_computed_and_back():
    def scene(server: FakeServer, watch: TraceWatch) -> None:
        now = time.monotonic() + 1

        def answer(question: SpansQuestion) -> Answer:
            if question.seconds:
                return SpansAnswer(1, CORE, [])
            if question.process == "EngineCore":
                return SpansAnswer(200, CORE, steps_of_core(now, 7, 8))
            rank = int(question.process[-1])
            return SpansAnswer(300 + rank, WORKER, steps_of_worker(now + rank / 100, 7, 8))

        trace = parsed(record(answer, ["EngineCore", "Worker_0", "Worker_1"]), watch)
        names = [span["name"] for span in trace.rows["EngineCore", "run_busy_loop"]]
        assert names == ["schedule", "send step", "wait", "apply"] * 2
        for worker in ("Worker_0", "Worker_1"):
            assert [span["name"] for span in trace.top(worker, "WorkerProc")] == ["step", "step"]
            assert [span["name"] for span in trace.inside(worker, "WorkerProc")] == ["compute", "sample", "send"] * 2
        assert trace.rows["Worker_1", "WorkerProc"][0]["args"] == {"step": 7, "requests": 2, "tokens": 5}
        arrows = [event for event in trace.events if event["ph"] == "s"]
        assert len(arrows) == 2 * 2 + 2 * 2  # of each step to both ranks, and back from both

    with_llm(scene)


def test_of_several_engines_each_has_steps_of_its_own_whose_numbers_are_alike():
    def scene(server: FakeServer, watch: TraceWatch) -> None:
        now = time.monotonic() + 1

        def answer(question: SpansQuestion) -> Answer:
            if question.seconds:
                return SpansAnswer(1, CORE, [])
            number = int(question.process[-1])
            if question.process.startswith("EngineCore"):
                return SpansAnswer(200 + number, CORE, steps_of_core(now + number / 100, 7, 8))
            return SpansAnswer(300 + number, WORKER, steps_of_worker(now + number // 2 / 100, 7, 8))

        names = ["EngineCore_0", "EngineCore_1", "Worker_0", "Worker_1", "Worker_2", "Worker_3"]
        trace = parsed(record(answer, names), watch)
        ends = {event["id"]: event["pid"] for event in trace.events if event["ph"] == "f"}
        arrows = {(event["pid"], ends[event["id"]]) for event in trace.events if event["ph"] == "s"}
        there = {(200, 300), (200, 301), (201, 302), (201, 303)}
        assert arrows == there | {(worker, core) for core, worker in there}

    with_llm(scene)


def test_another_process_in_the_place_of_a_dead_one_has_rows_of_its_own():
    def scene(server: FakeServer, watch: TraceWatch) -> None:
        now = time.monotonic() + 1
        answers: list[Answer] = [
            SpansAnswer(300, WORKER, steps_of_worker(now, 7)),
            NoAnswer("Worker_0 was killed by signal 9"),
            SpansAnswer(301, WORKER, steps_of_worker(now + 2, 7)),
        ]
        asked: list[float] = []
        stopped = threading.Event()

        def answer(question: SpansQuestion) -> Answer:
            asked.append(question.seconds)
            told = answers.pop(0)
            if isinstance(told, NoAnswer):
                stopped.set()
            return told

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recording_module, "_SECONDS_BETWEEN_QUESTIONS", 0.001)
            made = record(answer, ["Worker_0"], 60.0, stopped)
        assert [process.pid for process in made.processes] == [300, 301]
        assert made.silent == {}
        assert asked[-1] == 0.0
        trace = parsed(made, watch)
        assert sorted(trace.processes) == [300, 301]
        assert set(trace.processes.values()) == {"Worker_0"}

    with_llm(scene)


def test_who_says_nothing_is_named_with_the_reason():
    def scene(server: FakeServer, watch: TraceWatch) -> None:
        made = record(lambda _: NoAnswer("EngineCore runs apart"), ["EngineCore"])
        assert parsed(made, watch).about["not_recorded"] == {"EngineCore": "EngineCore runs apart"}

    with_llm(scene)


def test_who_hangs_is_waited_for_once_and_not_for_all_that_are_asked_through_it(monkeypatch):
    clock, asked = [0.0], []
    monkeypatch.setattr("yeoul.web_process.live.traces.recording.time.monotonic", lambda: clock[0])

    def answer(question: SpansQuestion) -> Answer:
        asked.append((question.process, question.seconds > 0))
        if question.process == "Web":
            return SpansAnswer(100, [], [])
        clock[0] += 4.0
        return NoAnswer(f"{question.process} gave no answer")

    made = record(answer, ["Web", "EngineCore", "Worker_0", "Worker_1"], 1.0)
    assert asked == [("Web", True), ("EngineCore", True), ("Web", False)]
    until_over = "others were silent until the time was over"
    assert made.silent == {"EngineCore": "EngineCore gave no answer", "Worker_0": until_over, "Worker_1": until_over}


def test_a_recording_that_is_full_ends_and_says_so(monkeypatch):
    monkeypatch.setattr(recording_module, "MAX_NUM_SPANS", 10)
    now = time.monotonic() + 1
    made = record(lambda _: SpansAnswer(300, WORKER, steps_of_worker(now, 1, 2)), ["Worker_0"], 60.0)
    assert made.is_full
    assert len(made.processes[0].spans) == 10


def test_what_was_lost_is_counted_and_what_began_before_begins_with_the_trace():
    def scene(server: FakeServer, watch: TraceWatch) -> None:
        began = time.monotonic()

        def answer(question: SpansQuestion) -> Answer:
            old = [Span(0, "wait", began - 9, began - 8), Span(0, "step", began - 5, began + 5, 3)]
            return SpansAnswer(300, WORKER, [] if question.seconds else old, 4)

        trace = parsed(record(answer, ["Worker_0"]), watch)
        (span,) = trace.rows["Worker_0", "WorkerProc"]
        assert (span["name"], span["ts"]) == ("step", 0.0)
        assert trace.about["num_lost_spans"] == 8

    with_llm(scene)


def silent(question: Question) -> Answer:
    return NoAnswer(f"{question.process} is not there")


async def stop_recording(server: FakeServer) -> None:
    """As a server that ends does."""
    for work in server.context.lasting:
        await work.suspend()


async def recorded(server: FakeServer, seconds: float = 60.0, **headers: str) -> Any:
    server.client.ask = silent  # type: ignore[method-assign]
    return await server.http.get(f"/debug/trace?seconds={seconds}", headers=headers)


def test_the_web_process_shows_requests_and_what_it_hands_out():
    async def scene(server: FakeServer) -> None:
        before = server.engine.llm.observer
        server.client.gate.clear()
        old = asyncio.create_task(server.complete(max_tokens=3))
        await until(lambda: len(server.client.added) == 1)
        recording = asyncio.create_task(recorded(server))
        await until(lambda: server.engine.llm.observer is not before)
        new = asyncio.create_task(server.http.post("/v1/completions", json={"prompt": "hi"}, headers={"x-request-id": "new"}))
        await until(lambda: len(server.client.added) == 2)
        server.client.gate.set()
        await asyncio.gather(old, new)
        server.client.die()
        await stop_recording(server)
        answer = await recording
        assert server.engine.llm.observer is before
        trace = ParsedTrace(answer.content)
        assert {span["name"] for span in trace.rows["Web", "OutputQueueLoop"]} == {"hand out"}
        assert {span["name"] for span in trace.rows["Web", "streams"]} == {"woken streams"}
        begun = [event["name"].partition("~")[0] for event in trace.events if event["ph"] == "b" and event["id"] == 2]
        assert begun[:5] == ["new", "read", "tokenize", "hand over", "in the engine"]
        ((seconds, words),) = [(one["seconds"], one["words"]) for one in trace.about["incidents"][:1]]
        assert seconds >= 0
        assert "killed by signal 9" in words
        assert trace.about["not_recorded"] == {"EngineCore": "EngineCore is not there", "Worker_0": "Worker_0 is not there"}

    serve(scene, settings())


def test_two_at_once_are_one_too_many_and_nonsense_is_told_so():
    async def scene(server: FakeServer) -> None:
        before = server.engine.llm.observer
        first = asyncio.create_task(recorded(server))
        await until(lambda: server.engine.llm.observer is not before)
        refused = await recorded(server)
        assert refused.status_code == 409
        assert "another trace is recorded just now" in refused.json()["error"]["message"]
        first.cancel()  # its client leaves
        await until(lambda: server.engine.llm.observer is before)
        assert (await recorded(server, 0.1)).status_code == 200
        for seconds in ("0", "61", "nan", "x", "-1", ""):
            assert (await server.http.get(f"/debug/trace?seconds={seconds}")).status_code == 400

    serve(scene)


def test_nobodys_large_answer_waits_for_a_trace_nor_a_trace_for_one():
    async def scene(server: FakeServer) -> None:
        held = threading.Event()
        asyncio.get_running_loop().run_in_executor(writing._thread, held.wait)
        try:
            assert (await asyncio.wait_for(recorded(server, 0.1), 60.0)).status_code == 200
        finally:
            held.set()

    serve(scene)


def test_the_collector_looks_through_no_events():
    writer = TraceWriter(0.0)
    writer.span((1, 2), "step", 0.0, 1.0, "step", step=1)
    assert not gc.is_tracked(writer.events[0])


def test_a_server_that_stops_tells_what_there_is():
    async def scene(server: FakeServer) -> None:
        before = server.engine.llm.observer
        recording = asyncio.create_task(recorded(server))
        await until(lambda: server.engine.llm.observer is not before)
        await stop_recording(server)
        answer = await recording
        assert ParsedTrace(answer.content).about["seconds"] < 60

    serve(scene)


def test_only_the_operators_key_records_a_server():
    async def scene(server: FakeServer) -> None:
        assert (await recorded(server, 0.1, authorization="Bearer second")).status_code == 403
        assert (await recorded(server, 0.1, authorization="Bearer first")).status_code == 200

    serve(scene, settings(api_key=["first", "second"]))
