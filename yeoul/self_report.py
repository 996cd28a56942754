"""What a process tells of itself and of its children while it runs: stacks, its log, spans; and ends a child.

Knows nothing of what the process is for. EngineCore and the workers answer their parents with it, the web process its routes.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Protocol

import msgspec

from yeoul.errors import TransportError
from yeoul.log import recent_lines
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
    SpansQuestion,
    StackAnswer,
    ThreadStack,
)
from yeoul.spans import SPANS

CHILD_LIMIT_SECONDS = 2.0
"""How long a child may take to answer; its parent's parent waits a little longer."""

MAX_ANSWER_BYTES = 96 * 1024  # less than what a socket takes at once
_MAX_NUM_FRAMES = 60  # of one thread
_NUM_CODE_CHARACTERS = 160

_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Question)
_answers = msgspec.msgpack.Decoder(Answer)


class Child(Protocol):
    """What is needed of ``transport.ChildProcess``."""

    @property
    def role(self) -> str:
        """Its name."""
        ...

    @property
    def pid(self) -> int:
        """Of its process."""
        ...

    def ask(self, question: bytes, timeout_seconds: float) -> bytes:
        """The answer of the process; TransportError where there is none."""
        ...

    def kill(self) -> None:
        """Ends it."""
        ...


class Respondent:
    """Answers for the process ``role``, and passes on what is asked of its ``children``."""

    def __init__(self, role: str, children: Callable[[], Iterable[Child]] = tuple) -> None:
        self._role = role
        self._children = children

    def __call__(self, question: bytes) -> bytes:
        """As it crosses a border. An answer that is too long loses its oldest lines or its last threads."""
        answer = self.answer(_questions.decode(question))
        while len(payload := _encoder.encode(answer)) > MAX_ANSWER_BYTES:
            answer = _halved(answer)
        return payload

    def answer(self, question: Question) -> Answer:
        """Of a process that is neither this one nor a child of it: that there is none."""
        if question.process == self._role and not isinstance(question, KillQuestion):
            return _answer_for_oneself(question)
        if question.process == self._role:
            return NoAnswer(f"{self._role} ends its children alone; send the pid {os.getpid()} SIGTERM to end the server")
        children = list(self._children())
        for child in children:
            if child.role == question.process:
                return _end(child) if isinstance(question, KillQuestion) else ask(child, question, CHILD_LIMIT_SECONDS)
        known = ", ".join([self._role, *(child.role for child in children)])
        return NoAnswer(f"there is no process {question.process[:100]!r} here; there are {known}", is_known=False)


def ask(child: Child, question: Question, timeout_seconds: float) -> Answer:
    """Blocks until the child has answered, or why it does not is known."""
    try:
        answer: Answer = _answers.decode(child.ask(_encoder.encode(question), timeout_seconds))
        return answer
    except TransportError as error:
        return NoAnswer(error.message)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return NoAnswer(f"{child.role} sent something that is no answer: {error}")


def stack_answer() -> StackAnswer:
    """Where the threads of this process are, but for the one that asks. May be called from any thread."""
    innermost = sys._current_frames()
    threads = [one for one in threading.enumerate() if one.ident in innermost and one is not threading.current_thread()]
    stacks = [(thread, frames_of(innermost[thread.ident or 0])) for thread in threads]
    told = [ThreadStack(thread.name, thread.native_id or 0, with_code(frames)) for thread, frames in stacks]
    return StackAnswer(os.getpid(), told)


def frames_of(innermost: FrameType | None) -> list[Frame]:
    """The calls from this one outwards, without their code: quick, since it moves on."""
    frames: list[Frame] = []
    while innermost is not None and len(frames) < _MAX_NUM_FRAMES:
        code = innermost.f_code
        frames.append(Frame(code.co_filename, innermost.f_lineno or 0, code.co_qualname))
        innermost = innermost.f_back
    return frames


def with_code(frames: Iterable[Frame]) -> list[Frame]:
    """The same with what their lines say; reads files."""
    return [
        msgspec.structs.replace(one, code=linecache.getline(one.file, one.line).strip()[:_NUM_CODE_CHARACTERS])
        for one in frames
    ]


def _answer_for_oneself(question: Question) -> Answer:
    if isinstance(question, SpansQuestion):
        return SPANS.answer(question)
    if isinstance(question, LogQuestion):
        lines = [LogLine(*line) for line in recent_lines() if line.at > question.after]
        return LogAnswer(os.getpid(), lines[-question.num_lines :])
    return stack_answer()


def _end(child: Child) -> Answer:
    child.kill()
    return KillAnswer(child.pid)


def _halved(answer: Answer) -> Answer:
    if isinstance(answer, LogAnswer):
        return LogAnswer(answer.pid, answer.lines[(len(answer.lines) + 1) // 2 :])
    assert isinstance(answer, StackAnswer)
    return StackAnswer(answer.pid, answer.threads[: len(answer.threads) // 2])
