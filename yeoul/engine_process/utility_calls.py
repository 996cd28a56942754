"""UtilityCalls: the methods that a client may call by name, of the engine and of its workers; knows no socket and no step.

EngineCoreProc asks and emits the answers. What workers are asked they answer behind the steps in flight, and nobody waits
for it: the answer arrives as those of steps do.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable

from yeoul.engine_process.input_sockets import Arrival, CallAnswer, FromWorkers
from yeoul.errors import InvalidRequestError, ProcessDeadError
from yeoul.messages.outputs import UtilityResult
from yeoul.messages.requests import UtilityCall
from yeoul.scheduler.scheduler import Scheduler
from yeoul.worker_process.executor import Executor


class UtilityCalls:
    """``num_under_way`` workers' answers are waited for: no step follows meanwhile, since a call may change what it finds.

    Compiling a grammar changes nothing, and steps go on beside it.
    """

    def __init__(self, scheduler: Scheduler, arrivals: queue.SimpleQueue[Arrival], worker_name: Callable[[int], str]) -> None:
        self.num_under_way = 0
        self._worker_name = worker_name
        self._scheduler = scheduler
        self._arrivals = arrivals

    def answer(self, client_id: bytes, call: UtilityCall, executor: Executor) -> UtilityResult | None:
        """An unknown method is an error in the answer. None: the workers are asked.

        Raises:
            ProcessDeadError: they are dead.
        """
        try:
            if call.method == "ping":
                return UtilityResult(call.call_id, "pong")
            if call.method == "unfinished_request_ids":
                return UtilityResult(call.call_id, json.dumps(self._scheduler.unfinished_request_ids))
            if call.method == "reset_prefix_cache":
                self._scheduler.forget_prefixes()
                return UtilityResult(call.call_id)
            if call.method == "collective_rpc":
                self._ask_workers(client_id, call, executor)
                return None
        except InvalidRequestError as error:
            return UtilityResult(call.call_id, error=error.message)
        known = "ping, unfinished_request_ids, reset_prefix_cache, collective_rpc"
        return UtilityResult(call.call_id, error=f"EngineCore has no method {call.method!r}; it has {known}")

    def _ask_workers(self, client_id: bytes, call: UtilityCall, executor: Executor) -> None:
        if not call.arguments:
            raise InvalidRequestError("collective_rpc needs the name of the method to call as its first argument")
        future = executor.collective_rpc(call.arguments[0], call.arguments[1:])
        self.num_under_way += _stops_steps(call)
        future.add_done_callback(
            lambda answer: self._arrivals.put((b"", FromWorkers(executor, CallAnswer(client_id, call, answer))))
        )

    def result_of(self, answer: CallAnswer) -> UtilityResult:
        """The workers' values, one a line, or what went wrong on the first rank where anything did."""
        call_id = answer.call.call_id
        try:
            results = answer.future.result()
        except ProcessDeadError as error:
            return UtilityResult(call_id, error=error.message)
        for rank, result in enumerate(results):
            if result.error is not None:
                return UtilityResult(call_id, error=f"{self._worker_name(rank)}: {result.error}")
        return UtilityResult(call_id, "\n".join(result.value for result in results))

    def finish(self, answer: CallAnswer) -> None:
        """The workers of now have answered: what the call has changed is taken into account.

        Raises:
            ProcessDeadError: only some of them did what they were told. Their states differ, and they are of no more use.
        """
        self.num_under_way -= _stops_steps(answer.call)
        method = answer.call.arguments[0]
        errors = [] if answer.future.exception() else [result.error for result in answer.future.result()]
        if None in errors and any(errors):
            raise ProcessDeadError("Workers", f"disagree: only some could do {method!r} ({next(filter(None, errors))})")
        if method == "reset_cache" and None in errors:
            self._scheduler.requeue_all()  # they have forgotten every request and every block


def _stops_steps(call: UtilityCall) -> bool:
    return call.arguments[0] != "compile_grammar"
