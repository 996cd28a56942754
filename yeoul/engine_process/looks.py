"""Looks: the calls that only look at EngineCore, answered by ``process_input_sockets`` whatever the main thread waits for.

So they are answered while a step takes long or workers are replaced, and no step waits for them. Knows no socket.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable

import msgspec

from yeoul.config.parts import EngineSettings
from yeoul.engine_process.input_sockets import Arrival
from yeoul.engine_process.output_sockets import OutputSockets
from yeoul.engine_process.step_log import StepLog
from yeoul.errors import YeoulError
from yeoul.messages.outputs import UtilityResult
from yeoul.messages.requests import ClientMessage, UtilityCall
from yeoul.messages.topology import EngineReport, Link, Part, Process
from yeoul.process_sample import describe_process
from yeoul.worker_process.executor import Executor


class Looks:
    """Answers those calls of the client of now that it knows; what they look at is never changed.

    Args:
        output: takes the answers.
        arrivals: what waits for the main thread.
        steps: the last ones.
        executor: the one of now.
        client_id: whom EngineCore serves now.
        settings: have the name of its process.
    """

    def __init__(
        self,
        output: OutputSockets,
        arrivals: queue.SimpleQueue[Arrival],
        steps: StepLog,
        executor: Callable[[], Executor],
        client_id: Callable[[], bytes],
        settings: EngineSettings,
    ) -> None:
        self._name = settings.place.name
        self._output = output
        self._arrivals = arrivals
        self._steps = steps
        self._executor = executor
        self._client_id = client_id
        self._looks: dict[str, Callable[[list[str]], str]] = {"topology": self._tell_topology}

    def take(self, client_id: bytes, message: ClientMessage) -> bool:
        """Whether it was such a call, and is answered."""
        if not isinstance(message, UtilityCall) or client_id != self._client_id():
            return False
        if (look := self._looks.get(message.method)) is None:
            return False
        try:
            result = UtilityResult(message.call_id, look(message.arguments))
        except YeoulError as error:
            result = UtilityResult(message.call_id, error=error.message)
        self._output.put(client_id, result)
        return True

    def _tell_topology(self, arguments: list[str]) -> str:
        return msgspec.json.encode(self.report()).decode()

    def report(self) -> EngineReport:
        """EngineCore and its workers as they are now."""
        workers = self._executor().look()
        return EngineReport(
            clock=time.monotonic(),
            processes=[self._describe(), *workers.processes],
            links=[*self._describe_links(), *workers.links],
            engine=self._steps.now(),
        )

    def _describe(self) -> Process:
        parts = [Part(name="EngineCoreProc"), Part(name=type(self._executor()).__name__)]
        return describe_process(self._name, os.getpid(), parts=parts)

    def _describe_links(self) -> list[Link]:
        """What the client cannot know of them: what waits here."""
        requests, outputs = f"{self._name}/process_input_sockets", f"{self._name}/process_output_sockets"
        client, waiting = "Web/AsyncMPClient", self._arrivals.qsize()
        return [
            Link(name="requests", kind="zmq", source=client, target=requests, queue_depth=waiting),
            Link(name="outputs", kind="zmq", source=outputs, target=client, queue_depth=self._output.num_waiting),
        ]
