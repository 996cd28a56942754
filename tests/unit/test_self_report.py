"""What a process tells of itself, and passes on to its children."""

from __future__ import annotations

import logging
import os
import threading

import msgspec
import pytest

from yeoul.errors import TransportTimeoutError
from yeoul.log import KeptLine, _kept
from yeoul.messages.questions import (
    Answer,
    KillAnswer,
    KillQuestion,
    LogAnswer,
    LogQuestion,
    NoAnswer,
    Question,
    StackAnswer,
    StackQuestion,
)
from yeoul.self_report import MAX_ANSWER_BYTES, Respondent

ENCODE = msgspec.msgpack.encode


class FakeChild:
    def __init__(self, role: str, is_silent: bool = False) -> None:
        self.role, self.pid, self.is_killed = role, 77, False
        self._is_silent = is_silent

    def ask(self, question: bytes, timeout_seconds: float) -> bytes:
        if self._is_silent:
            raise TransportTimeoutError(f"{self.role} gave no answer within {timeout_seconds:g} s")
        return Respondent(self.role)(question)

    def kill(self) -> None:
        self.is_killed = True


def ask(respondent: Respondent, question: Question) -> Answer:
    answer: Answer = msgspec.msgpack.decode(respondent(ENCODE(question)), type=Answer)
    return answer


@pytest.fixture
def _no_lines():
    kept = list(_kept)
    _kept.clear()
    yield
    _kept.clear()
    _kept.extend(kept)


def test_a_stack_has_every_thread_by_its_name_with_the_code_that_it_is_at():
    held = threading.Event()
    thread = threading.Thread(target=held.wait, name="waits for the test")
    thread.start()
    answer = Respondent("Me").answer(StackQuestion("Me"))
    held.set()
    thread.join()
    assert isinstance(answer, StackAnswer)
    assert answer.pid == os.getpid()
    (stack,) = [one for one in answer.threads if one.name == "waits for the test"]
    assert stack.tid == thread.native_id
    assert [frame.function for frame in stack.frames][1] == "Event.wait"
    assert stack.frames[1].code == "signaled = self._cond.wait(timeout)"


def test_the_thread_that_answers_is_not_in_the_stack():
    answer = Respondent("Me").answer(StackQuestion("Me"))
    assert isinstance(answer, StackAnswer)
    assert threading.current_thread().name not in [thread.name for thread in answer.threads]


def test_a_question_goes_to_the_child_that_it_is_about():
    parent = Respondent("EngineCore", lambda: [FakeChild("Worker_0"), FakeChild("Worker_1")])
    assert isinstance(ask(parent, StackQuestion("Worker_1")), StackAnswer)


def test_a_child_that_is_silent_is_named_with_the_reason():
    answer = ask(Respondent("EngineCore", lambda: [FakeChild("Worker_0", is_silent=True)]), StackQuestion("Worker_0"))
    assert answer == NoAnswer("Worker_0 gave no answer within 2 s")


def test_a_child_is_killed_and_nobody_kills_himself():
    child = FakeChild("Worker_0")
    parent = Respondent("EngineCore", lambda: [child])
    assert ask(parent, KillQuestion("Worker_0")) == KillAnswer(77)
    assert child.is_killed
    refused = ask(parent, KillQuestion("EngineCore"))
    assert isinstance(refused, NoAnswer)
    assert "ends its children alone" in refused.reason


def test_an_unknown_process_is_told_which_there_are():
    answer = ask(Respondent("EngineCore", lambda: [FakeChild("Worker_0")]), StackQuestion("Worker_7"))
    assert answer == NoAnswer("there is no process 'Worker_7' here; there are EngineCore, Worker_0", is_known=False)


@pytest.mark.usefixtures("_no_lines")
def test_the_log_is_the_last_lines_that_are_newer():
    _kept.extend(KeptLine(at, "INFO", f"line {at:g}") for at in (1.0, 2.0, 3.0))
    answer = ask(Respondent("Me"), LogQuestion("Me", after=1.0))
    assert isinstance(answer, LogAnswer)
    assert [line.text for line in answer.lines] == ["line 2", "line 3"]
    answer = ask(Respondent("Me"), LogQuestion("Me", num_lines=1))
    assert isinstance(answer, LogAnswer)
    assert [line.text for line in answer.lines] == ["line 3"]


@pytest.mark.usefixtures("_no_lines")
def test_an_answer_that_is_too_long_loses_its_oldest_lines():
    _kept.extend(KeptLine(at, "INFO", "x" * 1000) for at in range(500))
    payload = Respondent("Me")(ENCODE(LogQuestion("Me")))
    assert MAX_ANSWER_BYTES // 2 < len(payload) <= MAX_ANSWER_BYTES
    assert msgspec.msgpack.decode(payload, type=LogAnswer).lines[-1].at == 499


@pytest.mark.usefixtures("_no_lines")
def test_a_process_keeps_its_last_thousand_lines_and_no_endless_one(capfd):
    from yeoul.log import StandardErrorHandler

    handler = StandardErrorHandler("Web")
    for number in range(1100):
        handler.emit(logging.LogRecord("yeoul.x", logging.INFO, "file.py", 7, "line %d", (number,), None))
    handler.emit(logging.LogRecord("yeoul.x", logging.INFO, "file.py", 7, "y" * 10_000, (), None))
    assert len(_kept) == 1000
    assert _kept[0].text.endswith(" line 101")
    assert len(_kept[-1].text) == 4000
