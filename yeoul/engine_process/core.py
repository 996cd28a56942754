"""EngineCoreProc: the scheduler, the KV-cache manager, the executor and three threads around queues.

The main thread runs ``run_busy_loop`` and never touches a socket: ``process_input_sockets`` and ``process_output_sockets``
do. Knows nothing of text, HTTP or torch. ``yeoul.engine_process.main`` runs it.
"""

from __future__ import annotations

import logging
import os
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import msgspec

from yeoul import __version__
from yeoul.config.parts import EngineSettings
from yeoul.engine_process.input_sockets import Arrival, CallAnswer, ClientGone, FromWorkers, InputSockets, Unreadable
from yeoul.engine_process.kv_events import KVEvents
from yeoul.engine_process.looks import Looks
from yeoul.engine_process.output_sockets import OutputSockets
from yeoul.engine_process.step_log import StepLog
from yeoul.engine_process.successors import infos_of
from yeoul.engine_process.tier_place import NOWHERE
from yeoul.engine_process.utility_calls import UtilityCalls
from yeoul.engine_process.workforce import Workforce
from yeoul.errors import GivenUpError, InvalidRequestError, ProcessDeadError
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.log import of_request
from yeoul.messages.outputs import (
    EngineDead,
    EngineMessage,
    EngineReady,
    RequestFault,
    RequestOutput,
    StepFacts,
    StepOutputs,
    WorkersLost,
    WorkersReplaced,
)
from yeoul.messages.requests import AbortRequests, AddRequest, AddRequestHead, ClientMessage, Hello, Shutdown, UtilityCall
from yeoul.messages.statistics import EngineStatistics
from yeoul.messages.steps import StepInput, StepResult
from yeoul.model_files.description import shape_digest
from yeoul.recovery.recovery_report import record_incident
from yeoul.scheduler.scheduler import Scheduler
from yeoul.self_report import Child
from yeoul.transport.curve_keys import load_or_create_keys
from yeoul.transport.sockets import EngineContext
from yeoul.worker_process.executor import Executor

logger = logging.getLogger(__name__)

# A step that follows at once saves some hundred microseconds; where steps take longer than this, that is less than a request
# loses which comes meanwhile and finds the next step full.
_LONG_STEP_SECONDS = 0.03
_STEP_PATIENCE = 20  # times what a step should take


class EngineCoreProc:
    """Takes requests, schedules, executes, updates, emits; sleeps on its queue while there is no work.

    Workers that die are replaced (``Workforce``): ``executor`` is one use of them, ``make_executor`` makes the next.
    """

    def __init__(self, settings: EngineSettings, executor: Executor, make_executor: Callable[[], Executor]) -> None:
        self._settings = settings
        self._workforce = Workforce(settings, executor, make_executor, self._note_death)
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._output = OutputSockets(self._arrivals)
        self._context: EngineContext | None = None
        self._client_id = b""
        self._is_stopping = False
        self._thread_death: ProcessDeadError | None = None  # of a thread of this process: nobody can be served without it
        self._sent_statistics = EngineStatistics()
        self._last_step_seconds = 0.0
        self._in_flight: deque[StepInput] = deque()
        self._step_log = StepLog()
        looks = Looks(
            self._output, self._arrivals, self._step_log, lambda: self._workforce.executor, lambda: self._client_id, settings
        )
        self._input = InputSockets(self._arrivals, looks.take)
        self._gains: list[RequestOutput] = []
        self._begun: list[str] = []
        self._steps: list[StepFacts] = []
        self._kv_events = KVEvents(settings.cache, settings.place.index)
        self._calls: UtilityCalls
        self._cache: KVCacheManager
        self._scheduler: Scheduler
        self._ready: EngineReady

    @property
    def workers(self) -> Sequence[Child]:
        """The workers of now, for whoever asks them something beside their work."""
        return self._workforce.executor.workers

    def start(self) -> EngineReady:
        """Waits for the workers, allocates the cache, opens the sockets.

        Raises:
            ConfigError: the workers, or the cache that they have room for, cannot work with these settings.
            ProcessDeadError: a worker failed, or was killed too often.
        """
        self._kv_events.start()
        workers, step_budget = self._workforce.start()
        self._settings = settings = self._workforce.settings
        num_blocks, cache = self._workforce.num_blocks, settings.cache
        num_leased = int(cache.prefix_lease_share * num_blocks)
        prefixes, events = cache.enable_prefix_caching, self._kv_events.of_new_cache()
        self._cache = KVCacheManager(num_blocks, cache.block_size, prefixes, num_leased, events)
        self._scheduler = Scheduler(
            settings.scheduler,
            self._cache,
            settings.max_model_len,
            settings.description.vocab_size,
            step_budget=step_budget,
            moves=self._workforce.tier.moves(self._cache),
            num_stages=self._workforce.executor.num_stages,
        )
        self._calls = UtilityCalls(self._scheduler, self._arrivals, settings.worker_name)
        self._ready = EngineReady(
            version=__version__,
            pid=os.getpid(),
            num_blocks=num_blocks,
            block_size=cache.block_size,
            cache_bytes=sum(num_blocks * worker.block_bytes for worker in workers),
            max_model_len=self._settings.max_model_len,
            model_fingerprint=workers[0].model_fingerprint,
            shape_digest=shape_digest(self._settings.description),
            workers=infos_of(workers),
            kv_events=self._kv_events.source,
        )
        self._open_sockets()
        return self._ready

    def _note_death(self, executor: Executor, death: ProcessDeadError) -> None:
        """Of workers; runs in the thread that has seen it."""
        self._arrivals.put((b"", FromWorkers(executor, death)))

    def _open_sockets(self) -> None:
        link = self._settings.link
        keys = load_or_create_keys(link.key_file) if link.key_file is not None else None
        self._context = EngineContext(keys, on_failure=lambda death: self._arrivals.put((b"", death)))
        self._output.start(self._context, link.output_address)
        self._input.start(self._context, link.input_address)

    def run_busy_loop(self) -> None:
        """Runs until the client says Shutdown.

        Raises:
            GivenUpError: the workers died again and again. The client is told of this, and of whatever else ends the loop.
        """
        try:
            while not self._is_stopping:
                try:
                    if self._arrivals.empty():  # while workers were replaced, clients may have left
                        self._start_steps()
                        self._emit_gains()
                    self._kv_events.publish()
                    self._take_arrivals()
                except ProcessDeadError as death:  # the workers of now died or hang
                    self._replace_workers(death)
            if self._thread_death is not None:
                raise self._thread_death
        except Exception as error:
            if not isinstance(error, ProcessDeadError):  # of ours, maybe over a request that no step has been made of yet
                self._begun += self._scheduler.computable_request_ids
                self._emit_gains()
            self._emit(_last_words(error))
            raise

    def _replace_workers(self, death: ProcessDeadError) -> None:
        """Whatever ran waits for other workers, which are started, again if need be, before anything else is done."""
        start = time.monotonic()
        self._emit_gains()
        self._in_flight.clear()
        self._calls.num_under_way = 0
        settings, requests = self._settings, self._scheduler.requests_in_flight()
        record_incident(settings, settings.max_model_len, death, requests, self._step_log.records())
        self._step_log.note_loss()
        while True:
            outputs, verdict = self._scheduler.note_crash(death.message)
            if outputs:  # first: whoever is to blame has failed before others are given what was here
                self._emit(StepOutputs(outputs, engine=settings.place.index))
            suspect_ids = self._scheduler.suspect_ids
            self._emit(WorkersLost(death.role, death.cause, death.exit_code, suspect_ids))  # a sign of life, too
            self._kv_events.publish()
            try:
                workers = self._workforce.replace(death, verdict)
                break
            except GivenUpError:
                raise
            except ProcessDeadError as error:
                death = error
        if self._workforce.tier is NOWHERE:
            self._scheduler.lose_tier()
        seconds = time.monotonic() - start
        logger.info("new workers have taken over after %.1f s", seconds)
        self._ready = msgspec.structs.replace(self._ready, workers=infos_of(workers))
        self._emit(WorkersReplaced(self._ready.workers, seconds))

    def stop(self) -> None:
        """Ends the workers, sends what is still to be sent, and closes the sockets."""
        self._workforce.stop()
        self._kv_events.stop()
        self._input.stop()
        self._output.stop()
        if self._context is not None:
            self._context.close()

    def _start_steps(self) -> None:
        """Hands the workers the next step: in a pipeline one a stage, else maybe one more to go on with at once."""
        runs_ahead = self._settings.scheduler.async_scheduling and self._last_step_seconds < _LONG_STEP_SECONDS
        max_num_in_flight = self._workforce.executor.num_stages + runs_ahead if not self._calls.num_under_way else 0
        while len(self._in_flight) < max_num_in_flight:
            since = time.monotonic()
            if (step := self._scheduler.schedule()) is None:
                break
            self._in_flight.append(step)
            limit = self._limit_of(step)
            self._step_log.note_step(step, limit, since)
            answer = self._workforce.executor.execute(step, limit)
            self._step_log.note_sent(step)
            answer.add_done_callback(partial(self._note_answer, self._workforce.executor))
            self._begun += [new.request_id for new in step.new_requests]

    def _limit_of(self, step: StepInput) -> float:
        """Seconds that this step may take before the workers count as hanging."""
        times, expected = self._settings.time, self._scheduler.longest_seconds(step)
        if expected is None:
            return times.step_timeout_seconds
        return min(times.step_timeout_seconds, times.min_step_timeout_seconds + _STEP_PATIENCE * expected)

    def _note_answer(self, executor: Executor, answer: Future[StepResult]) -> None:
        """Runs in the thread that collects answers: wakes the busy loop."""
        self._arrivals.put((b"", FromWorkers(executor, answer)))

    def _take_arrivals(self) -> None:
        """Everything that has arrived; sleeps until something has."""
        if not self._scheduler.has_unfinished:
            self._emit_statistics_if_changed()
        self._take(*self._arrivals.get())
        while not self._arrivals.empty():
            self._take(*self._arrivals.get())

    def _take_from_workers(self, executor: Executor, event: Future[StepResult] | CallAnswer | ProcessDeadError) -> None:
        """What workers leave behind that have been replaced changes nothing; whoever called them is told, if still there.

        Raises:
            ProcessDeadError: the workers of now have died, or are of no more use.
        """
        if isinstance(event, CallAnswer) and event.client_id == self._client_id:
            self._emit(self._calls.result_of(event))
        if executor is not self._workforce.executor:
            return
        if isinstance(event, ProcessDeadError):
            raise event
        if isinstance(event, CallAnswer):
            self._calls.finish(event)
            return
        result, returned_at = event.result(), time.monotonic()
        step = self._in_flight.popleft()
        gains = self._scheduler.update(step, result)
        facts = self._step_log.note_result(step, result, len(gains), returned_at)
        if step.scheduled:  # others only move blocks
            self._last_step_seconds = result.compute_seconds
            self._steps.append(facts)
        if gains and (gains[0].fault is None or any(gain.fault is None for gain in gains)):
            self._workforce.note_progress()
        self._gains += gains

    def _emit_gains(self) -> None:
        """Tells the client what steps have brought; done while the workers compute the next one."""
        if self._steps or self._begun:
            self._sent_statistics = self._scheduler.statistics()
            gains, now, number = self._gains, time.monotonic(), self._settings.place.index
            self._emit(StepOutputs(gains, self._sent_statistics, self._begun, self._steps, now, number))
            self._gains, self._begun, self._steps = [], [], []

    def _take(
        self, client_id: bytes, message: ClientMessage | ProcessDeadError | ClientGone | Unreadable | FromWorkers
    ) -> None:
        if isinstance(message, FromWorkers):
            self._take_from_workers(message.executor, message.event)
            return
        self._emit_gains()  # what comes next may end requests, of which nothing is told afterwards
        if isinstance(message, ProcessDeadError):
            self._is_stopping, self._thread_death = True, message
        elif isinstance(message, Hello):
            self._welcome(client_id, message)
        elif isinstance(message, ClientGone):
            if client_id == self._client_id:
                self._scheduler.abort(self._scheduler.unfinished_request_ids)
                self._client_id = b""
        elif client_id != self._client_id:
            logger.warning("dropped a %s of a client that another one has replaced", type(message).__name__)
        elif isinstance(message, AddRequest):
            self._add(message)
        elif isinstance(message, Unreadable):
            self._refuse(message.head, RequestFault(message.reason, InvalidRequestError.status))
        elif isinstance(message, AbortRequests):
            self._scheduler.abort(message.request_ids, are_complete=message.are_complete)
        elif isinstance(message, UtilityCall):
            if (result := self._calls.answer(client_id, message, self._workforce.executor)) is not None:
                self._emit(result)
        elif isinstance(message, Shutdown):
            self._is_stopping = True

    def _welcome(self, client_id: bytes, hello: Hello) -> None:
        """A new client takes the place of an earlier one, which is told so: its requests are given up."""
        if hello.version != __version__:
            cause = f"speaks version {__version__}, the client {hello.version}; install the same version on both sides"
            self._output.put(client_id, EngineDead("EngineCore", cause))
            return
        if client_id != self._client_id:
            self._emit(EngineDead("EngineCore", "serves another web process now, which came later with the same keys"))
        self._scheduler.abort(self._scheduler.unfinished_request_ids)
        self._client_id = client_id
        self._emit(self._ready)

    def _add(self, message: AddRequest) -> None:
        try:
            fault = self._scheduler.add(message)
        except Exception as error:
            logger.exception("this request could not be added", extra=of_request(message.request_id))
            fault = RequestFault(f"the scheduler could not take this request: {error}")
        if fault is not None:
            self._refuse(message, fault)

    def _refuse(self, request: AddRequest | AddRequestHead, fault: RequestFault) -> None:
        refusal = RequestOutput(request_id=request.request_id, finish_reason="error", fault=fault, turn=request.turn)
        self._emit(StepOutputs([refusal], engine=self._settings.place.index))

    def _emit_statistics_if_changed(self) -> None:
        statistics = self._scheduler.statistics()
        if statistics != self._sent_statistics:
            self._sent_statistics = statistics
            self._emit(StepOutputs([], statistics, engine=self._settings.place.index))

    def _emit(self, message: EngineMessage) -> None:
        if self._client_id:
            self._output.put(self._client_id, message)


def _last_words(error: Exception) -> EngineDead:
    if isinstance(error, ProcessDeadError):
        return EngineDead(error.role, error.cause, error.details, error.exit_code, isinstance(error, GivenUpError))
    cause = f"failed with {type(error).__name__}: {error}"
    return EngineDead("EngineCore", cause, "".join(traceback.format_exception(error)))
