"""RequestTable: every request that is in an engine, and the streams that read them; knows no HTTP and no text.

``AsyncLLM`` adds and ends requests here; which engine has them the ``Router`` says, where there are several.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from yeoul.errors import InvalidRequestError
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.statistics import EngineStatistics, join_statistics
from yeoul.web_process.engine.engine_requests import EngineRequests
from yeoul.web_process.engine.request_observer import RequestObserver
from yeoul.web_process.engine.request_state import RequestState
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.router import MAX_PREFIX_TOKENS, PIECE_TOKENS, REQUEST_COST, Router, keys_of
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.token_gaps import TokenGaps
from yeoul.web_process.engine.waiting_room import WaitingRoom


class RequestTable:
    """``engines`` hold the unfinished requests, ``_streams`` has unclosed streams by the user's id.

    ``observer`` is whoever counts and times requests, but for the times between tokens, ``token_gaps``.
    ``num_unfinished`` requests are in all engines together. ``is_closed``: no more may come. ``holds_new``: what comes is
    held, and what the engines have goes on. ``on_held`` is called when a request is held that has just come, ``on_less``
    when one has ended.
    """

    def __init__(self, room: WaitingRoom, observer: RequestObserver, num_engines: int = 1) -> None:
        self.room = room
        self.observer = observer
        self.token_gaps = TokenGaps()
        self.engines = [EngineRequests(self, number) for number in range(num_engines)]
        self.is_closed = False
        self.holds_new = False
        self.on_held: Callable[[], None] = _ignore
        self.on_less: Callable[[], None] = _ignore
        self._router = Router(num_engines)
        self._streams: dict[str, RequestStream] = {}
        self._change = asyncio.Event()
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
        self.room.note_engine(is_idle=not self.is_busy)
        for engine in self.engines:
            engine.send_held()

    @property
    def statistics(self) -> EngineStatistics:
        """The engines' last snapshots, as one."""
        return join_statistics([engine.statistics for engine in self.engines])

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
        stream.entered_at = time.monotonic()
        try:
            for engine, state in (
                self._routed(states)
                if len(self.engines) > 1
                else zip(itertools.repeat(self.engines[0]), states, strict=False)
            ):
                stream.engine_request_ids.append(state.add.request_id)
                self.add(state, engine)
        except BaseException:
            stream.close()
            raise
        self.observer.entered(stream, terms, arrival)

    def add(self, state: RequestState, engine: EngineRequests | None = None) -> None:
        """Sends a request to an engine, the first one if none is named, and waits for its outputs."""
        request_id = state.add.request_id
        if state.add.in_gaps:
            self.num_unfinished += 1
            self._num_in_gaps += 1
        else:
            num_tokens = len(state.add.prompt_token_ids)
            self.room.enter(request_id, state.add.tenant, num_tokens, is_alone=self.num_live == 0)
            self.num_unfinished += 1
        (engine or self.engines[0]).put(state)

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
        """Takes out those of these requests that are unfinished, and lets the engines forget them."""
        states: list[RequestState] = []
        for engine in self.engines:
            if unfinished := [request_id for request_id in request_ids if request_id in engine.states]:
                self._note_gone(unfinished)
                states += map(engine.take_out, unfinished)
                engine.forget(unfinished)
        return states

    def end(self, request_ids: list[str]) -> list[RequestState]:
        """Nothing more will come of these, and whoever waits for room or for the end learns of it."""
        self._note_gone(request_ids)
        return [self._holder_of(request_id).take_out(request_id) for request_id in request_ids]

    def note_end(self, state: RequestState) -> None:
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

    def note_outputs(self, outputs: Iterable[RequestOutput], finished: Sequence[RequestState]) -> None:
        """These were handed out, and with them these requests came to an end."""
        self.room.note_served(output.request_id for output in outputs)
        if finished:
            if awaited := [state for state in finished if not state.add.in_gaps]:
                now = time.monotonic()
                seconds = sum(state.seconds_computed(now) for state in awaited)
                self.room.note_answers([max(1, len(state.output_token_ids)) for state in awaited], seconds)
            self._note_less()

    def _note_gone(self, request_ids: list[str]) -> None:
        self.room.note_gone(request_ids)
        self._note_less()

    def _note_less(self) -> None:
        self._change.set()
        self.on_less()

    async def wait_until_empty(self) -> None:
        """Returns when every request is finished and every stream is read and closed."""
        while self.num_unfinished or self._streams:
            self._change.clear()
            await self._change.wait()

    def note_attached(self) -> None:
        """An engine comes; where there was none, all waited for it."""
        if not any(engine.is_attached for engine in self.engines):
            self.room.note_engine(is_idle=True)

    # Several engines

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

    def move(self, states: Sequence[RequestState], source: EngineRequests) -> int:
        """Gives what is only held for one engine to others that compute, to any that may come if it will never be back.

        How many have gone.
        """
        others = [engine for engine in self._candidates() if engine is not source and (engine.is_ready or source.is_gone)]
        if others:
            for engine, state in self._spread(states, others):
                source.give_away(state)
                engine.take_over(state)
        return len(states) if others else 0

    def _routed(self, states: Sequence[RequestState]) -> Iterable[tuple[EngineRequests, RequestState]]:
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
        self, states: Sequence[RequestState], candidates: Sequence[EngineRequests]
    ) -> Iterator[tuple[EngineRequests, RequestState]]:
        """What they cost counts at once: nobody has been sent any of them yet."""
        loads: list[Counter[str] | None] = [None] * len(self.engines)
        for engine in candidates:
            loads[engine.number] = engine.load(in_gaps=states[0].add.in_gaps)
        num_tokens_left = MAX_PREFIX_TOKENS  # that are looked up: the loop waits for it
        for _, group in itertools.groupby(states, lambda state: id(state.add.prompt_token_ids)):
            together = list(group)
            add, num_tokens = together[0].add, len(together[0].add.prompt_token_ids)
            keys = keys_of(add.prompt_token_ids, add.cache_salt) if together[0].may_use_prefix and num_tokens_left > 0 else []
            num_tokens_left -= PIECE_TOKENS * len(keys)
            choice = self._router.choose(keys, num_tokens, len(together), add.tenant, loads)
            self._router.note_sent(choice.engine, keys)
            together[0].num_new_tokens = choice.num_new_tokens  # the other choices find its prompt
            load = loads[choice.engine]
            assert load is not None
            load[add.tenant] += choice.num_new_tokens + len(together) * REQUEST_COST
            yield from ((self.engines[choice.engine], state) for state in together)


def _ignore() -> None:
    """Nobody wants to know."""
