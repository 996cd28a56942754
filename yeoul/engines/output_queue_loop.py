"""OutputQueueLoop: the asyncio task that receives what the engine sends and hands each request its own.

Knows nothing of HTTP; never holds the loop for long: it gives way after every few dozen requests. ``EngineSlot`` starts it.
"""

from __future__ import annotations

import asyncio
import logging
import time

from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_recovery import EngineRecovery
from yeoul.engines.engine_requests import EngineRequests
from yeoul.errors import GivenUpError, ProcessDeadError, RequestFailedError
from yeoul.log import of_request
from yeoul.messages.keeper import KeeperNews
from yeoul.messages.outputs import EngineDead, RequestOutput, StepOutputs, WorkersLost, WorkersReplaced
from yeoul.messages.requests import AbortRequests
from yeoul.spans import SPANS

logger = logging.getLogger(__name__)

# About a millisecond of work; then whoever waits on the loop has its turn.
_NUM_OUTPUTS_AT_A_TIME = 32


class OutputQueueLoop:
    """Feeds the requests of an engine and takes out those that are done; tells ``recovery`` of deaths, and of progress."""

    def __init__(self, engine: AsyncMPClient, requests: EngineRequests, recovery: EngineRecovery) -> None:
        self._engine = engine
        self._requests = requests
        self._recovery = recovery
        self.last_heard = time.monotonic()
        self._num_handed_out = 0
        self._spans, self._write_spans = SPANS.row("OutputQueueLoop"), SPANS.row("streams")
        self._written_until = 0.0

    async def run(self) -> None:
        """Runs until an engine dies for good or the task is cancelled; what cannot be handled counts as its death."""
        is_alive = True
        while is_alive:
            try:
                death = await self._feed()
            except ProcessDeadError as error:
                death = error
            except Exception as error:
                logger.exception("what the engine sent cannot be handled")
                death = ProcessDeadError(self._engine.name, f"sent something that cannot be handled: {error}")
            is_alive = await self._recovery.heal(self._engine, death)

    async def _feed(self) -> ProcessDeadError:
        while True:
            message = await self._engine.receive()
            self.last_heard = time.monotonic()
            if isinstance(message, StepOutputs):
                await self._take(message)
            elif isinstance(message, EngineDead):
                kind = GivenUpError if message.is_final else ProcessDeadError
                role = self._engine.name if message.role == "EngineCore" else message.role
                return kind(role, message.cause, exit_code=message.exit_code, details=message.details)
            elif isinstance(message, KeeperNews):
                self._recovery.take_news(message)
            elif isinstance(message, WorkersLost | WorkersReplaced):
                self._recovery.note_workers(self._engine, message)

    async def _take(self, message: StepOutputs) -> None:
        if message.statistics is not None:
            self._requests.take_statistics(message.statistics)
        self._requests.note_begun(message.begun)
        self._requests.observer.stepped(message)
        outputs = message.outputs
        for start in range(0, len(outputs), _NUM_OUTPUTS_AT_A_TIME):
            part = outputs[start : start + _NUM_OUTPUTS_AT_A_TIME]
            self._num_handed_out += len(part)
            if self._num_handed_out > _NUM_OUTPUTS_AT_A_TIME:  # one large step, or a backlog of small ones
                await asyncio.sleep(0)
                self._num_handed_out = len(part)
            if self._spans.is_on:
                self._hand_out_noted(part, message.steps[-1].number if message.steps else -1)
            else:
                self._hand_out(part)

    def _hand_out_noted(self, outputs: list[RequestOutput], step: int) -> None:
        """And those that are woken by it have their turn before ``note_writing`` has its own."""
        began = time.monotonic()
        self._hand_out(outputs)
        handed_out = time.monotonic()
        self._spans.note("hand out", began, handed_out, step, len(outputs), sum(len(one.new_token_ids) for one in outputs))

        def note_writing() -> None:
            now, began = time.monotonic(), max(handed_out, self._written_until)
            self._write_spans.note("woken streams", began, now, step, len(outputs))
            self._written_until = now

        asyncio.get_running_loop().call_soon(note_writing)

    def _hand_out(self, outputs: list[RequestOutput]) -> None:
        """An error while handling one request fails that request alone."""
        now = time.monotonic()
        complete: list[str] = []  # by a stop string, which the engine does not see
        failed: list[str] = []
        finished, kept = [], []
        gaps: dict[float, int] = {}
        for output in outputs:
            state = self._requests.states.get(output.request_id)
            if state is None or output.turn != state.turn:
                continue
            ended_here = complete
            try:
                is_done = state.apply(output, now, gaps)
            except Exception:
                logger.exception("the output of this request cannot be handled", extra=of_request(output.request_id))
                state.fail(RequestFailedError("the answer could not be turned into text; the server's log tells more"), now)
                is_done, ended_here = True, failed
            if is_done:
                finished.append(self._requests.take_out(output.request_id))
                if output.finish_reason is None:
                    ended_here.append(output.request_id)
            elif output.is_kept:
                kept.append(output.request_id)
        self._recovery.note_outputs(outputs)
        self._requests.note_outputs(outputs, finished)
        for seconds, num_tokens in gaps.items():
            self._requests.token_gaps.add(seconds, num_tokens)
        if complete:
            self._engine.send(AbortRequests(complete, are_complete=True))
        if failed:
            self._engine.send(AbortRequests(failed))
        if kept:
            self._requests.hand_on(kept)
