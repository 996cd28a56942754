"""WorkerProc: the loop of a worker process; takes messages from the step ring, lets the Worker act, answers on its own ring.

Knows nothing of models or devices. ``yeoul.worker_process.main`` runs it.
"""

from __future__ import annotations

import logging

import msgspec

from yeoul.errors import YeoulError
from yeoul.messages.encoding import encode_results
from yeoul.messages.steps import AllocateCache, CallResult, EndWorker, ExecutorMessage, StepInput, WorkerCall
from yeoul.transport.channel import ChannelReader, ChannelWriter
from yeoul.worker_process.arguments import WorkerArguments
from yeoul.worker_process.worker import Worker

logger = logging.getLogger(__name__)


class WorkerProc:
    """Answers every message with one message that carries the same number. An exception in a step ends the process."""

    def __init__(self, arguments: WorkerArguments, worker: Worker) -> None:
        self._worker = worker
        self._steps = ChannelReader(arguments.step_channel)
        self._answers = ChannelWriter(arguments.answer_channel)
        self._decoder = msgspec.msgpack.Decoder(ExecutorMessage)
        self._encoder = msgspec.msgpack.Encoder()

    def run(self) -> None:
        """Works until the executor says that it is over."""
        while True:
            message = self._decoder.decode(self._steps.receive())
            if isinstance(message, EndWorker):
                return
            if isinstance(message, StepInput):
                self._answers.send(encode_results(self._encoder, self._worker.execute(message)))
            else:
                self._answers.send(self._encoder.encode(self._answer_call(message)))

    def _answer_call(self, message: AllocateCache | WorkerCall) -> CallResult:
        """A call that fails is answered with its error; the worker goes on."""
        try:
            if isinstance(message, AllocateCache):
                self._worker.allocate_cache(message.num_blocks)
                return CallResult(message.call_id)
            return CallResult(message.call_id, self._worker.call(message.method, message.arguments))
        except YeoulError as error:
            return CallResult(message.call_id, error=error.message)
