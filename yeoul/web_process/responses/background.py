"""BackgroundResponses: answers that go on without a connection, and go on where they were after the server was killed.

A request is kept before its id is told, with its seed, and now and then the tokens that were made. The next server hands it
in again behind those: the same request has the same answer, and its events follow from its tokens. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from yeoul.errors import BusyError, ProcessDeadError, RequestFailedError, UnavailableError, YeoulError
from yeoul.messages.outputs import RequestOutput, TokenLogprobs
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import Caller, ServiceTerms
from yeoul.web_process.http.error_responses import foreseen
from yeoul.web_process.responses.event_log import EventLog
from yeoul.web_process.responses.kept_responses import KeptResponses
from yeoul.web_process.responses.new_responses import StartedResponse, kept_answer, start_response
from yeoul.web_process.responses.response_format import CacheUse
from yeoul.web_process.responses.response_object import Counts, ResponseName, ResponseObject
from yeoul.web_process.responses.response_writer import ResponseWriter
from yeoul.web_process.responses.schemas.input_items import InputItem
from yeoul.web_process.responses.schemas.response_request import ResponseRequest
from yeoul.web_process.responses.tool_names import ToolNames
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.response_table import KeptResponse, Maker

logger = logging.getLogger(__name__)

_Got = TypeVar("_Got")

_SECONDS_BETWEEN_NOTES = 0.5
_NUM_DELTAS_AT_A_TIME = 64
_MAX_NUM_STARTS = 10  # without any token between them


class BackgroundRequest(msgspec.Struct, kw_only=True):
    """What is needed to make the answer once more. ``items`` are all that the model is told; the seed is in the body."""

    body: ResponseRequest
    items: list[InputItem]
    num_bytes: int
    model: str
    fingerprint: str
    created_at: int


class _Made(msgspec.Struct, array_like=True):
    """What was made since the last note."""

    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] = []
    num_cached_tokens: int = 0
    num_written_tokens: int = 0

    def outputs(self) -> list[RequestOutput]:
        """A token each, as the engine told them."""
        logprobs = [[entry] for entry in self.logprobs] or [[]] * len(self.token_ids)
        return [
            RequestOutput(request_id="", new_token_ids=[token_id], new_logprobs=entry)
            for token_id, entry in zip(self.token_ids, logprobs, strict=True)
        ]

    def take(self, output: GenerationOutput, num_left: int) -> int:
        """Adds what a delta has behind the next ``num_left`` tokens, which are kept already; how many are left of these."""
        num_new = max(0, len(output.token_ids) - num_left)
        if num_new:
            self.token_ids += output.token_ids[-num_new:]
            self.logprobs += output.logprobs[-num_new:]
        return max(0, num_left - len(output.token_ids))


def _read_notes(packed: Sequence[bytes]) -> tuple[list[_Made], list[RequestOutput]]:
    """What was noted of a response, and all that was made of it."""
    notes = [msgspec.msgpack.decode(note, type=_Made) for note in packed]
    return notes, [output for note in notes for output in note.outputs()]


class BackgroundRun:
    """One that is being made, here and now. ``started`` is None while it waits to be taken up again."""

    def __init__(self, kept: KeptResponse, request: BackgroundRequest, response: ResponseObject) -> None:
        self.kept = kept
        self.request = request
        self.response = response
        self.log = EventLog()
        self.started: StartedResponse | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_cancelled = asyncio.Event()

    def now(self) -> bytes:
        """The object as it is."""
        return self.response.as_json([], None) if self.started is None else self.started.answer.now()

    async def cancel(self) -> None:
        """It ends with what it has; returns when that is kept."""
        self.is_cancelled.set()
        if self.started is not None:
            self.started.stream.close()
        if self.task is not None:
            await asyncio.wait([self.task])


class BackgroundResponses:
    """All of one server."""

    def __init__(self, context: ServerContext, kept: KeptResponses) -> None:
        self._context = context
        self._kept = kept
        self._runs: dict[str, BackgroundRun] = {}
        self._is_suspended = False
        siblings = context.siblings
        self._maker = None if siblings.folder is None else Maker(siblings.folder, siblings.index)

    def find(self, owner: str, response_id: str) -> BackgroundRun | None:
        """The owner's run of this id, if it runs."""
        run = self._runs.get(response_id)
        return run if run is not None and run.kept.owner == owner else None

    async def start(
        self, kept: KeptResponse, request: BackgroundRequest, response: ResponseObject, model: ServedName, terms: ServiceTerms
    ) -> BackgroundRun:
        """Hands it in, keeps it, and lets it run. Errors as for ``AsyncLLM.submit``: then nothing is kept."""
        if self._is_suspended:
            raise UnavailableError("the server is stopping and takes no new requests; try again later", retry_after_seconds=5)
        run = BackgroundRun(kept, request, response)
        run.started = await start_response(model, response, request.items, request.num_bytes, terms, made=[])
        try:
            await self._kept.responses.add(kept, self._maker)
        except BaseException:
            run.started.stream.close()
            raise
        self._begin(run, is_resumed=False)
        return run

    async def resume(self) -> None:
        """Takes up what an earlier server had begun, or an earlier process in this place. The engine is ready."""
        for kept in await self._kept.responses.unfinished(self._maker):
            if kept.id in self._runs:  # it came just now
                continue
            try:
                request = msgspec.json.decode(kept.request or b"", type=BackgroundRequest)
                self._context.fleet.find(request.model)
                sampling = request.body.to_sampling(SamplingDefaults())  # until the model is there
            except (msgspec.MsgspecError, YeoulError) as error:
                logger.warning("response %s cannot go on: %s", kept.id, error)
                unknown = ResponseObject(ResponseName.of_id(kept.id), ResponseRequest(input="-"), "", SamplingParams())
                await self._end_unstarted(kept, unknown, "failed", RequestFailedError(f"it cannot go on: {error}"))
                continue
            response = _queued(kept, request, sampling)
            self._begin(BackgroundRun(kept, request, response), is_resumed=True)
            logger.info("response %s goes on in the background", kept.id)

    async def suspend(self) -> None:
        """The server stops: what runs is left to the next one. What is in memory alone goes on, for as long as it may."""
        if not self._context.database.lasts:
            return
        self._is_suspended = True
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, run: BackgroundRun, *, is_resumed: bool) -> None:
        self._runs[run.kept.id] = run
        run.task = asyncio.create_task(self._run(run, is_resumed), name="background_response")

    async def _run(self, run: BackgroundRun, is_resumed: bool) -> None:
        """Whatever ends it, the response has an end, unless the server stops: then the next one goes on."""
        try:
            if is_resumed:
                await self._take_up(run)
            if run.started is None:
                await self._end_unstarted(run.kept, run.response, "cancelled", None, run.log)
            else:
                await self._make(run, run.started)
        except asyncio.CancelledError:
            if not self._is_suspended:
                raise
        except ProcessDeadError as error:
            if not self._context.database.lasts:  # else the next server goes on
                await self._fail(run, error)
        except Exception as error:
            if not isinstance(error, YeoulError):
                logger.exception("response %s failed", run.kept.id)
            await self._fail(run, foreseen(error))
        finally:
            if run.started is not None:
                run.started.stream.close()
            self._runs.pop(run.kept.id, None)
            run.log.complete()

    async def _take_up(self, run: BackgroundRun) -> None:
        """Hands it in behind what was made of it; waits for as long as its model is not there, or has no room."""
        responses, request = self._kept.responses, run.request
        model = await _repeat(run, lambda: self._loaded(request.model))
        if model is None:
            return
        if await responses.note_start(run.kept.id) > _MAX_NUM_STARTS:
            raise RequestFailedError(f"the response was begun {_MAX_NUM_STARTS} times, and each time the server ended")
        notes, made = await asyncio.to_thread(_read_notes, await responses.progress(run.kept.id))
        if model.system_fingerprint != request.fingerprint:
            raise RequestFailedError("the server was started with another model or version before the response was complete")
        run.response = _queued(run.kept, request, self._context.to_sampling(request.body, model))

        def start() -> Awaitable[StartedResponse]:
            terms = self._context.terms(Caller(tenant=run.kept.owner, route="/v1/responses"), request.body, model)
            return start_response(model, run.response, request.items, request.num_bytes, terms, made=made)

        run.started = await _repeat(run, start)
        if run.started is not None and notes:
            run.started.answer.cache_use = CacheUse(notes[0].num_cached_tokens, notes[0].num_written_tokens)
        if run.started is not None and run.is_cancelled.is_set():  # while it was handed in
            run.started.stream.close()

    async def _loaded(self, name: str) -> ServedName:
        fleet = self._context.fleet
        if not fleet.is_open(fleet.find(name)):
            raise UnavailableError(f"the model {name!r} is not loaded yet", retry_after_seconds=1)
        model = await self._context.find_model(name)
        await fleet.until_loaded(model.llm)
        return model

    async def _make(self, run: BackgroundRun, started: StartedResponse) -> None:
        """Reads the stream to its end, writes events, and keeps what was made."""
        answer, made, num_left, noted = started.answer, _Made(), started.num_replayed, time.monotonic()
        with contextlib.suppress(StopAsyncIteration):
            while True:
                for index, output in enumerate(await started.stream.next_batch(), start=1):
                    run.log.add(answer.events(output))
                    num_left = made.take(output, num_left)
                    if index % _NUM_DELTAS_AT_A_TIME == 0:
                        await asyncio.sleep(0)
                await run.log.pack()
                if made.token_ids and not answer.is_over and time.monotonic() >= noted + _SECONDS_BETWEEN_NOTES:
                    made.num_cached_tokens, made.num_written_tokens = answer.cache_use or (0, 0)
                    await self._kept.responses.note_progress(run.kept.id, msgspec.msgpack.encode(made))
                    made, noted = _Made(), time.monotonic()
        answer.finish()
        await self._keep(kept_answer(run.kept, answer), run.log, answer.closing())

    async def _keep(self, kept: KeptResponse, log: EventLog, closing: bytes) -> None:
        """The answer is kept before anybody sees its end: a server that is killed in between would write another one."""
        await self._kept.keep(kept, events=await log.packed(closing))
        log.add(closing)

    async def _fail(self, run: BackgroundRun, error: YeoulError) -> None:
        try:
            if run.started is None:
                await self._end_unstarted(run.kept, run.response, "failed", error, run.log)
            else:
                closing = run.started.answer.failure(error)
                await self._keep(kept_answer(run.kept, run.started.answer), run.log, closing)
        except YeoulError:
            logger.exception("that response %s failed could not be kept", run.kept.id)

    async def _end_unstarted(
        self, kept: KeptResponse, response: ResponseObject, status: str, error: YeoulError | None, log: EventLog | None = None
    ) -> None:
        """Of one that could not be taken up again."""
        writer = ResponseWriter(response, ToolNames(()))
        events = writer.begin()
        response.status, response.error = status, error
        events += writer.end(Counts(), is_whole=False)
        ended = msgspec.structs.replace(kept, answer=writer.object(None), output=b"[]", conversation_id=None)
        await self._keep(ended, log or EventLog(), events)


def _queued(kept: KeptResponse, request: BackgroundRequest, sampling: SamplingParams) -> ResponseObject:
    """One that is to be taken up again."""
    name = ResponseName.of_id(kept.id)
    return ResponseObject(name, request.body, request.model, sampling, request.created_at, status="queued")


async def _repeat(run: BackgroundRun, attempt: Callable[[], Awaitable[_Got]]) -> _Got | None:
    """What comes of it once nobody says that it is to be tried again later; None where the run is cancelled before."""
    while not run.is_cancelled.is_set():
        try:
            return await attempt()
        except BusyError as error:
            if error.is_final:
                raise
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.is_cancelled.wait(), error.retry_after_seconds)
    return None
