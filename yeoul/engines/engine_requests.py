"""EngineRequests: the unfinished requests of one engine, and what is known of what becomes of them there.

Knows no HTTP and no text. ``EngineTable`` has one an engine; ``OutputQueueLoop`` feeds and removes requests through
``states``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_observer import EngineObserver
from yeoul.engines.engine_request import EngineRequest
from yeoul.engines.request_place import RequestPlace
from yeoul.engines.router import REQUEST_COST
from yeoul.errors import RequestFailedError, TransportError
from yeoul.log import of_request
from yeoul.messages.keeper import EngineRole
from yeoul.messages.outputs import EngineReady
from yeoul.messages.requests import AbortRequests, AddRequest
from yeoul.messages.statistics import EngineStatistics, add_totals, totals_of
from yeoul.recovery.crash_inquiry import Verdict, judge

if TYPE_CHECKING:
    from yeoul.engines.engine_table import EngineTable

logger = logging.getLogger(__name__)

_MAX_NUM_LOSSES = 3


class EngineRequests:
    """``states`` holds them by the id that the engine knows.

    Without an engine requests are only held here, and sent to the next one. ``is_well`` tells whether the engine that is
    there computes; ``is_gone`` whether there will never be one again. One that ``is_prefill`` hands requests on to others as
    soon as their prompts are computed.
    """

    def __init__(self, table: EngineTable, number: int, role: EngineRole | None = None) -> None:
        self.states: dict[str, EngineRequest] = {}
        self.statistics = EngineStatistics()
        self.number = number
        self.role = role
        self.is_prefill = role == "prefill"
        self.is_well: Callable[[], bool] = lambda: True
        self.is_gone = False
        self.token_gaps = table.token_gaps
        self.note_outputs = table.note_outputs  # what was handed out, and which requests came to an end with it
        self._table = table
        self._engine: AsyncMPClient | None = None
        self._past = EngineStatistics()  # of engines that are dead
        self._blamed: dict[str, EngineRequest] = {}

    @property
    def observer(self) -> EngineObserver:
        """Whoever watches engines."""
        return self._table.observer

    @property
    def is_closed(self) -> bool:
        """Whether no more may come."""
        return self._table.is_closed

    @property
    def is_ready(self) -> bool:
        """Whether an engine is there, and computes."""
        return self._engine is not None and self.is_well()

    @property
    def is_attached(self) -> bool:
        """Whether what is put here is sent at once."""
        return self._engine is not None

    @property
    def ready(self) -> EngineReady | None:
        """What the engine that is there has said of itself."""
        return self._engine.ready if self._engine is not None else None

    @property
    def is_suspicious(self) -> bool:
        """Whether it has one that a death counts against, and that has made nothing since."""
        if self._blamed:
            over = (RequestPlace.GOING, RequestPlace.GONE)
            self._blamed = {name: one for name, one in self._blamed.items() if one.place not in over and name in self.states}
        return bool(self._blamed)

    def load(self, *, in_gaps: bool) -> Counter[str]:
        """What is still to be computed, by tenant, as the router counts. Those that fill gaps are only in the way of such."""
        load: Counter[str] = Counter()
        for state in self.states.values():
            if in_gaps or not state.add.in_gaps:
                num_tokens = 0 if state.place is RequestPlace.GOING else state.num_new_tokens
                load[state.add.tenant] += REQUEST_COST + num_tokens
        return load

    def attach(self, engine: AsyncMPClient) -> int:
        """From now on requests go to ``engine``, those that are held first: how many these are."""
        self._table.note_attached()
        self._engine = engine
        held = list(self.states.values())
        for state in held:
            self._try_to_send(engine, state)
        return len(held)

    @property
    def is_busy(self) -> bool:
        """Whether the engine has to do with any of these."""
        return any(state.place is not RequestPlace.HELD for state in self.states.values())

    @property
    def num_held(self) -> int:
        """Requests that wait for the engine."""
        return sum(state.place is RequestPlace.HELD for state in self.states.values())

    def send_held(self) -> None:
        """What is held is not any longer, if there is an engine."""
        for state in list(self.states.values()):
            if self._engine is not None and state.place is RequestPlace.HELD:
                self._try_to_send(self._engine, state)

    def part(self) -> None:
        """The engine goes, and nobody is to blame: whatever it still had is held for the next one."""
        self._engine, self.is_gone = None, False
        self._past, self.statistics = self.statistics, totals_of(self.statistics)
        for state in self.states.values():
            if state.place is not RequestPlace.HELD:
                state.hold(state.crash_count)

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
            if state.add.num_deaths:
                self._blamed[name] = state
        return verdict

    def note_new_workers(self) -> None:
        """The engine that is attached has others, or is new: its cache is empty."""
        self._table.note_engine(self)

    def hand_over(self, *, with_blamed: bool = False) -> int:
        """Gives what is held here to other engines that compute, as far as there are any: how many these are.

        Those that a death counts against stay, unless ``with_blamed``: whoever is to blame kills no other engine.
        """
        held = [state for state in self.states.values() if with_blamed or not state.add.num_deaths]
        return self._table.move(held, self) if held else 0

    def move_on(self, suspect_ids: Collection[str]) -> int:
        """The engine's workers have died, and others come only after a while: what it has goes on where there is room now.

        Those that a death counts against, ``suspect_ids``, stay. How many have gone.
        """
        self._blamed |= {name: self.states[name] for name in suspect_ids if name in self.states}
        had = [state for name, state in self.states.items() if name not in suspect_ids and not state.crash_count.num_deaths]
        moved = self._table.fitting_elsewhere(had, self)
        for state in moved:
            if state.place is not RequestPlace.HELD:
                state.hold(state.crash_count)
            if not self.is_prefill:  # what others have the prompt of need not come back here
                state.home = self.number
        if moved:
            self._table.move(moved, self)
            self.forget([state.add.request_id for state in moved])
        return len(moved)

    def hand_on(self, request_ids: Iterable[str]) -> None:
        """Others find the prompts of these: they go on where they belong, if there is such an engine, and it computes."""
        for state in [self.states[name] for name in request_ids if name in self.states]:
            if others := self._table.goals_of(state, self):
                state.hold(state.crash_count)
                self._table.move([state], self, others)
                self.forget([state.add.request_id])

    @property
    def num_free_tokens(self) -> int:
        """For which the engine's cache had room when it was heard of last."""
        ready, known = self.ready, self.statistics
        return 0 if ready is None else (ready.num_blocks - known.num_used_blocks) * ready.block_size

    def put(self, state: EngineRequest) -> None:
        """A new one, which is sent if there is an engine."""
        self.states[state.add.request_id] = state
        if self._engine is not None and not self._table.holds_new:
            self._send(self._engine, state)
        else:
            self._table.on_held()

    def take_over(self, state: EngineRequest) -> None:
        """One that another engine had, and that goes on here."""
        self.states[state.add.request_id] = state
        state.turn += 1
        if state.add.num_deaths:
            self._blamed[state.add.request_id] = state
        if self._engine is not None:
            self._try_to_send(self._engine, state)

    def give_away(self, state: EngineRequest) -> None:
        """Another engine takes it over."""
        del self.states[state.add.request_id]

    def unfinished(self) -> list[AddRequest]:
        """What the engine has, each with all that has come of it; what it computes comes first."""
        places = (RequestPlace.BEGUN, RequestPlace.GOING, RequestPlace.SENT)
        had = [state for place in places for state in self.states.values() if state.place is place]
        return [msgspec.structs.replace(state.add, output_token_ids=state.output_token_ids) for state in had]

    @property
    def sent(self) -> list[EngineRequest]:
        """The requests that the engine has to have."""
        return [state for state in self.states.values() if state.place is not RequestPlace.HELD]

    def send_again(self, sent_before: Sequence[EngineRequest], known: Collection[str]) -> int:
        """Sends those of ``sent_before`` that are unfinished and that the engine does not know: how many got lost.

        One that never arrives fails: there is something about it that the engine cannot take.
        """
        lost = []
        for state in sent_before:
            if state.add.request_id not in self.states:  # it has ended, or is another engine's now
                continue
            if state.add.request_id in known or state.place is RequestPlace.HELD:
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
        for state in self._table.end([request_id]):
            state.fail(error, time.monotonic())

    def take_out(self, request_id: str) -> EngineRequest:
        """Nothing more will come of this one."""
        state = self.states.pop(request_id)
        self._table.note_end(state)
        state.move_to(RequestPlace.GONE)
        return state

    def forget(self, request_ids: list[str], *, are_complete: bool = False) -> None:
        """Lets the engine forget what has been taken out."""
        if self._engine is not None:
            self._engine.send(AbortRequests(request_ids, are_complete))

    def note_begun(self, request_ids: Iterable[str]) -> None:
        """The engine's workers have these."""
        for request_id in request_ids:
            if (state := self.states.get(request_id)) is not None:
                state.note_begun()

    def _try_to_send(self, engine: AsyncMPClient, state: EngineRequest) -> None:
        """A request that cannot be encoded fails alone; a link that is closed is not its fault."""
        try:
            self._send(engine, state)
        except TransportError:
            raise
        except Exception as error:
            request_id = state.add.request_id
            logger.exception("this request cannot be sent to the engine", extra=of_request(request_id))
            self.fail(request_id, RequestFailedError(f"the request cannot be sent to the engine: {error}"))

    def take_statistics(self, statistics: EngineStatistics) -> None:
        """Notes the engine's snapshot; its counters go on where a dead engine's ended."""
        self.statistics = statistics if self._past.total_steps == 0 else add_totals(statistics, self._past)

    def _send(self, engine: AsyncMPClient, state: EngineRequest) -> None:
        age = state.age(time.monotonic())
        if state.home == self.number:
            state.home = None
        hands_over = self.is_prefill or state.home is not None
        engine.send(msgspec.structs.replace(state.add, age_seconds=age, hands_over=hands_over, turn=state.turn))
        state.move_to(RequestPlace.SENT)
