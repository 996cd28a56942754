"""RequestTable: every request that is in an engine, and the streams that read them; knows no HTTP and no text.

``AsyncLLM`` adds and ends requests here; the waiting room hears of them.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Sequence

from yeoul.engines.engine_request import EngineRequest
from yeoul.engines.engine_table import EngineTable
from yeoul.errors import InvalidRequestError
from yeoul.messages.outputs import RequestOutput
from yeoul.web_process.engine.request_observer import RequestObserver
from yeoul.web_process.engine.request_state import RequestState
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.waiting_room import WaitingRoom


class RequestTable(EngineTable):
    """``_streams`` has unclosed streams by the user's id; ``observer`` is whoever counts and times requests.

    ``text_number`` is another one when other files of the model are read: what was tokenized before is not for those.
    ``on_use`` is called when a request has ended, unless it only was to see whether there is an engine: one of ``_probes``.
    """

    observer: RequestObserver

    def __init__(
        self, room: WaitingRoom, observer: RequestObserver, num_engines: int = 1, num_prefill_engines: int = 0
    ) -> None:
        super().__init__(observer, num_engines, num_prefill_engines)
        self.room = room
        self.text_number = 0
        self.on_use: Callable[[], None] = _ignore
        self._streams: dict[str, RequestStream] = {}
        self._probes: set[str] = set()
        self._change = asyncio.Event()

    def check_id(self, request_id: str | None) -> None:
        """Raises InvalidRequestError for an id that another request has."""
        if request_id in self._streams:
            raise InvalidRequestError(f"request_id {request_id!r} is in use; choose another", param="request_id")

    def open(self, stream: RequestStream, seconds: float | None, make_error: Callable[[], Exception]) -> None:
        """Notes a stream until it is closed. What is unfinished of it after so many ``seconds`` then fails; None is never."""
        self._streams[stream.request_id] = stream
        if seconds is not None:
            stream.timer = asyncio.get_running_loop().call_later(seconds, self._miss_deadline, stream, make_error)

    def find(self, request_id: str) -> RequestStream | None:
        """The unclosed stream of this id."""
        return self._streams.get(request_id)

    def add_all(self, stream: RequestStream, states: Sequence[RequestState], terms: ServiceTerms, arrival: float) -> None:
        """Sends all requests of a stream, which came at ``arrival``, to the engines, or none."""
        stream.entered_at, stream.is_probe = time.monotonic(), terms.is_probe
        try:
            for engine, state in (
                self.routed(states) if len(self.engines) > 1 else zip(itertools.repeat(self.engines[0]), states, strict=False)
            ):
                stream.engine_request_ids.append(state.add.request_id)
                if terms.is_probe:
                    self._probes.add(state.add.request_id)
                self.add(state, engine)
        except BaseException:
            stream.close()
            raise
        self.observer.entered(stream, terms, arrival)

    def close(self, stream: RequestStream) -> None:
        """The reader is gone: what is unfinished of its request is given up."""
        self._streams.pop(stream.request_id, None)
        if stream.timer is not None:
            stream.timer.cancel()
        self.give_up(stream.engine_request_ids)
        self.observer.closed(stream)
        if not stream.is_probe:
            self.on_use()
        self.note_less()

    def _miss_deadline(self, stream: RequestStream, make_error: Callable[[], Exception]) -> None:
        now, error = time.monotonic(), make_error()
        for state in self.withdraw(stream.engine_request_ids):
            state.fail(error, now)

    async def wait_until_empty(self) -> None:
        """Returns when every request is finished and every stream is read and closed."""
        while self.num_unfinished or self._streams:
            self._change.clear()
            await self._change.wait()

    # What the waiting room hears of

    def note_entered(self, state: EngineRequest) -> None:
        """See ``EngineTable``. One that fills gaps takes no room."""
        if not (add := state.add).in_gaps:
            self.room.enter(add.request_id, add.tenant, len(add.prompt_token_ids), is_alone=self.num_live == 0)

    def note_end(self, state: EngineRequest) -> None:
        """See ``EngineTable``."""
        super().note_end(state)
        if (request_id := state.add.request_id) in self._probes:
            self._probes.discard(request_id)
        else:
            self.on_use()

    def note_outputs(self, outputs: Iterable[RequestOutput], finished: Sequence[EngineRequest]) -> None:
        """See ``EngineTable``."""
        self.room.note_served(output.request_id for output in outputs)
        if finished:
            if awaited := [state for state in finished if not state.add.in_gaps]:
                now = time.monotonic()
                seconds = sum(state.seconds_computed(now) for state in awaited)
                self.room.note_answers([max(1, len(state.output_token_ids)) for state in awaited], seconds)
            self.note_less()

    def note_gone(self, request_ids: list[str]) -> None:
        """See ``EngineTable``."""
        self.room.note_gone(request_ids)
        self.note_less()

    def note_less(self) -> None:
        """See ``EngineTable``."""
        self._change.set()
        self.on_less()

    def note_engines(self, *, is_idle: bool) -> None:
        """See ``EngineTable``."""
        self.room.note_engine(is_idle=is_idle)


def _ignore() -> None:
    """Nobody wants to know."""
