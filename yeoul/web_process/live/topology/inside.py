"""``/debug/stack``, ``/debug/log`` and ``/debug/kill``: what a process is at, what it said, and what becomes of its death.

A process is asked on the line that its parent holds, beside all work: also one whose main thread hangs.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Response

from yeoul.config.parts import EnginePlace
from yeoul.errors import ForbiddenError, InvalidRequestError, NotFoundError, UnavailableError
from yeoul.messages.questions import (
    MAX_NUM_LINES,
    Answer,
    Frame,
    KillAnswer,
    KillQuestion,
    LogAnswer,
    LogQuestion,
    NoAnswer,
    Question,
    StackAnswer,
    StackQuestion,
)
from yeoul.self_report import Respondent, frames_of, with_code
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.http.openapi import OF_IDS, answers_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.live.topology.inside_answers import (
    Killed,
    Log,
    LoggedLine,
    ProcessStack,
    Silent,
    StackFrame,
    StackOfTask,
    StackOfThread,
)
from yeoul.web_process.server_context import ServerContext

_WEB = "Web"
_MAX_NUM_TASKS = 100

ProcessName = Annotated[
    str, Path(description="`Web`, `EngineCore` (of several, `EngineCore_0`), or a worker such as `Worker_0`.")
]


class Inside:
    """Asks the processes of one server, one question at a time, in a thread: whoever answers may be slow."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self._own = Respondent(_WEB)
        self._turn = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """All processes, from the root."""
        parallel = self._llm.settings.parallel
        num_engines, num_ranks = parallel.data_parallel_size, parallel.num_workers
        engines = [EnginePlace(index, num_engines) for index in range(num_engines)]
        workers = [f"Worker_{engine.number_of(rank, num_ranks)}" for engine in engines for rank in range(num_ranks)]
        keeper = [self._llm.started_by] if self._llm.started_by is not None else []
        return [_WEB, *keeper, *(engine.name for engine in engines), *workers]

    async def ask(self, question: Question) -> Answer:
        """What the process of the question says, or why it says nothing.

        Raises:
            NotFoundError: there is no such process.
        """
        is_kept = self._llm.started_by is not None  # then the keeper knows, of other web processes, too
        if question.process not in self.names and not (is_kept and question.process.startswith(f"{_WEB}_")):
            names = ", ".join(self.names)
            raise NotFoundError(f"there is no process {question.process[:100]!r}; there are {names}", param="process")
        async with self._turn:
            answer = await asyncio.to_thread(self.ask_now, question)
        if isinstance(answer, NoAnswer) and not answer.is_known:
            raise NotFoundError(answer.reason, param="process")
        return answer

    def ask_now(self, question: Question) -> Answer:
        """The same of a process that there is, from another thread; blocks for some seconds at most."""
        if question.process == _WEB:
            return self._own.answer(question)
        if self._llm.started_by is not None:  # who asks all others
            return self._llm.engines.slots[0].engine.ask(question)
        if not (slots := self._llm.engines.slots):
            return NoAnswer("EngineCore is being started; try again in a few seconds")
        place = self.names.index(question.process) - 1
        if place >= len(slots):
            place = (place - len(slots)) // self._llm.settings.parallel.num_workers
        return slots[place].engine.ask(question)


def inside_router(context: ServerContext, inside: Inside) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    @router.get("/debug/stack/{process}", responses=answers_of(ProcessStack, errors=OF_IDS | {503}))
    async def stack(process: ProcessName) -> Response:
        """Where each thread of a process is now, a process that hangs included."""
        answer = await inside.ask(StackQuestion(process))
        if not isinstance(answer, StackAnswer):
            raise _silence(answer)
        threads = [StackOfThread(name=one.name, tid=one.tid, frames=_shown(one.frames)) for one in answer.threads]
        tasks = await _tasks() if process == _WEB else []
        return json_response(msgspec.json.encode(ProcessStack(process=process, pid=answer.pid, threads=threads, tasks=tasks)))

    @router.post("/debug/kill/{process}", responses=answers_of(Killed, errors=OF_IDS | {415, 503}))
    async def kill(process: ProcessName) -> Response:
        """Kills EngineCore or a worker, to see it replaced while every stream goes on; only with `--allow-kill`."""
        if not context.settings.server.allow_kill:
            raise ForbiddenError("this server lets nobody kill its processes; start it with --allow-kill to see them heal")
        if process == _WEB:
            raise InvalidRequestError(
                "Web answers this, and would answer nobody; kill EngineCore or a worker, or stop the server by SIGTERM",
                param="process",
            )
        answer = await inside.ask(KillQuestion(process))
        if not isinstance(answer, KillAnswer):
            raise _silence(answer)
        return json_response(msgspec.json.encode(Killed(process=process, pid=answer.pid)))

    @router.get("/debug/log", responses=answers_of(Log, errors={400, 404}))
    async def log(
        process: Annotated[str | None, Query(description="Whose lines; those of all processes where it is left out.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_NUM_LINES, description="How many lines at most, the last ones.")] = 1000,
        after: Annotated[float, Query(description="Only lines that are newer, in seconds since 1970.")] = 0.0,
    ) -> Response:
        """The last lines of the log. Each process keeps a thousand in memory; a dead one's are gone."""
        lines: list[LoggedLine] = []
        missing: list[Silent] = []
        for name in inside.names if process is None else [process]:
            answer = await inside.ask(LogQuestion(name, limit, after))
            if isinstance(answer, LogAnswer):
                lines += [LoggedLine(at=one.at, process=name, level=one.level, text=one.text) for one in answer.lines]
            else:
                missing.append(Silent(process=name, reason=_silence(answer).message))
        lines.sort(key=lambda line: line.at)
        return json_response(msgspec.json.encode(Log(data=lines[-limit:], missing=missing)))

    return router


def _silence(answer: Answer) -> UnavailableError:
    reason = answer.reason if isinstance(answer, NoAnswer) else "the process answered another question"
    return UnavailableError(reason, retry_after_seconds=2)


def _shown(frames: list[Frame]) -> list[StackFrame]:
    return [StackFrame(file=one.file, line=one.line, function=one.function, code=one.code) for one in frames]


async def _tasks() -> list[StackOfTask]:
    """Of the loop that this runs on, but for the task that asks."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    found = [(task.get_name(), _frames_of_task(task)) for task in sorted(others, key=asyncio.Task.get_name)[:_MAX_NUM_TASKS]]
    return await asyncio.to_thread(
        lambda: [StackOfTask(name=name, frames=_shown(with_code(frames))) for name, frames in found]
    )


def _frames_of_task(task: asyncio.Task[Any]) -> list[Frame]:
    return [frame for one in reversed(task.get_stack()) for frame in frames_of(one)[:1]]
