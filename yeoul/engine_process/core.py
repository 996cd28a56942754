"""EngineCoreProc: the scheduler, the KV-cache manager, the executor and three threads around queues.

The main thread runs ``run_busy_loop`` and never touches a socket: ``process_input_sockets`` and ``process_output_sockets``
do. Knows nothing of text, HTTP or torch. ``yeoul.engine_process.main`` runs it.
"""

from __future__ import annotations

import logging
import os
import queue
import traceback
from collections import deque
from concurrent.futures import Future

from yeoul import __version__
from yeoul.config.parts import EngineSettings
from yeoul.engine_process.input_sockets import Arrival, ClientGone, InputSockets
from yeoul.engine_process.output_sockets import OutputSockets
from yeoul.errors import ConfigError, InvalidRequestError, ProcessDeadError, YeoulError
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.outputs import (
    EngineDead,
    EngineMessage,
    EngineReady,
    RequestFault,
    RequestOutput,
    StepOutputs,
    UtilityResult,
    WorkerInfo,
)
from yeoul.messages.reports import WorkerReady
from yeoul.messages.requests import AbortRequests, AddRequest, ClientMessage, Hello, Shutdown, UtilityCall
from yeoul.messages.statistics import EngineStatistics
from yeoul.messages.steps import StepInput, StepResult
from yeoul.model_files.description import shape_digest
from yeoul.scheduler.scheduler import Scheduler
from yeoul.transport.curve_keys import load_or_create_keys
from yeoul.transport.sockets import EngineContext
from yeoul.worker_process.executor import Executor

logger = logging.getLogger(__name__)

# A step that follows at once saves some hundred microseconds; where steps take longer than this, that is less than a request
# loses which comes meanwhile and finds the next step full.
_LONG_STEP_SECONDS = 0.03


class EngineCoreProc:
    """Takes requests, schedules, executes, updates, emits; sleeps on its queue while there is no work."""

    def __init__(self, settings: EngineSettings, executor: Executor) -> None:
        self._settings = settings
        self._executor = executor
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._input = InputSockets(self._arrivals)
        self._output = OutputSockets(self._arrivals)
        self._context: EngineContext | None = None
        self._client_id = b""
        self._is_stopping = False
        self._sent_statistics = EngineStatistics()
        self._last_step_seconds = 0.0
        self._in_flight: deque[StepInput] = deque()
        self._gains: list[RequestOutput] = []
        self._has_gains = False
        self._cache: KVCacheManager
        self._scheduler: Scheduler
        self._ready: EngineReady

    def start(self) -> EngineReady:
        """Waits for the workers, allocates the cache, opens the sockets.

        Raises:
            ConfigError: the workers, or the cache that they have room for, cannot work with these settings.
            ProcessDeadError: a worker died.
        """
        workers = self._executor.start(on_death=lambda error: self._arrivals.put((b"", error)))
        num_blocks = self._choose_num_blocks(workers)
        self._executor.allocate_cache(num_blocks)
        cache = self._settings.cache
        self._cache = KVCacheManager(num_blocks, cache.block_size, cache.enable_prefix_caching)
        self._scheduler = Scheduler(self._settings.scheduler, self._cache, self._settings.max_model_len)
        self._ready = EngineReady(
            version=__version__,
            pid=os.getpid(),
            num_blocks=num_blocks,
            block_size=cache.block_size,
            cache_bytes=sum(num_blocks * worker.block_bytes for worker in workers),
            max_model_len=self._settings.max_model_len,
            model_fingerprint=workers[0].model_fingerprint,
            shape_digest=shape_digest(self._settings.description),
            workers=[WorkerInfo(worker.rank, worker.pid, worker.device) for worker in workers],
        )
        self._open_sockets()
        return self._ready

    def _open_sockets(self) -> None:
        link = self._settings.link
        self._context = EngineContext(load_or_create_keys(link.key_file) if link.key_file is not None else None)
        self._output.start(self._context, link.output_address)
        self._input.start(self._context, link.input_address)

    def run_busy_loop(self) -> None:
        """Runs until the client says Shutdown.

        Raises:
            ProcessDeadError: a worker died or hung. The client is told of this, and of whatever else ends the loop.
        """
        try:
            while not self._is_stopping:
                self._start_steps()
                self._emit_gains()
                self._take_arrivals()
        except Exception as error:
            self._emit(_last_words(error))
            raise

    def stop(self) -> None:
        """Ends the workers, sends what is still to be sent, and closes the sockets."""
        self._executor.stop()
        self._input.stop()
        self._output.stop()
        if self._context is not None:
            self._context.close()

    def _start_steps(self) -> None:
        """Hands the workers the next step, and one more to go on with at once; two steps at most are in flight."""
        runs_ahead = self._settings.scheduler.async_scheduling and self._last_step_seconds < _LONG_STEP_SECONDS
        max_num_in_flight = 2 if runs_ahead else 1
        while len(self._in_flight) < max_num_in_flight and (step := self._scheduler.schedule()) is not None:
            self._in_flight.append(step)
            self._executor.execute(step).add_done_callback(self._note_answer)

    def _note_answer(self, answer: Future[StepResult]) -> None:
        """Runs in the thread that collects answers: wakes the busy loop."""
        self._arrivals.put((b"", answer))

    def _take_arrivals(self) -> None:
        """Everything that has arrived; sleeps until something has."""
        if not self._scheduler.has_unfinished:
            self._emit_statistics_if_changed()
        self._take(*self._arrivals.get())
        while not self._arrivals.empty():
            self._take(*self._arrivals.get())

    def _take_answer(self, answer: Future[StepResult]) -> None:
        result = answer.result()
        self._last_step_seconds = result.compute_seconds
        self._gains += self._scheduler.update(self._in_flight.popleft(), result)
        self._has_gains = True

    def _emit_gains(self) -> None:
        """Tells the client what steps have brought; done while the workers compute the next one."""
        if self._has_gains:
            self._sent_statistics = self._scheduler.statistics()
            self._emit(StepOutputs(self._gains, self._sent_statistics))
            self._gains, self._has_gains = [], False

    def _take(self, client_id: bytes, message: ClientMessage | ProcessDeadError | ClientGone | Future[StepResult]) -> None:
        if isinstance(message, Future):
            self._take_answer(message)
            return
        self._emit_gains()  # what comes next may end requests, of which nothing is told afterwards
        if isinstance(message, ProcessDeadError):
            raise message
        if isinstance(message, Hello):
            self._welcome(client_id, message)
        elif isinstance(message, ClientGone):
            if client_id == self._client_id:
                self._scheduler.abort(self._scheduler.unfinished_request_ids)
                self._client_id = b""
        elif client_id != self._client_id:
            logger.warning("dropped a %s of a client that another one has replaced", type(message).__name__)
        elif isinstance(message, AddRequest):
            self._add(message)
        elif isinstance(message, AbortRequests):
            self._scheduler.abort(message.request_ids)
        elif isinstance(message, UtilityCall):
            self._emit(self._answer(message))
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
            logger.exception("request %s could not be added", message.request_id)
            fault = RequestFault(f"the scheduler could not take this request: {error}")
        if fault is not None:
            output = RequestOutput(request_id=message.request_id, finish_reason="error", fault=fault)
            self._emit(StepOutputs([output]))

    def _answer(self, call: UtilityCall) -> UtilityResult:
        """The methods that a client may call, by name; an unknown one is an error in the answer."""
        try:
            if call.method == "ping":
                return UtilityResult(call.call_id, "pong")
            if call.method == "reset_prefix_cache":
                self._cache.reset()
                return UtilityResult(call.call_id)
            if call.method == "collective_rpc":
                return UtilityResult(call.call_id, self._call_workers(call.arguments))
        except YeoulError as error:
            return UtilityResult(call.call_id, error=error.message)
        known = "ping, reset_prefix_cache, collective_rpc"
        return UtilityResult(call.call_id, error=f"EngineCore has no method {call.method!r}; it has {known}")

    def _call_workers(self, arguments: list[str]) -> str:
        """The workers' answers, one a line."""
        if not arguments:
            raise InvalidRequestError("collective_rpc needs the name of the method to call as its first argument")
        answers = self._executor.collective_rpc(arguments[0], arguments[1:])
        if arguments[0] == "reset_cache":
            self._scheduler.requeue_all()  # the workers have forgotten every request and every block
        return "\n".join(answers)

    def _choose_num_blocks(self, workers: list[WorkerReady]) -> int:
        cache = self._settings.cache
        num_blocks = cache.num_blocks_override or min(worker.max_num_blocks for worker in workers)
        if num_blocks * cache.block_size < self._settings.max_model_len:
            raise ConfigError(
                f"the KV cache has room for {num_blocks * cache.block_size} tokens, less than one request of"
                f" max_model_len, {self._settings.max_model_len}: raise --kv-cache-memory-bytes or lower --max-model-len"
            )
        return num_blocks

    def _emit_statistics_if_changed(self) -> None:
        statistics = self._scheduler.statistics()
        if statistics != self._sent_statistics:
            self._sent_statistics = statistics
            self._emit(StepOutputs([], statistics))

    def _emit(self, message: EngineMessage) -> None:
        if self._client_id:
            self._output.put(self._client_id, message)


def _last_words(error: Exception) -> EngineDead:
    if isinstance(error, ProcessDeadError):
        return EngineDead(error.role, error.cause, error.details, error.exit_code)
    cause = f"failed with {type(error).__name__}: {error}"
    return EngineDead("EngineCore", cause, "".join(traceback.format_exception(error)))
