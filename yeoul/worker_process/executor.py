"""The executor: what EngineCore holds of its workers; it hands every step to all of them, is patient, collects the answers.

Knows no ring, socket or process: those are of ``worker_link.Crew``. Imports no torch: it runs in EngineCore.
``EngineCoreProc`` is its only caller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import msgspec

from yeoul.config.parts import EngineSettings
from yeoul.errors import (
    ConfigError,
    MachineError,
    ProcessDeadError,
    TransportClosedError,
    TransportError,
    TransportTimeoutError,
)
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
from yeoul.transport.child_reports import LOOK_SECONDS, StopLook
from yeoul.transport.thread_names import set_thread_name
from yeoul.worker_process.local_crew import LocalCrew
from yeoul.worker_process.loopback_crew import LoopbackCrew
from yeoul.worker_process.ray_crew import RayCrew, RayPlaces
from yeoul.worker_process.worker_link import Crew, DeathCallback, WorkerLink
from yeoul.worker_process.workers_report import WorkersReport

logger = logging.getLogger(__name__)

_OVERSLEPT_SECONDS = 1.0  # a wait that takes so much longer than it was to: this process itself was stopped meanwhile
_IDLE_LOOK_SECONDS = 1.0  # after so long a rest it is looked whether a question has been asked meanwhile


class Executor(Protocol):
    """What EngineCoreProc needs of whatever computes: workers on this machine, or on many."""

    @property
    def num_stages(self) -> int:
        """How many parts the model is cut into, which can compute as many steps at a time."""
        ...

    @property
    def workers(self) -> Sequence[WorkerLink]:
        """As EngineCore holds them, for questions beside their work."""
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


@dataclass(frozen=True, slots=True)
class _Question:
    """A step or a call of this number that the workers are to answer, ``limit_seconds`` after it is the oldest.

    ``future`` gets a step's joined StepResult, or the CallResults of all ranks. ``time`` is of the monotonic clock.
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
    """Asks the workers of a ``crew``, and is patient with them; whatever lies between is the crew's.

    Questions (steps and calls) are answered in the order in which they were asked. The thread of ``mp_exec_io`` waits for
    answers from start to stop, rather than being woken for each.
    """

    def __init__(self, settings: EngineSettings, crew: Crew) -> None:
        self._settings = settings
        self._crew = crew
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(WorkerMessage)
        self._pool = ThreadPoolExecutor(1, "mp_exec_io", initializer=lambda: set_thread_name("mp_exec_io_0"))
        self._has_started = False
        self._questions: deque[_Question] = deque()
        self._last_call_id = 0
        self._last_answer_time = 0.0
        self._death: ProcessDeadError | None = None
        self._failure: ProcessDeadError | None = None

    @property
    def num_stages(self) -> int:
        """Of the pipeline."""
        return self._settings.parallel.pipeline_parallel_size

    @property
    def workers(self) -> Sequence[WorkerLink]:
        """All of them, dead ones as well."""
        return self._crew.links

    def spawn(self) -> None:
        """Starts the workers and returns at once. Call it from a thread that lives as long as the process."""
        self._crew.spawn()

    def start(self, on_death: DeathCallback) -> list[WorkerReady]:
        """Waits until every worker is ready, then watches them.

        Raises:
            ConfigError: a worker ended because of the user's mistake.
            ProcessDeadError: a worker died, or was not ready in time.
        """
        if not self._crew.links:
            self.spawn()
        ready = asyncio.run(self._crew.wait_until_ready(self._settings.time.worker_ready_timeout_seconds))
        _check_same_model(ready)
        self._has_started = True
        self._crew.watch(lambda error: self._on_worker_death(error, on_death))
        self._pool.submit(self._collect_answers)
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
        return self._crew.look()

    def stop(self, *, at_once: bool = False) -> None:
        """Asks every worker to end, kills what is left, and closes all links."""
        self._crew.unwatch()
        links = self._crew.links
        if at_once or not self._has_started or self._death is not None:
            for link in links:  # the others wait for a dead one in a collective: no word would reach them
                link.kill()
        else:
            self._ask_to_end()
        deadline = time.monotonic() + (self._settings.time.stop_timeout_seconds if self._has_started else 0.0)
        for link in links:
            link.wait(max(0.0, deadline - time.monotonic()))
            if not link.close():
                logger.error("%s (pid %d) was killed and does not end; it is left behind", link.role, link.pid)
        self._crew.close()
        self._pool.shutdown()

    def _ask_to_end(self) -> None:
        try:
            self._crew.wire.send(self._encoder.encode(EndWorker()), 0.5)
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
            raise self._death_or(f"closed a {self._crew.links[0].way}") from None
        except TransportError as error:
            raise self._death_or(f"damaged a {self._crew.links[0].way}: {error}") from error
        if self._failure is not None:  # the thread of mp_exec_io may have ended before it saw this question
            self._fail_all(self._failure)

    def _send(self, payload: bytes, question: _Question) -> None:
        while True:
            start = time.monotonic()
            try:
                return self._crew.wire.send(payload, question.limit_seconds)
            except TransportTimeoutError:
                if not _has_overslept(start, question.limit_seconds):
                    raise self._death_or(f"took no message for {question.limit_seconds:.1f} s: {question} waits") from None

    def _collect_answers(self) -> None:
        """The life of the ``mp_exec_io`` thread: until the links are closed, or a worker dies or hangs."""
        links = self._crew.links
        try:
            while True:
                answers = [self._receive(link) for link in links]
                _check_agreement(self._questions[0], answers, self._settings.parallel.tensor_parallel_size)
                question = self._questions.popleft()
                self._last_answer_time = time.monotonic()
                question.future.set_result(join_results(answers, self.num_stages) if question.is_step else answers)
        except Exception as error:
            is_known = isinstance(error, ProcessDeadError)
            failure = (
                error if is_known else ProcessDeadError(self._settings.place.name, f"lost its thread mp_exec_io ({error!r})")
            )
            assert isinstance(failure, ProcessDeadError)
            self._failure = failure
            self._fail_all(failure)

    def _receive(self, link: WorkerLink) -> StepResult | CallResult:
        """One worker's answer to the oldest question; what an abandoned question left behind is dropped."""
        stop_looks: list[StopLook] = []
        while True:
            patience = min(self._patience(), LOOK_SECONDS) if self._questions else self._patience()
            start = time.monotonic()
            try:
                answer = self._decode(link, link.receive(patience))
            except TransportClosedError:
                raise self._death_or(f"closed its {link.way}", link) from None
            except TransportTimeoutError:
                if _has_overslept(start, patience):
                    self._last_answer_time = time.monotonic()  # the workers were stopped as well, or may have been
                if self._patience() <= 0:
                    raise self._death_or(self._describe_silence(), link) from None
                if self._questions:
                    stop_looks = stop_looks or [StopLook(each) for each in self._crew.links]
                    for stop_look in stop_looks:
                        stop_look.look()
                continue
            except TransportError as error:
                raise self._death_or(f"damaged its {link.way}: {error}", link) from error
            if self._questions and self._questions[0].is_answered_by(answer):
                return answer
            logger.warning("%s: dropped an answer that nobody waits for: %s", link.role, type(answer).__name__)

    def _decode(self, link: WorkerLink, payload: bytes) -> StepResult | CallResult:
        try:
            answer: StepResult | CallResult = self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise self._death_or(f"sent {len(payload)} bytes that are no answer: {error}", link) from error
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
        stopped = ", ".join(worker.role for worker in self._crew.links if worker.is_stopped())
        hint = f" ({stopped} was stopped by a signal)" if stopped else ""
        return f"hangs: EngineCore waits for its answer to {question} since {seconds:.1f} s{hint}"

    def _fail_all(self, error: ProcessDeadError) -> None:
        while self._questions:
            try:
                question = self._questions.popleft()
            except IndexError:  # the other thread took it
                return
            question.future.set_exception(error)

    def _death_or(self, cause: str, link: WorkerLink | None = None) -> ProcessDeadError:
        return self._death or ProcessDeadError("Workers" if link is None else link.role, cause)

    def _on_worker_death(self, error: ProcessDeadError, on_death: DeathCallback) -> None:
        """Runs in the thread that watches: wakes whoever waits for the dead worker, then tells the engine."""
        self._death = error
        self._crew.wire.interrupt()
        on_death(error)


def executor_maker(settings: EngineSettings) -> Callable[[], MultiprocExecutor]:
    """Makes one executor after the other over workers that are started where the settings say; none is started yet."""
    crews: dict[str, Callable[[], Crew]] = {
        "mp": partial(LocalCrew, settings),
        "loopback": partial(LoopbackCrew, settings),
        "ray": partial(RayCrew, settings, RayPlaces(settings)),
    }
    make_crew = crews[settings.parallel.distributed_executor_backend]
    return lambda: MultiprocExecutor(settings, make_crew())


def _check_same_model(ready: list[WorkerReady]) -> None:
    """Ranks on several hosts find the model by themselves, and each computes with what it has."""
    for one in ready[1:]:
        if one.model_fingerprint != ready[0].model_fingerprint:
            raise ConfigError(
                f"Worker_{one.number} ({one.device}) and Worker_{ready[0].number} ({ready[0].device}) would compute different"
                f" things ({one.model_fingerprint} and {ready[0].model_fingerprint}); expected the same weights, number"
                " types, kind of processor and version of Yeoul and torch on every host"
            )


def _check_agreement(question: _Question, answers: list[StepResult | CallResult], ranks_a_stage: int) -> None:
    """Ranks that go on with different tokens would mix up everybody's rows, so they do not go on.

    Those of the last stage find them.
    """
    if len({answer.digest for answer in answers[-ranks_a_stage:] if isinstance(answer, StepResult)}) > 1:
        cause = f"disagree about {question}: one of them found other tokens than the others, or failed where they did not"
        raise ProcessDeadError("Workers", cause)


def _has_overslept(start: float, seconds: float) -> bool:
    """Whether a wait for ``seconds`` took so long that nobody was there to wait: Ctrl-Z, ``docker pause``, a laptop's lid."""
    return time.monotonic() - start > seconds + _OVERSLEPT_SECONDS
