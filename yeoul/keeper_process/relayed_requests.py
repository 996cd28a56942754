"""RelayedRequest and RelayTable: the requests of all web processes, with all that engines have made of them.

So an engine that takes the place of a dead one goes on with them, whoever waits for them. Know no text and no socket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from yeoul.engines.engine_observer import EngineObserver
from yeoul.engines.engine_request import EngineRequest
from yeoul.engines.engine_table import EngineTable
from yeoul.engines.request_place import RequestPlace
from yeoul.errors import RequestFailedError, YeoulError
from yeoul.messages.outputs import RequestFault, RequestOutput
from yeoul.messages.requests import AddRequest


class Owner(Protocol):
    """The web process that a request has come from."""

    def refuse(self, request_id: str, fault: RequestFault) -> None:
        """It has failed."""


class RelayedRequest(EngineRequest):
    """One of ``owner``'s. Its outputs have been passed on when it is told of them."""

    def __init__(self, add: AddRequest, arrival: float, owner: Owner) -> None:
        super().__init__(add, arrival)
        self.output_token_ids = list(add.output_token_ids)
        self.owner = owner
        self.is_waiting = not add.in_gaps

    def apply(self, output: RequestOutput, now: float, gaps: dict[float, int]) -> bool:
        """See ``EngineRequest``."""
        if output.fault is not None:
            return True
        if self.place is not RequestPlace.GOING:
            self.move_to(RequestPlace.GOING)
        if output.queue_seconds is not None:
            self.queue_seconds = output.queue_seconds
        self.output_token_ids += output.new_token_ids
        return output.finish_reason is not None

    def fail(self, error: Exception, now: float) -> None:
        """See ``EngineRequest``."""
        told = error if isinstance(error, YeoulError) else RequestFailedError(str(error))
        self.owner.refuse(self.add.request_id, RequestFault(told.message, told.status))

    def give_up(self, now: float) -> None:
        """See ``EngineRequest``: its owner has said so."""


class RelayTable(EngineTable):
    """``by_id`` has all that are unfinished. ``on_wait`` is called when others wait than before."""

    def __init__(self, observer: EngineObserver, num_engines: int, num_prefill_engines: int = 0) -> None:
        super().__init__(observer, num_engines, num_prefill_engines)
        self.by_id: dict[str, RelayedRequest] = {}
        self.on_wait: Callable[[], None] = lambda: None
        self._waiting: dict[Owner, dict[str, RelayedRequest]] = {}

    def ids_of(self, owner: Owner) -> list[str]:
        """The unfinished ones of a web process."""
        return [request_id for request_id, request in self.by_id.items() if request.owner is owner]

    def add_one(self, request: RelayedRequest) -> None:
        """Sends it to an engine."""
        engine, _ = next(iter(self.routed([request]))) if len(self.engines) > 1 else (self.engines[0], request)
        self.add(request, engine)

    def waiting_of(self, owner: Owner) -> Counter[tuple[str, str]]:
        """How many ``requests`` of a web process wait for their first token, and ``tokens`` of their prompts, by tenant."""
        counts: Counter[tuple[str, str]] = Counter()
        for request in self._waiting.get(owner, {}).values():
            counts[request.add.tenant, "requests"] += 1
            counts[request.add.tenant, "tokens"] += len(request.add.prompt_token_ids)
        return counts

    def note_entered(self, state: EngineRequest) -> None:
        """See ``EngineTable``."""
        assert isinstance(state, RelayedRequest)
        self.by_id[state.add.request_id] = state
        if state.is_waiting:
            self._waiting.setdefault(state.owner, {})[state.add.request_id] = state
            self.on_wait()

    def note_end(self, state: EngineRequest) -> None:
        """See ``EngineTable``."""
        super().note_end(state)
        self._note_served(self.by_id.pop(state.add.request_id))

    def note_outputs(self, outputs: Iterable[RequestOutput], finished: Sequence[EngineRequest]) -> None:
        """See ``EngineTable``."""
        for output in outputs:
            if (request := self.by_id.get(output.request_id)) is not None and request.is_waiting:
                self._note_served(request)
        super().note_outputs(outputs, finished)

    def _note_served(self, request: RelayedRequest) -> None:
        if request.is_waiting:
            request.is_waiting = False
            self._waiting[request.owner].pop(request.add.request_id, None)
            self.on_wait()

    def forget(self, owner: Owner) -> None:
        """The web process is gone, and with it whoever waited for its requests: they are given up."""
        self.give_up(self.ids_of(owner))
        self._waiting.pop(owner, None)
