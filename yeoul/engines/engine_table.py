"""EngineTable: every request that is in an engine; which engine has it the ``Router`` says, where there are several.

Knows no HTTP, no text and no limits. Whoever is in front of the engines adds and ends requests here, with a subclass that
hears of what comes and goes: the web process's is ``RequestTable``.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from yeoul.engines.engine_observer import EngineObserver
from yeoul.engines.engine_request import EngineRequest
from yeoul.engines.engine_requests import EngineRequests
from yeoul.engines.router import MAX_PREFIX_TOKENS, PIECE_TOKENS, REQUEST_COST, Choice, Load, Router, keys_of
from yeoul.engines.token_gaps import TokenGaps
from yeoul.messages.keeper import EngineRole
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.statistics import EngineStatistics, join_statistics

_MAX_NEW_TOKENS = 256  # of a prompt, that an engine which decodes computes beside: one short step


class EngineTable:
    """``engines`` hold the unfinished requests.

    The first ``num_prefill_engines`` of them compute long prompts, the others all else, unless only the first are there.
    ``observer`` is whoever watches engines; the times between tokens are in ``token_gaps``.
    ``num_unfinished`` requests are in all engines together. ``is_closed``: no more may come. ``holds_new``: what comes is
    held, and what the engines have goes on. ``on_held`` is called when a request is held that has just come, ``on_less``
    when one has ended.
    """

    observer: EngineObserver

    def __init__(self, observer: EngineObserver, num_engines: int = 1, num_prefill_engines: int = 0) -> None:
        self.observer = observer
        self.token_gaps = TokenGaps()
        roles: list[EngineRole | None] = [None] * num_engines
        if num_prefill_engines:
            roles = ["prefill" if number < num_prefill_engines else "decode" for number in range(num_engines)]
        self.engines = [EngineRequests(self, number, role) for number, role in enumerate(roles)]
        self.is_closed = False
        self.holds_new = False
        self.on_held: Callable[[], None] = _ignore
        self.on_less: Callable[[], None] = _ignore
        self._router = Router(num_engines)
        self._prefill_numbers = frozenset(range(num_prefill_engines))
        self.num_unfinished = 0
        self._num_in_gaps = 0

    @property
    def num_live(self) -> int:
        """Unfinished requests that somebody waits for: all but those that fill gaps."""
        return self.num_unfinished - self._num_in_gaps

    def numbers_of(self, request_ids: Iterable[str]) -> list[int]:
        """Of the engines that have any of these."""
        return sorted({engine.number for name in request_ids for engine in self.engines if name in engine.states})

    @property
    def is_busy(self) -> bool:
        """Whether an engine has to do with any of these."""
        return any(engine.is_busy for engine in self.engines)

    @property
    def num_held(self) -> int:
        """Requests that wait for an engine."""
        return sum(engine.num_held for engine in self.engines)

    def part(self) -> None:
        """The engines go, and nobody is to blame: whatever they still had is held for the next ones."""
        for engine in self.engines:
            engine.part()

    def send_held(self) -> None:
        """What comes is not held any longer, nor what was."""
        self.holds_new = False
        self.note_engines(is_idle=not self.is_busy)
        for engine in self.engines:
            engine.send_held()

    @property
    def statistics(self) -> EngineStatistics:
        """The engines' last snapshots, as one."""
        return join_statistics([engine.statistics for engine in self.engines])

    def add(self, state: EngineRequest, engine: EngineRequests | None = None) -> None:
        """Sends a request to an engine, the first one if none is named, and waits for its outputs."""
        self.note_entered(state)
        self.num_unfinished += 1
        self._num_in_gaps += state.add.in_gaps
        (engine or self.engines[0]).put(state)

    def give_up(self, request_ids: list[str]) -> None:
        """Ends those of these requests that are unfinished, here and in the engine."""
        now = time.monotonic()
        for state in self.withdraw(request_ids):
            state.give_up(now)

    def withdraw(self, request_ids: list[str], *, are_complete: bool = False) -> list[EngineRequest]:
        """Takes out those of these requests that are unfinished, and lets the engines forget them."""
        states: list[EngineRequest] = []
        for engine in self.engines:
            if unfinished := [request_id for request_id in request_ids if request_id in engine.states]:
                self.note_gone(unfinished)
                states += map(engine.take_out, unfinished)
                engine.forget(unfinished, are_complete=are_complete)
        return states

    def end(self, request_ids: list[str]) -> list[EngineRequest]:
        """Nothing more will come of these, and whoever waits for room or for the end learns of it."""
        self.note_gone(request_ids)
        return [self._holder_of(request_id).take_out(request_id) for request_id in request_ids]

    def note_end(self, state: EngineRequest) -> None:
        """This one has been taken out of its engine's."""
        self.num_unfinished -= 1
        self._num_in_gaps -= state.add.in_gaps

    def _holder_of(self, request_id: str) -> EngineRequests:
        return next(engine for engine in self.engines if request_id in engine.states)

    def fail_all(self, error: Exception) -> None:
        """Every unfinished request fails with ``error``; the engine is told nothing."""
        now = time.monotonic()
        for state in self.end([request_id for engine in self.engines for request_id in engine.states]):
            state.fail(error, now)

    # What a subclass hears of

    def note_entered(self, state: EngineRequest) -> None:
        """This one comes, and counts as unfinished from now on."""

    def note_outputs(self, outputs: Iterable[RequestOutput], finished: Sequence[EngineRequest]) -> None:
        """These were handed out, and with them these requests came to an end."""
        if finished:
            self.note_less()

    def note_gone(self, request_ids: list[str]) -> None:
        """These end in another way."""
        self.note_less()

    def note_less(self) -> None:
        """There are fewer."""
        self.on_less()

    def note_engines(self, *, is_idle: bool) -> None:
        """What waited for an engine is served from now on; ``is_idle`` if none was computed beside it."""

    # Several engines

    def note_attached(self) -> None:
        """An engine comes; where there was none, all waited for it."""
        if not any(engine.is_attached for engine in self.engines):
            self.note_engines(is_idle=True)

    def note_engine(self, engine: EngineRequests) -> None:
        """There is one that takes requests, and whose cache is empty; what others only hold goes on there, too."""
        if len(self.engines) > 1:
            ready = engine.ready
            self._router.begin(engine.number, 0 if ready is None else ready.num_blocks * ready.block_size)
            for other in self.engines:
                if other is not engine and not other.is_attached:
                    other.hand_over()

    def forget_prefixes(self) -> None:
        """The engines' caches have been emptied."""
        for engine in self.engines:
            self._router.forget(engine.number)

    def move(
        self, states: Sequence[EngineRequest], source: EngineRequests, others: Sequence[EngineRequests] | None = None
    ) -> int:
        """Gives what is only held for one engine to ``others``: if none are named, to all that compute, or to any that may
        come if it will never be back.

        How many have gone.
        """
        if others := self._others(source) if others is None else others:
            for engine, state in self._spread(states, others):
                source.give_away(state)
                engine.take_over(state)
        return len(states) if others else 0

    def fitting_elsewhere(self, states: Iterable[EngineRequest], source: EngineRequests) -> list[EngineRequest]:
        """The first of these for which others that compute have blocks that nobody uses: they need not wait there.

        Room in a prefill engine is room for what may be sent there, and for nothing else.
        """
        num_free, fitting = Counter[bool](), []
        for engine in self._others(source):
            num_free[engine.is_prefill] += engine.num_free_tokens
        for state in states:
            num_tokens, is_answered = len(state.add.prompt_token_ids), bool(state.output_token_ids)
            is_for_prefill = num_tokens > _MAX_NEW_TOKENS and not is_answered
            kind = is_for_prefill if is_for_prefill in num_free else not is_for_prefill
            num_free[kind] -= num_tokens + len(state.output_token_ids) + REQUEST_COST
            if num_free[kind] >= 0:
                fitting.append(state)
        return fitting

    def goals_of(self, state: EngineRequest, source: EngineRequests) -> list[EngineRequests]:
        """Where one belongs whose prompt others find by now: to the engine that it came from, or from prefill to decode."""
        candidates = [engine for engine in self._candidates() if engine.is_ready and engine is not source]
        if state.home is not None and not self.engines[state.home].is_gone:
            return [engine for engine in candidates if engine.number == state.home]
        return [engine for engine in candidates if not engine.is_prefill] if source.is_prefill else []

    def _others(self, source: EngineRequests) -> list[EngineRequests]:
        return [engine for engine in self._candidates() if engine is not source and (engine.is_ready or source.is_gone)]

    def routed(self, states: Sequence[EngineRequest]) -> Iterable[tuple[EngineRequests, EngineRequest]]:
        """Each with its engine, the choices of a prompt together."""
        if not (candidates := self._candidates()):
            return ((self.engines[0], state) for state in states)
        return self._spread(states, candidates)

    def _candidates(self) -> list[EngineRequests]:
        """Those that compute, and of these rather those in which nobody is under suspicion; else those that may again."""
        ready = [engine for engine in self.engines if engine.is_ready]
        calm = [engine for engine in ready if not engine.is_suspicious]
        return calm or ready or [engine for engine in self.engines if not engine.is_gone]

    def _spread(
        self, states: Sequence[EngineRequest], candidates: Sequence[EngineRequests]
    ) -> Iterator[tuple[EngineRequests, EngineRequest]]:
        """What they cost counts at once: nobody has been sent any of them yet."""
        loads: list[Counter[str] | None] = [None] * len(self.engines)
        for engine in candidates:
            loads[engine.number] = engine.load(in_gaps=states[0].add.in_gaps)
        num_tokens_left = MAX_PREFIX_TOKENS  # that are looked up: the loop waits for it
        for _, group in itertools.groupby(states, lambda state: id(state.add.prompt_token_ids)):
            together = list(group)
            add = together[0].add
            keys = keys_of(add.prompt_token_ids, add.cache_salt) if together[0].may_use_prefix and num_tokens_left > 0 else []
            num_tokens_left -= PIECE_TOKENS * len(keys)
            choice = self._choose(keys, together, loads)
            self._router.note_sent(choice.engine, keys)
            together[0].num_new_tokens = choice.num_new_tokens  # the other choices find its prompt
            load = loads[choice.engine]
            assert load is not None
            load[add.tenant] += choice.num_new_tokens + len(together) * REQUEST_COST
            yield from ((self.engines[choice.engine], state) for state in together)

    def _choose(self, keys: Sequence[int], together: Sequence[EngineRequest], loads: Sequence[Load | None]) -> Choice:
        """For choices of one prompt. What has to be computed for long, and is not answered yet, goes to a prefill engine."""
        add, num_tokens, prefill = together[0].add, len(together[0].add.prompt_token_ids), self._prefill_numbers
        decode_loads = [None if number in prefill else load for number, load in enumerate(loads)]
        some = decode_loads if any(load is not None for load in decode_loads) else loads
        choice = self._router.choose(keys, num_tokens, len(together), add.tenant, some)
        prefill_loads = [load if number in prefill else None for number, load in enumerate(loads)]
        is_long = choice.num_new_tokens > _MAX_NEW_TOKENS and not add.output_token_ids
        if is_long and any(load is not None for load in prefill_loads):
            return self._router.choose(keys, num_tokens, len(together), add.tenant, prefill_loads)
        return choice


def _ignore() -> None:
    """Nobody wants to know."""
