"""WorkerProc: the loop of a worker process; takes messages from the one channel, lets the Worker act, answers on the other.

Knows nothing of models or devices. ``yeoul.worker_process.main`` runs it.
"""

from __future__ import annotations

import logging
import time

import msgspec

from yeoul.errors import YeoulError
from yeoul.messages.encoding import encode_results
from yeoul.messages.steps import AllocateCache, CallResult, EndWorker, ExecutorMessage, StepInput, StepResult, WorkerCall
from yeoul.spans import SPANS
from yeoul.worker_process.arguments import WorkerArguments
from yeoul.worker_process.attachment import attach
from yeoul.worker_process.worker import Worker

logger = logging.getLogger(__name__)


class WorkerProc:
    """Answers every message with one message that carries the same number. An exception in a step ends the process."""

    def __init__(self, arguments: WorkerArguments, worker: Worker) -> None:
        self._worker = worker
        self._steps, self._answers = attach(arguments)
        self._shares_clock = arguments.settings.elsewhere is None
        self._decoder = msgspec.msgpack.Decoder(ExecutorMessage)
        self._encoder = msgspec.msgpack.Encoder()
        self._spans = SPANS.row("WorkerProc")
        self._noted_until = 0.0

    def run(self) -> None:
        """Works until the executor says that it is over."""
        spans = self._spans
        while True:
            payload = self._steps.receive()
            received_at = time.monotonic() if spans.is_on else 0.0
            message = self._decoder.decode(payload)
            if isinstance(message, EndWorker):
                return
            if isinstance(message, StepInput):
                result = self._worker.execute(message)
                told = result if self._shares_clock else msgspec.structs.replace(result, began=0.0)
                self._answers.send(encode_results(self._encoder, told))
                if received_at:
                    self._note(message, result, received_at)
            else:
                self._answers.send(self._encoder.encode(self._answer_call(message)))

    def _note(self, step: StepInput, result: StepResult, received_at: float) -> None:
        """What the step's time went to, by the times that its answer tells."""
        now, note = time.monotonic(), self._spans.note
        about = step.step_number, len(step.scheduled), sum(entry.num_new_tokens for entry in step.scheduled)
        done_at = result.began + result.compute_seconds
        computed_at = max(result.began, done_at - result.sample_seconds)
        prepared_at = min(computed_at, max(result.began, self._worker.prepared_at))
        if self._noted_until >= self._spans.since:
            note("wait for a step", self._noted_until, received_at, *about)
        note("step", received_at, now, *about)
        note("read", received_at, result.began - self._worker.waited_seconds, *about)
        if self._worker.waited_seconds > 0:
            note("wait for the stage before", result.began - self._worker.waited_seconds, result.began, *about)
        note("prepare", result.began, prepared_at, *about)
        note("compute", prepared_at, computed_at, *about)
        note("sample", computed_at, done_at, *about)
        note("send", done_at, now, *about)
        self._noted_until = now

    def _answer_call(self, message: AllocateCache | WorkerCall) -> CallResult:
        """A call that fails is answered with its error; the worker goes on."""
        try:
            if isinstance(message, AllocateCache):
                self._worker.allocate_cache(message.num_blocks, message.tier)
                return CallResult(message.call_id)
            return CallResult(message.call_id, self._worker.call(message.method, message.arguments))
        except YeoulError as error:
            return CallResult(message.call_id, error=error.message)
