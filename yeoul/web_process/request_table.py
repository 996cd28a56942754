"""RequestTable: every request that is in the engine, and the streams that read them; knows no HTTP and no text.

``AsyncLLM`` adds and ends requests here; ``OutputQueueLoop`` feeds and removes them through ``states``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from yeoul.errors import DeadlineMissedError, InvalidRequestError, RequestFailedError, TransportError
from yeoul.messages.requests import AbortRequests, AddRequest
from yeoul.messages.statistics import EngineStatistics, add_totals, totals_of
from yeoul.web_process.engine_link import EngineLink
from yeoul.web_process.request_state import GenerationState, RequestState
from yeoul.web_process.request_stream import RequestStream
from yeoul.web_process.waiting_room import WaitingRoom

logger = logging.getLogger(__name__)

_MAX_NUM_LOSSES = 3


class RequestTable:
    """``states`` holds unfinished requests by the id that the engine knows, ``_streams`` unclosed streams by the user's.

    While an engine is replaced, or some requests are tried alone, others are only held here, and sent later.
    """

    def __init__(self, room: WaitingRoom) -> None:
        self.states: dict[str, RequestState] = {}
        self.statistics = EngineStatistics()
        self.room = room
        self._streams: dict[str, RequestStream] = {}
        self._engine: EngineLink | None = None
        self._held: set[str] = set()
        self._holds_all = False
        self._losses: Counter[str] = Counter()  # how often in a row, of requests that the engine did not have when asked
        self._trial: frozenset[str] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}  # of streams that have a deadline
        self._past = EngineStatistics()  # of engines that are dead
        self.on_gone: Callable[[list[str]], None] = lambda request_ids: None
        self._change = asyncio.Event()

    def attach(self, engine: EngineLink) -> None:
        """From now on requests go to ``engine``."""
        self._engine = engine

    def check_id(self, request_id: str | None) -> None:
        """Raises InvalidRequestError for an id that another request has."""
        if request_id in self._streams:
            raise InvalidRequestError(f"request_id {request_id!r} is in use; choose another", param="request_id")

    def open(self, stream: RequestStream, deadline_seconds: float | None = None) -> None:
        """Notes a stream until it is closed; what is unfinished of it after ``deadline_seconds`` fails."""
        self._streams[stream.request_id] = stream
        if (timer := self.end_after(deadline_seconds, stream.engine_request_ids)) is not None:
            self._timers[stream.request_id] = timer

    def end_after(self, deadline_seconds: float | None, request_ids: list[str]) -> asyncio.TimerHandle | None:
        """Lets what is unfinished of these requests then fail with DeadlineMissedError, unless the timer is cancelled."""
        if deadline_seconds is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.call_later(deadline_seconds, self._miss_deadline, request_ids, deadline_seconds)

    def find(self, request_id: str) -> RequestStream | None:
        """The unclosed stream of this id."""
        return self._streams.get(request_id)

    def add(self, state: RequestState) -> None:
        """Sends a request to the engine and waits for its outputs."""
        request_id = state.add.request_id
        self.room.enter(request_id, state.add.tenant, len(state.add.prompt_token_ids), is_alone=not self.states)
        self.states[request_id] = state
        self._held.add(request_id)
        if self._may_send(request_id):
            self._send(request_id)

    def unfinished(self) -> list[AddRequest]:
        """What another engine would need in order to go on with everything that the engine has."""
        states = [self.states[request_id] for request_id in self.sent_ids]
        for state in states:
            state.resume()
        return [state.add for state in states]

    def hold_all(self) -> tuple[list[str], bool]:
        """The engine is dead: nothing is sent from now on.

        Returns:
            the requests that it had and that it made nothing of, and whether it had others.
        """
        sent = self.sent_ids
        suspects = [name for name in sent if not self.states[name].has_progressed]
        self._holds_all = True
        self._past, self.statistics = self.statistics, totals_of(self.statistics)
        return suspects, len(suspects) < len(sent)

    def release_all(self, trial: Sequence[str] | None) -> int:
        """There is another engine: sends it everything, or what takes part in the trial; how many requests those are."""
        self._holds_all = False
        self._held = set(self.states)
        for state in self.states.values():
            state.resume()
        return self.set_trial(trial)

    def set_trial(self, trial: Sequence[str] | None) -> int:
        """From now on these requests alone are sent, or all; sends those of them that are held: how many they are."""
        self._trial = None if trial is None else frozenset(trial)
        now_sent = [request_id for request_id in self.states if request_id in self._held and self._may_send(request_id)]
        for request_id in now_sent:
            self._try_to_send(request_id)
        return len(now_sent)

    @property
    def sent_ids(self) -> list[str]:
        """The requests that the engine has to have."""
        return [request_id for request_id in self.states if request_id not in self._held]

    def send_again(self, sent_before: Sequence[str], known: Collection[str]) -> int:
        """Sends those of ``sent_before`` that are unfinished and that the engine does not know: how many got lost.

        One that never arrives fails: there is something about it that the engine cannot take.
        """
        lost = [name for name in sent_before if name not in known and name in self.states and name not in self._held]
        self._losses = Counter({name: self._losses[name] + 1 for name in lost})
        for request_id, num_losses in self._losses.items():
            if num_losses == _MAX_NUM_LOSSES:
                self.fail(request_id, RequestFailedError(f"the request got lost {num_losses} times on its way to the engine"))
            else:
                self.states[request_id].resume()
                self._try_to_send(request_id)
        return len(lost)

    def fail(self, request_id: str, error: Exception) -> None:
        """One request fails, of which the engine knows nothing any longer."""
        self.states.pop(request_id).fail(error, time.monotonic())
        self.room.note_gone([request_id])
        self._change.set()

    def _may_send(self, request_id: str) -> bool:
        return not self._holds_all and (self._trial is None or request_id in self._trial)

    def _try_to_send(self, request_id: str) -> None:
        """A request that cannot be encoded fails alone; a link that is closed is not its fault."""
        try:
            self._send(request_id)
        except TransportError:
            raise
        except Exception as error:
            logger.exception("request %s cannot be sent to the engine", request_id)
            self.fail(request_id, RequestFailedError(f"the request cannot be sent to the engine: {error}"))

    def _send(self, request_id: str) -> None:
        assert self._engine is not None, "attach() comes first"
        self._held.discard(request_id)
        self._engine.send(self.states[request_id].add)

    def close(self, stream: RequestStream) -> None:
        """The reader is gone: what is unfinished of its request is given up."""
        self._streams.pop(stream.request_id, None)
        if (timer := self._timers.pop(stream.request_id, None)) is not None:
            timer.cancel()
        self.give_up(stream.engine_request_ids)
        self._change.set()

    def give_up(self, request_ids: list[str]) -> None:
        """Ends those of these requests that are unfinished, here and in the engine."""
        now = time.monotonic()
        for state in self._withdraw(request_ids):
            if isinstance(state, GenerationState):
                state.give_up(now)

    def _miss_deadline(self, request_ids: list[str], deadline_seconds: float) -> None:
        now = time.monotonic()
        error = DeadlineMissedError(f"the answer was not complete after {deadline_seconds:g} s, as long as it was given")
        for state in self._withdraw(request_ids):
            state.fail(error, now)

    def _withdraw(self, request_ids: list[str]) -> list[RequestState]:
        """Takes out those of these requests that are unfinished, and lets the engine forget them."""
        unfinished = [request_id for request_id in request_ids if request_id in self.states]
        states = [self.states.pop(request_id) for request_id in unfinished]
        if unfinished and self._engine is not None:
            self._engine.send(AbortRequests(unfinished))
            self._held.difference_update(unfinished)
            self._change.set()
            self.room.note_gone(unfinished)
            self.on_gone(unfinished)
        return states

    def fail_all(self, error: Exception) -> None:
        """Every unfinished request fails with ``error``; the engine is told nothing."""
        now = time.monotonic()
        states = list(self.states.values())
        self.room.note_gone(self.states)
        self.states.clear()
        for state in states:
            state.fail(error, now)
        self._change.set()

    def take_statistics(self, statistics: EngineStatistics) -> None:
        """Notes the engine's snapshot; its counters go on where a dead engine's ended."""
        self.statistics = statistics if self._past.total_steps == 0 else add_totals(statistics, self._past)

    def note_finished(self, finished: list[RequestState]) -> None:
        """These were finished by the engine, and taken out of ``states``."""
        lengths = [len(state.output_token_ids) if isinstance(state, GenerationState) else 1 for state in finished]
        self.room.note_answers(lengths)
        self._change.set()

    async def wait_until_empty(self) -> None:
        """Returns when every request is finished and every stream is read and closed."""
        while self.states or self._streams:
            self._change.clear()
            await self._change.wait()
