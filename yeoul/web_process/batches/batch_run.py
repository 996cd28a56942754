"""BatchRun: one batch from its file to its end: checked, answered line by line, kept as it goes; knows no other batch."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from typing import TypeVar

import msgspec

from yeoul.errors import ProcessDeadError
from yeoul.web_process.batches.batch_lines import (
    AnsweredLine,
    BatchLine,
    LineChecker,
    answered_in,
    lines_of,
    parse_line,
    write_unanswered,
)
from yeoul.web_process.batches.line_answers import LineAnswers
from yeoul.web_process.batches.line_turns import LineTurns
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import Caller, ServiceTerms
from yeoul.web_process.http.request_body import ServedBody
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.batches import Batch, BatchError

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

MAX_NUM_LINES = 50_000
_NUM_LINES_AT_A_TIME = 16
_NUM_UNANSWERED_AT_A_TIME = 1000
_TOO_LATE = "This request could not be executed before the completion window expired."


class BatchRun:
    """
    Args:
        context: of the server.
        batch: as it is kept.
        turn: held by the batch of this tenant that runs.
        places: each request of this batch in the engine has one of them, when the batch has its turn.
        others: each of those that do not wait for gaps has one of these, of all batches together.
    """

    def __init__(
        self,
        context: ServerContext,
        batch: Batch,
        turn: asyncio.Lock,
        places: asyncio.Semaphore,
        others: asyncio.Semaphore,
    ) -> None:
        self._context = context
        self._batch = batch
        self._turn = turn
        self._places = places
        self._is_cancelled = asyncio.Event()
        self._others = others
        self._answers = LineAnswers(context, functools.partial(self._make_terms, in_gaps=True), batch.id)
        self._answers_in_time = LineAnswers(context, functools.partial(self._make_terms, in_gaps=False), batch.id)
        self._pending: list[AnsweredLine] = []
        self._writing = asyncio.Lock()

    @property
    def batch_id(self) -> str:
        """Of the batch."""
        return self._batch.id

    def cancel(self) -> None:
        """It is to end; harmless when repeated."""
        self._is_cancelled.set()

    async def run(self) -> None:
        """To its end, or to that of the engine.

        Raises:
            UnavailableError: what is kept cannot be read or written.
        """
        self._batch = await self._context.batches.get(self.batch_id)
        if self._batch.is_finished:
            return
        seconds = self._batch.expires_at - self._context.batches.now()
        working = asyncio.create_task(self._work(), name="answer_batch")
        stopping = asyncio.create_task(self._is_cancelled.wait(), name="wait_for_cancel")
        try:
            waiting = (working, stopping)
            await asyncio.wait(waiting, timeout=max(0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if working.done() and not working.cancelled():
            if isinstance(error := working.exception(), ProcessDeadError):
                return  # the server ends, and another goes on
            if error is not None:
                raise error
        elif self._is_cancelled.is_set():
            await self._write()
            await self._change(status="cancelled", cancelled_at=self._now())
        else:
            await self._expire()
        logger.info("the batch %s is %s", self.batch_id, self._batch.status)

    async def _work(self) -> None:
        if self._batch.status == "validating":
            await self._check()
        if self._batch.status == "in_progress":
            await self._answer_in_turn()
            await self._change(status="finalizing", finalizing_at=self._now())
        if self._batch.status == "finalizing":
            await self._change(status="completed", completed_at=self._now())
        if self._batch.status == "cancelling":
            self.cancel()
            await asyncio.Event().wait()  # until ``run`` ends it

    async def _check(self) -> None:
        checker = LineChecker({self._batch.endpoint}, self._max_body_bytes, MAX_NUM_LINES)

        def check() -> None:
            with self._context.files.open(self._batch.input_file_id) as file:
                checker.check(file, lambda: not self._is_cancelled.is_set())

        await asyncio.to_thread(check)
        if checker.errors:
            errors = [BatchError(error.code, error.message, error.line, error.param) for error in checker.errors]
            await self._change(status="failed", failed_at=self._now(), errors=errors)
        else:
            await self._change(status="in_progress", in_progress_at=self._now(), num_total=checker.num_lines)

    async def _answer_in_turn(self) -> None:
        """After the tenant's batches before it, but for lines that are due."""
        batch = self._batch
        start = batch.created_at if batch.in_progress_at is None else batch.in_progress_at
        turns = LineTurns(start, batch.expires_at, batch.num_total, now=self._context.batches.now, others=self._others)
        has_turn = asyncio.create_task(self._turn.acquire(), name="wait_for_batches")
        try:
            await asyncio.wait({has_turn}, timeout=turns.seconds_left(batch.num_completed + batch.num_failed))
            await self._answer_all(turns, has_turn)
        finally:
            has_turn.cancel()
            await asyncio.gather(has_turn, return_exceptions=True)
            if not has_turn.cancelled():
                self._turn.release()

    async def _answer_all(self, turns: LineTurns, has_turn: asyncio.Task[bool]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                async for index, line in self._unanswered():
                    await asyncio.wait({has_turn}, timeout=turns.seconds_left(index))
                    in_time = functools.partial(self._answers_in_time.answer, line)
                    if has_turn.done():
                        places, in_gaps = self._places, functools.partial(self._answers.answer, line)
                        answer = functools.partial(turns.answer, index, in_gaps, in_time)
                    else:  # not even in gaps, whatever number of batches waits
                        places, answer = self._others, in_time
                    await places.acquire()
                    answering = group.create_task(self._keep(answer), name="answer_line")
                    answering.add_done_callback(functools.partial(_give_back, places))  # also of one that never begins
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # it has ended the others

    async def _keep(self, answer: Callable[[], Awaitable[AnsweredLine]]) -> None:
        answered = await answer()  # meanwhile others are written, and ``_pending`` is another list
        self._pending.append(answered)
        await self._write()

    async def _write(self) -> None:
        """Keeps what is answered; what comes while others are written goes with the next."""
        async with self._writing:
            if self._pending:
                lines, self._pending = self._pending, []
                good = [line.content for line in lines if line.is_good]
                bad = [line.content for line in lines if not line.is_good]
                self._batch = await self._context.batches.add_answers(self.batch_id, good, bad)

    async def _expire(self) -> None:
        """Whoever was not answered in time is told so."""
        await self._write()
        self._batch = await self._context.batches.get(self.batch_id)  # what was just being kept is, whoever waited for it
        if self._batch.status == "in_progress":
            lines: list[bytes] = []
            async for _, line in self._unanswered():
                lines.append(write_unanswered(line.custom_id, self.batch_id, "batch_expired", _TOO_LATE))
                if len(lines) >= _NUM_UNANSWERED_AT_A_TIME:
                    self._batch = await self._context.batches.add_answers(self.batch_id, [], lines)
                    lines = []
            self._batch = await self._context.batches.add_answers(self.batch_id, [], lines)
        await self._change(status="expired", expired_at=self._now())

    async def _unanswered(self) -> AsyncIterator[tuple[int, BatchLine]]:
        """The lines that no file of answers has, as the store has them now, and their places among all."""
        answered = await asyncio.to_thread(self._read_answered)
        index = 0
        with self._context.files.open(self._batch.input_file_id) as file:
            lines = lines_of(file, self._max_body_bytes)
            while some := await asyncio.to_thread(self._parse_some, lines):
                for line in some:
                    if line.custom_id not in answered:
                        yield index, line
                    index += 1

    def _parse_some(self, lines: Iterator[tuple[int, bytes]]) -> list[BatchLine]:
        return [
            parse_line(line, {self._batch.endpoint}, self._max_body_bytes) for _, line in islice(lines, _NUM_LINES_AT_A_TIME)
        ]

    def _read_answered(self) -> set[str]:
        answered: set[str] = set()
        for file_id, num_lines in (
            (self._batch.output_file_id, self._batch.num_completed),
            (self._batch.error_file_id, self._batch.num_failed),
        ):
            if file_id is not None:
                with self._context.files.open(file_id) as file:
                    # What a killed server wrote beyond these it could not note.
                    answered.update(custom_id for custom_id, _ in islice(answered_in(file), num_lines))
        return answered

    def _make_terms(self, body: ServedBody, model: ServedName, *, in_gaps: bool) -> ServiceTerms:
        """As for a request of the same key, whose prefixes it shares, but of a tenant of its own, and without a deadline."""
        tenant = self._batch.tenant
        terms = self._context.terms(Caller(tenant=tenant, route="/v1/batches"), body, model)
        return msgspec.structs.replace(terms, in_gaps=in_gaps, tenant=f"batches of {tenant}", deadline_seconds=None)

    async def _change(self, **changes: object) -> None:
        self._batch = await self._context.batches.change(self.batch_id, **changes)

    def _now(self) -> int:
        return self._context.batches.now()

    @property
    def _max_body_bytes(self) -> int:
        return self._context.settings.server.max_body_bytes


def _give_back(places: asyncio.Semaphore, _: asyncio.Task[None]) -> None:
    places.release()
