"""RequestTable: every request that is in the engine, and the streams that read them; knows no HTTP and no text.

``AsyncLLM`` adds and ends requests here; ``OutputQueueLoop`` feeds and removes them through ``states``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from yeoul.engine_process.client import AsyncMPClient
from yeoul.errors import InvalidRequestError, RequestFailedError, TransportError
from yeoul.log import of_request
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.requests import AbortRequests, AddRequest
from yeoul.messages.statistics import EngineStatistics, add_totals, totals_of
from yeoul.recovery.crash_inquiry import Verdict, judge
from yeoul.web_process.engine.request_observer import RequestObserver
from yeoul.web_process.engine.request_place import RequestPlace
from yeoul.web_process.engine.request_state import RequestState
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.token_gaps import TokenGaps
from yeoul.web_process.engine.waiting_room import WaitingRoom

logger = logging.getLogger(__name__)

_MAX_NUM_LOSSES = 3


class RequestTable:
    """``states`` holds unfinished requests by the id that the engine knows, ``_streams`` unclosed streams by the user's.

    Without an engine requests are only held here, and sent to the next one. ``observer`` is whoever counts and times them,
    but for the times between tokens, ``token_gaps``.
    ``is_closed``: no more may come. ``holds_new``: what comes is held, and what the engine has goes on. ``on_held`` is called
    when a request is held that has just come, ``on_less`` when one has ended.
    """

    def __init__(self, room: WaitingRoom, observer: RequestObserver) -> None:
        self.states: dict[str, RequestState] = {}
        self.statistics = EngineStatistics()
        self.room = room
        self.observer = observer
        self.token_gaps = TokenGaps()
        self.is_closed = False
        self.holds_new = False
        self.on_held: Callable[[], None] = _ignore
        self.on_less: Callable[[], None] = _ignore
        self._streams: dict[str, RequestStream] = {}
        self._engine: AsyncMPClient | None = None
        self._past = EngineStatistics()  # of engines that are dead
        self._change = asyncio.Event()
        self._num_in_gaps = 0

    @property
    def num_live(self) -> int:
        """Unfinished requests that somebody waits for: all but those that fill gaps."""
        return len(self.states) - self._num_in_gaps

    @property
    def is_busy(self) -> bool:
        """Whether the engine has to do with any of these."""
        return any(state.place is not RequestPlace.HELD for state in self.states.values())

    @property
    def num_held(self) -> int:
        """Requests that wait for an engine."""
        return sum(state.place is RequestPlace.HELD for state in self.states.values())

    def part(self) -> None:
        """The engine goes, and nobody is to blame: whatever it still had is held for the next one."""
        self._engine = None
        self._past, self.statistics = self.statistics, totals_of(self.statistics)
        for state in self.states.values():
            if state.place is not RequestPlace.HELD:
                state.hold(state.crash_count)

    def attach(self, engine: AsyncMPClient) -> int:
        """From now on requests go to ``engine``, those that are held first: how many these are."""
        self._engine, self.holds_new = engine, False
        held = list(self.states.values())
        for state in held:
            self._try_to_send(engine, state)
        return len(held)

    def send_held(self) -> None:
        """What comes is not held any longer, nor what was."""
        self.holds_new = False
        for state in list(self.states.values()):
            if self._engine is not None and state.place is RequestPlace.HELD:
                self._try_to_send(self._engine, state)

    def detach(self, cause: str) -> Verdict:
        """The engine has died: what it had is held for the next one, and whoever is found to be to blame fails."""
        self._engine = None
        self._past, self.statistics = self.statistics, totals_of(self.statistics)
        silent = [name for name, state in self.states.items() if state.place is RequestPlace.BEGUN]
        is_alone = len(silent) == 1 and all(state.place is not RequestPlace.GOING for state in self.states.values())
        counts = {name: state.crash_count for name, state in self.states.items()}
        verdict = judge(counts, silent, is_alone=is_alone)
        if verdict.culprit is not None:
            error = f"the engine died each time when it computed this request, alone at last: {cause}"
            self.fail(verdict.culprit, RequestFailedError(error))
        for name, state in self.states.items():
            if state.place is not RequestPlace.HELD:
                state.hold(counts[name])
        return verdict

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

    def add_all(self, stream: RequestStream, states: Iterable[RequestState], terms: ServiceTerms, arrival: float) -> None:
        """Sends all requests of a stream, which came at ``arrival``, to the engine, or none."""
        stream.entered_at = time.monotonic()
        try:
            for state in states:
                stream.engine_request_ids.append(state.add.request_id)
                self.add(state)
        except BaseException:
            stream.close()
            raise
        self.observer.entered(stream, terms, arrival)

    def add(self, state: RequestState) -> None:
        """Sends a request to the engine and waits for its outputs."""
        request_id = state.add.request_id
        if state.add.in_gaps:
            self._num_in_gaps += 1
        else:
            num_tokens = len(state.add.prompt_token_ids)
            self.room.enter(request_id, state.add.tenant, num_tokens, is_alone=self.num_live == 0)
        self.states[request_id] = state
        if self._engine is not None and not self.holds_new:
            _send(self._engine, state)
        else:
            self.on_held()

    def unfinished(self) -> list[AddRequest]:
        """What the engine has, each with all that has come of it; what it computes comes first."""
        places = (RequestPlace.BEGUN, RequestPlace.GOING, RequestPlace.SENT)
        had = [state for place in places for state in self.states.values() if state.place is place]
        return [msgspec.structs.replace(state.add, output_token_ids=state.output_token_ids) for state in had]

    @property
    def sent(self) -> list[RequestState]:
        """The requests that the engine has to have."""
        return [state for state in self.states.values() if state.place is not RequestPlace.HELD]

    def send_again(self, sent_before: Sequence[RequestState], known: Collection[str]) -> int:
        """Sends those of ``sent_before`` that are unfinished and that the engine does not know: how many got lost.

        One that never arrives fails: there is something about it that the engine cannot take.
        """
        lost = []
        for state in sent_before:
            if state.add.request_id in known or state.place in (RequestPlace.HELD, RequestPlace.GONE):
                state.num_losses = 0
            else:
                lost.append(state)
        for state in lost:
            state.num_losses += 1
            state.hold(state.crash_count)
            if state.num_losses == _MAX_NUM_LOSSES:
                cause = f"the request got lost {_MAX_NUM_LOSSES} times on its way to the engine"
                self.fail(state.add.request_id, RequestFailedError(cause))
            elif self._engine is not None:
                self._try_to_send(self._engine, state)
        return len(lost)

    def fail(self, request_id: str, error: Exception) -> None:
        """One request fails, of which the engine knows nothing any longer."""
        for state in self._take_out([request_id]):
            state.fail(error, time.monotonic())

    def take_out(self, request_id: str) -> RequestState:
        """Nothing more will come of this one."""
        state = self.states.pop(request_id)
        self._num_in_gaps -= state.add.in_gaps
        state.move_to(RequestPlace.GONE)
        return state

    def note_begun(self, request_ids: Iterable[str]) -> None:
        """The engine's workers have these."""
        for request_id in request_ids:
            if (state := self.states.get(request_id)) is not None:
                state.note_begun()

    def _try_to_send(self, engine: AsyncMPClient, state: RequestState) -> None:
        """A request that cannot be encoded fails alone; a link that is closed is not its fault."""
        try:
            _send(engine, state)
        except TransportError:
            raise
        except Exception as error:
            request_id = state.add.request_id
            logger.exception("this request cannot be sent to the engine", extra=of_request(request_id))
            self.fail(request_id, RequestFailedError(f"the request cannot be sent to the engine: {error}"))

    def close(self, stream: RequestStream) -> None:
        """The reader is gone: what is unfinished of its request is given up."""
        self._streams.pop(stream.request_id, None)
        if stream.timer is not None:
            stream.timer.cancel()
        self.give_up(stream.engine_request_ids)
        self.observer.closed(stream)
        self._note_less()

    def give_up(self, request_ids: list[str]) -> None:
        """Ends those of these requests that are unfinished, here and in the engine."""
        now = time.monotonic()
        for state in self._withdraw(request_ids):
            state.give_up(now)

    def _miss_deadline(self, stream: RequestStream, make_error: Callable[[], Exception]) -> None:
        now, error = time.monotonic(), make_error()
        for state in self._withdraw(stream.engine_request_ids):
            state.fail(error, now)

    def _withdraw(self, request_ids: list[str]) -> list[RequestState]:
        """Takes out those of these requests that are unfinished, and lets the engine forget them."""
        unfinished = [request_id for request_id in request_ids if request_id in self.states]
        states = self._take_out(unfinished)
        if unfinished and self._engine is not None:
            self._engine.send(AbortRequests(unfinished))
        return states

    def _take_out(self, request_ids: list[str]) -> list[RequestState]:
        """Nothing more will come of these, and whoever waits for room or for the end learns of it."""
        self.room.note_gone(request_ids)
        self._note_less()
        return [self.take_out(request_id) for request_id in request_ids]

    def fail_all(self, error: Exception) -> None:
        """Every unfinished request fails with ``error``; the engine is told nothing."""
        now = time.monotonic()
        for state in self._take_out(list(self.states)):
            state.fail(error, now)

    def take_statistics(self, statistics: EngineStatistics) -> None:
        """Notes the engine's snapshot; its counters go on where a dead engine's ended."""
        self.statistics = statistics if self._past.total_steps == 0 else add_totals(statistics, self._past)

    def note_outputs(self, outputs: Iterable[RequestOutput], finished: Sequence[RequestState]) -> None:
        """These were handed out, and with them these requests came to an end."""
        self.room.note_served(output.request_id for output in outputs)
        if finished:
            if awaited := [state for state in finished if not state.add.in_gaps]:
                now = time.monotonic()
                seconds = sum(state.seconds_computed(now) for state in awaited)
                self.room.note_answers([max(1, len(state.output_token_ids)) for state in awaited], seconds)
            self._note_less()

    def _note_less(self) -> None:
        self._change.set()
        self.on_less()

    async def wait_until_empty(self) -> None:
        """Returns when every request is finished and every stream is read and closed."""
        while self.states or self._streams:
            self._change.clear()
            await self._change.wait()


def _ignore() -> None:
    """Nobody wants to know."""


def _send(engine: AsyncMPClient, state: RequestState) -> None:
    engine.send(msgspec.structs.replace(state.add, age_seconds=state.age(time.monotonic())))
    state.move_to(RequestPlace.SENT)
