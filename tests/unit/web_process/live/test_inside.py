"""The routes that look into processes: stacks, the log, and kills where they are allowed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.messages.questions import (
    Answer,
    Frame,
    KillAnswer,
    KillQuestion,
    LogAnswer,
    LogLine,
    LogQuestion,
    NoAnswer,
    Question,
    StackAnswer,
    ThreadStack,
)


def answers(question: Question) -> Answer:
    if isinstance(question, LogQuestion):
        if question.process == "Worker_0":
            return NoAnswer("Worker_0 is being started and answers nothing yet")
        return LogAnswer(5, [LogLine(2e12, "WARNING", "later"), LogLine(3e12, "INFO", "last")])
    if isinstance(question, KillQuestion):
        return KillAnswer(6)
    if question.process == "Worker_0":
        return NoAnswer("Worker_0 gave no answer within 2 s: a signal has stopped it")
    return StackAnswer(5, [ThreadStack("MainThread", 5, [Frame("core.py", 3, "EngineCoreProc.run_busy_loop", "step()")])])


async def get(server: FakeServer, path: str, status: int = 200) -> dict[str, Any]:
    server.client.ask = answers  # type: ignore[method-assign]
    answer = await server.http.get(path)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_stack_of_the_engine_is_what_it_says():
    async def scene(server: FakeServer) -> None:
        stack = await get(server, "/debug/stack/EngineCore")
        assert stack["threads"] == [{
            "name": "MainThread", "tid": 5,
            "frames": [{"file": "core.py", "line": 3, "function": "EngineCoreProc.run_busy_loop", "code": "step()"}],
        }]  # fmt: skip
        assert stack["tasks"] == []

    serve(scene)


def test_the_stack_of_the_web_process_has_its_tasks():
    async def scene(server: FakeServer) -> None:
        stack = await get(server, "/debug/stack/Web")
        assert "MainThread" in [thread["name"] for thread in stack["threads"]]
        (loop,) = [task for task in stack["tasks"] if task["name"] == "OutputQueueLoop"]
        assert loop["frames"][0]["function"] == "OutputQueueLoop.run"
        assert "await" in loop["frames"][0]["code"]

    serve(scene)


def test_a_process_that_does_not_answer_is_503_and_one_that_is_not_there_404():
    async def scene(server: FakeServer) -> None:
        error = await get(server, "/debug/stack/Worker_0", 503)
        assert "a signal has stopped it" in error["error"]["message"]
        error = await get(server, "/debug/stack/Worker_1", 404)
        assert error["error"]["message"] == "there is no process 'Worker_1'; there are Web, EngineCore, Worker_0"

    serve(scene)


def test_before_the_engine_is_there_only_the_web_process_answers():
    async def scene(server: FakeServer) -> None:
        assert (await server.http.get("/debug/stack/Web")).status_code == 200
        answer = await server.http.get("/debug/stack/EngineCore")
        assert answer.status_code == 503
        assert "being started" in answer.json()["error"]["message"]

    serve(scene, starts_engine=False)


def test_the_log_has_the_lines_of_all_in_their_order_and_says_who_is_missing():
    async def scene(server: FakeServer) -> None:
        log = await get(server, "/debug/log?after=1e12")
        assert log["data"] == [
            {"at": 2e12, "process": "EngineCore", "level": "WARNING", "text": "later"},
            {"at": 3e12, "process": "EngineCore", "level": "INFO", "text": "last"},
        ]
        assert log["missing"] == [{"process": "Worker_0", "reason": "Worker_0 is being started and answers nothing yet"}]
        log = await get(server, "/debug/log?process=EngineCore&limit=1&after=1e12")
        assert [line["text"] for line in log["data"]] == ["last"]
        assert log["missing"] == []

    serve(scene)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/debug/log?limit=0", 400, "limit"),
        ("/debug/log?after=yesterday", 400, "after"),
        ("/debug/log?process=Worker_9", 404, "there are Web, EngineCore, Worker_0"),
    ],
)
def test_a_wrong_question_is_told_what_was_expected(path, status, said):
    async def scene(server: FakeServer) -> None:
        assert said in (await get(server, path, status))["error"]["message"]

    serve(scene)


def test_nobody_kills_a_process_where_it_is_not_allowed():
    async def scene(server: FakeServer) -> None:
        asked: list[Question] = []

        def note(question: Question) -> Answer:
            asked.append(question)
            return answers(question)

        server.client.ask = note  # type: ignore[method-assign]
        answer = await server.http.post("/debug/kill/Worker_0")
        assert answer.status_code == 403
        assert "--allow-kill" in answer.json()["error"]["message"]
        assert not asked

    serve(scene)


def test_a_worker_is_killed_where_it_is_allowed_but_never_the_server():
    async def scene(server: FakeServer) -> None:
        server.client.ask = answers  # type: ignore[method-assign]
        answer = await server.http.post("/debug/kill/Worker_0")
        assert answer.json() == {"process": "Worker_0", "pid": 6}
        answer = await server.http.post("/debug/kill/Web")
        assert answer.status_code == 400
        assert "SIGTERM" in answer.json()["error"]["message"]

    serve(scene, settings(allow_kill=True))


def test_all_of_it_needs_a_key_where_there_are_any():
    async def scene(server: FakeServer) -> None:
        for path in ("/debug/log", "/debug/stack/Web"):
            assert (await server.http.get(path)).status_code == 401
        assert (await server.http.post("/debug/kill/Worker_0")).status_code == 401

    serve(scene, settings(api_key=["secret"], allow_kill=True))
