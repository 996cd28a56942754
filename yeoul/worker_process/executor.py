"""The executor: what EngineCore holds of its workers; it starts them, hands every step to all, and collects the answers.

Imports no torch: it runs in EngineCore. ``EngineCoreProc`` is its only caller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from yeoul.config.parts import EngineSettings, WorkerSettings
from yeoul.descriptors import allow_descriptors
from yeoul.errors import MachineError, ProcessDeadError, TransportClosedError, TransportError, TransportTimeoutError
from yeoul.messages.reports import WorkerReady
from yeoul.messages.steps import (
    AllocateCache,
    CallResult,
    EndWorker,
    StepInput,
    StepResult,
    TierFiles,
    WorkerCall,
    WorkerMessage,
    join_results,
)
from yeoul.transport.channel import ChannelReader, ChannelWriter, open_broadcast, open_inbound
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import LOOK_SECONDS, StopLook, read_ready
from yeoul.transport.death_watch import DeathWatch
from yeoul.transport.private_folder import PrivateFolder
from yeoul.transport.thread_names import set_thread_name
from yeoul.worker_process.arguments import WorkerArguments
from yeoul.worker_process.exchange_memory import ExchangeMemory
from yeoul.worker_process.workers_report import WorkersReport, report_on

logger = logging.getLogger(__name__)

_NUM_OWN_DESCRIPTORS = 256
_NUM_DESCRIPTORS_A_WORKER = 24  # rings, overflow sockets, pipes, a pidfd; and what a start needs besides
_OVERSLEPT_SECONDS = 1.0  # a wait that takes so much longer than it was to: this process itself was stopped meanwhile
_IDLE_LOOK_SECONDS = 1.0  # after so long a rest it is looked whether a question has been asked meanwhile
DeathCallback = Callable[[ProcessDeadError], None]


class Executor(Protocol):
    """What EngineCoreProc needs of whatever computes: workers on this machine, or on many."""

    @property
    def workers(self) -> list[ChildProcess]:
        """Those that run on this machine, as their parent holds them, for questions beside their work."""
        ...

    def spawn(self) -> None:
        """Starts the workers and returns at once."""
        ...

    def start(self, on_death: DeathCallback) -> list[WorkerReady]:
        """Waits until every worker is ready; later, ``on_death`` is called from another thread if one dies."""
        ...

    def allocate_cache(self, num_blocks: int, tier: TierFiles | None) -> None:
        """Allocates a KV cache of ``num_blocks`` blocks on every worker, over this tier."""
        ...

    def execute(self, step: StepInput, limit_seconds: float) -> Future[StepResult]:
        """Hands the step to all workers; the future fails with ProcessDeadError, also when it takes longer than that."""
        ...

    def collective_rpc(self, method: str, arguments: list[str]) -> Future[list[CallResult]]:
        """Calls a method on every worker; the answers come in rank order, behind those to the steps in flight."""
        ...

    def look(self) -> WorkersReport:
        """The workers, and what crosses to and from them, as they are now; from any thread."""
        ...

    def stop(self, *, at_once: bool = False) -> None:
        """Ends every worker, ``at_once`` without a word; none is left when it returns."""
        ...


class MultiprocWorkerMonitor(DeathWatch):
    """The thread in EngineCore that sleeps on the workers' sentinels."""

    thread_name = "MultiprocWorkerMonitor"


@dataclass(frozen=True, slots=True)
class _Question:
    """A step or a call of this number that the workers are to answer, ``limit_seconds`` after it is the oldest.

    ``future`` gets a step's StepResult of rank 0, or the CallResults of all ranks. ``time`` is of the monotonic clock.
    """

    number: int
    is_step: bool
    future: Future[Any]
    limit_seconds: float
    time: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        return f"{'step' if self.is_step else 'call'} {self.number}"

    def is_answered_by(self, answer: StepResult | CallResult) -> bool:
        """Whether this is the answer, and not what an abandoned question left behind."""
        if isinstance(answer, StepResult):
            return self.is_step and answer.step_number == self.number
        return not self.is_step and answer.call_id == self.number


class MultiprocExecutor:
    """One worker process a rank on this machine: a broadcast ring out, and one ring a worker back.

    Questions (steps and calls) are answered in the order in which they were asked. The thread of ``mp_exec_io`` waits for
    answers from start to stop, rather than being woken for each.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(WorkerMessage)
        self._workers: list[ChildProcess] = []
        self._ready: list[WorkerReady] = []
        self._ready_at = 0.0  # of the wall clock
        self._readers: list[ChannelReader] = []
        self._writer: ChannelWriter | None = None
        self._folder: PrivateFolder | None = None
        self._exchange: ExchangeMemory | None = None
        self._pool = ThreadPoolExecutor(1, "mp_exec_io", initializer=lambda: set_thread_name("mp_exec_io_0"))
        self._monitor: MultiprocWorkerMonitor | None = None
        self._questions: deque[_Question] = deque()
        self._last_call_id = 0
        self._last_answer_time = 0.0
        self._death: ProcessDeadError | None = None
        self._failure: ProcessDeadError | None = None

    @property
    def workers(self) -> list[ChildProcess]:
        """All of them, dead ones as well."""
        return self._workers

    def spawn(self) -> None:
        """Starts the worker processes and returns at once. Call it from a thread that lives as long as the process."""
        settings, size = self._settings, self._settings.parallel.tensor_parallel_size
        num_slots, slot_bytes = settings.transport.ring_num_slots, settings.transport.ring_slot_bytes
        allow_descriptors(_NUM_OWN_DESCRIPTORS + size * _NUM_DESCRIPTORS_A_WORKER, "--tensor-parallel-size")
        self._folder = PrivateFolder.create()
        folder = self._folder.path
        self._writer, step_handles = open_broadcast(folder, size, num_slots=num_slots, slot_bytes=slot_bytes)
        self._exchange = exchange = ExchangeMemory(settings)
        exchange_fds = [exchange.fd] if exchange.fd is not None else []
        for rank, step_handle in enumerate(step_handles):
            reader, answer_handle = open_inbound(folder, num_slots=num_slots, slot_bytes=slot_bytes)
            self._readers.append(reader)
            arguments = WorkerArguments(
                settings=_worker_settings(settings, rank, folder, exchange.fd),
                step_channel=step_handle,
                answer_channel=answer_handle,
            )
            worker = ChildProcess.spawn(
                "yeoul.worker_process.main",
                f"yeoul::{settings.worker_name(rank)}",
                self._encoder.encode(arguments),
                pass_fds=[*step_handle.fds, *answer_handle.fds, *exchange_fds],
            )
            self._workers.append(worker)
        exchange.give_away()

    def start(self, on_death: DeathCallback) -> list[WorkerReady]:
        """Waits until every worker is ready, then watches them.

        Raises:
            ConfigError: a worker ended because of the user's mistake.
            ProcessDeadError: a worker died, or was not ready in time.
        """
        if not self._workers:
            self.spawn()
        ready = asyncio.run(_await_ready(self._workers, self._settings.time.worker_ready_timeout_seconds))
        self._remove_folder()  # everybody has met: nothing needs its name any longer
        self._monitor = MultiprocWorkerMonitor(self._workers, lambda error: self._on_worker_death(error, on_death))
        self._monitor.start()
        self._pool.submit(self._collect_answers)
        self._ready, self._ready_at = ready, time.time()
        return ready

    def allocate_cache(self, num_blocks: int, tier: TierFiles | None = None) -> None:
        """Allocates a KV cache of ``num_blocks`` blocks on every worker; MachineError where there is no memory for it."""
        self._last_call_id += 1
        for rank, answer in enumerate(self._call(AllocateCache(self._last_call_id, num_blocks, tier)).result()):
            if answer.error is not None:
                raise MachineError(f"{self._settings.worker_name(rank)}: {answer.error}")

    def collective_rpc(self, method: str, arguments: list[str]) -> Future[list[CallResult]]:
        """Calls a method on every worker; the answers come in rank order, behind those to the steps in flight."""
        self._last_call_id += 1
        return self._call(WorkerCall(self._last_call_id, method, arguments))

    def execute(self, step: StepInput, limit_seconds: float) -> Future[StepResult]:
        """Hands the step to all workers; the ``mp_exec_io`` thread waits for their answers."""
        future: Future[StepResult] = Future()
        self._ask(step, _Question(step.step_number, True, future, limit_seconds))
        return future

    def look(self) -> WorkersReport:
        """The workers, and what crosses to and from them, as they are now; from any thread."""
        engine = self._settings.place.name
        return report_on(engine, self._workers, self._ready, self._ready_at, self._writer, self._readers, self._exchange)

    def stop(self, *, at_once: bool = False) -> None:
        """Asks every worker to end, kills what is left, and closes the rings."""
        if self._monitor is not None:
            self._monitor.stop()
        if at_once or self._monitor is None or self._death is not None:
            for worker in self._workers:  # the others wait for a dead one in a collective: no word would reach them
                worker.kill()
        else:
            self._ask_to_end()
        deadline = time.monotonic() + (self._settings.time.stop_timeout_seconds if self._monitor else 0.0)
        for worker in self._workers:
            worker.wait(timeout_seconds=max(0.0, deadline - time.monotonic()))
            worker.close()  # kills it, and waits for its end but for a time: a driver may hold a dead process
            if worker.poll() is None:
                logger.error("%s (pid %d) was killed and does not end; it is left behind", worker.role, worker.pid)
        for channel in (*self._readers, *filter(None, [self._writer])):
            channel.close()
        self._pool.shutdown()
        self._exchange = None
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _ask_to_end(self) -> None:
        assert self._writer is not None
        try:
            self._writer.send(self._encoder.encode(EndWorker()), timeout_seconds=0.5)
        except TransportError as error:
            logger.warning("the workers did not take the word to end and are killed: %s", error)

    def _call(self, message: AllocateCache | WorkerCall) -> Future[list[CallResult]]:
        future: Future[list[CallResult]] = Future()
        self._ask(message, _Question(message.call_id, False, future, self._settings.time.step_timeout_seconds))
        return future

    def _ask(self, message: StepInput | AllocateCache | WorkerCall, question: _Question) -> None:
        self._questions.append(question)
        try:
            self._send(self._encoder.encode(message), question)
        except TransportClosedError:
            raise self._death_or("closed a ring") from None
        except TransportError as error:
            raise self._death_or(f"damaged a ring: {error}") from error
        if self._failure is not None:  # the thread of mp_exec_io may have ended before it saw this question
            self._fail_all(self._failure)

    def _send(self, payload: bytes, question: _Question) -> None:
        assert self._writer is not None
        while True:
            start = time.monotonic()
            try:
                return self._writer.send(payload, timeout_seconds=question.limit_seconds)
            except TransportTimeoutError:
                if not _has_overslept(start, question.limit_seconds):
                    raise self._death_or(f"took no message for {question.limit_seconds:.1f} s: {question} waits") from None

    def _collect_answers(self) -> None:
        """The life of the ``mp_exec_io`` thread: until the rings are closed, or a worker dies or hangs."""
        try:
            while True:
                answers = [self._receive(rank) for rank in range(len(self._readers))]
                _check_agreement(self._questions[0], answers)
                question = self._questions.popleft()
                self._last_answer_time = time.monotonic()
                question.future.set_result(join_results(answers) if question.is_step else answers)
        except Exception as error:
            is_known = isinstance(error, ProcessDeadError)
            failure = (
                error if is_known else ProcessDeadError(self._settings.place.name, f"lost its thread mp_exec_io ({error!r})")
            )
            assert isinstance(failure, ProcessDeadError)
            self._failure = failure
            self._fail_all(failure)

    def _receive(self, rank: int) -> StepResult | CallResult:
        """One worker's answer to the oldest question; what an abandoned question left behind is dropped."""
        stop_looks: list[StopLook] = []
        while True:
            patience = min(self._patience(), LOOK_SECONDS) if self._questions else self._patience()
            start = time.monotonic()
            try:
                answer = self._decode(rank, self._readers[rank].receive(patience))
            except TransportClosedError:
                raise self._death_or("closed its ring", rank) from None
            except TransportTimeoutError:
                if _has_overslept(start, patience):
                    self._last_answer_time = time.monotonic()  # the workers were stopped as well, or may have been
                if self._patience() <= 0:
                    raise self._death_or(self._describe_silence(), rank) from None
                if self._questions:
                    stop_looks = stop_looks or [StopLook(worker) for worker in self._workers]
                    for stop_look in stop_looks:
                        stop_look.look()
                continue
            except TransportError as error:
                raise self._death_or(f"damaged its ring: {error}", rank) from error
            if self._questions and self._questions[0].is_answered_by(answer):
                return answer
            name = self._settings.worker_name(rank)
            logger.warning("%s: dropped an answer that nobody waits for: %s", name, type(answer).__name__)

    def _decode(self, rank: int, payload: bytes) -> StepResult | CallResult:
        try:
            answer: StepResult | CallResult = self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise self._death_or(f"sent {len(payload)} bytes that are no answer: {error}", rank) from error
        return answer

    def _patience(self) -> float:
        """Seconds until the oldest question has been open for too long; no question that is asked meanwhile needs less."""
        if not self._questions:
            return min(_IDLE_LOOK_SECONDS, self._settings.time.min_step_timeout_seconds)
        question = self._questions[0]
        return max(question.time, self._last_answer_time) + question.limit_seconds - time.monotonic()

    def _describe_silence(self) -> str:
        question = self._questions[0]
        seconds = time.monotonic() - max(question.time, self._last_answer_time)
        stopped = ", ".join(worker.role for worker in self._workers if worker.is_stopped())
        hint = f" ({stopped} was stopped by a signal)" if stopped else ""
        return f"hangs: EngineCore waits for its answer to {question} since {seconds:.1f} s{hint}"

    def _fail_all(self, error: ProcessDeadError) -> None:
        while self._questions:
            try:
                question = self._questions.popleft()
            except IndexError:  # the other thread took it
                return
            question.future.set_exception(error)

    def _death_or(self, cause: str, rank: int | None = None) -> ProcessDeadError:
        return self._death or ProcessDeadError("Workers" if rank is None else self._settings.worker_name(rank), cause)

    def _on_worker_death(self, error: ProcessDeadError, on_death: DeathCallback) -> None:
        """Runs in MultiprocWorkerMonitor: wakes whoever waits for the dead worker, then tells the engine."""
        self._death = error
        for channel in (*self._readers, *filter(None, [self._writer])):
            channel.interrupt()
        on_death(error)


async def _await_ready(workers: list[ChildProcess], timeout_seconds: float) -> list[WorkerReady]:
    """READY of every worker in rank order; the first failure ends the wait, whoever else is still loading."""
    reports = await asyncio.gather(*(read_ready(worker, timeout_seconds) for worker in workers))
    return [report for report in reports if isinstance(report, WorkerReady)]


def _worker_settings(settings: EngineSettings, rank: int, folder: str, exchange_fd: int | None) -> WorkerSettings:
    return WorkerSettings(
        rank=rank,
        tensor_parallel_size=settings.parallel.tensor_parallel_size,
        num_compute_threads=settings.parallel.num_compute_threads,
        cpu_omp_threads_bind=settings.parallel.cpu_omp_threads_bind,
        cpu_num_of_reserved_cpu=settings.parallel.cpu_num_of_reserved_cpu,
        exchange_fd=exchange_fd,
        model=settings.model,
        files=settings.files,
        description=settings.description,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.scheduler.max_num_seqs,
        max_num_batched_tokens=settings.scheduler.max_num_batched_tokens,
        cache=settings.cache,
        fake=settings.fake,
        folder=folder,
        log=settings.log,
        engine=settings.place,
    )


def _check_agreement(question: _Question, answers: list[StepResult | CallResult]) -> None:
    """Ranks that go on with different tokens would mix up everybody's rows, so they do not go on."""
    if len({answer.digest for answer in answers if isinstance(answer, StepResult)}) > 1:
        cause = f"disagree about {question}: one of them found other tokens than the others, or failed where they did not"
        raise ProcessDeadError("Workers", cause)


def _has_overslept(start: float, seconds: float) -> bool:
    """Whether a wait for ``seconds`` took so long that nobody was there to wait: Ctrl-Z, ``docker pause``, a laptop's lid."""
    return time.monotonic() - start > seconds + _OVERSLEPT_SECONDS
