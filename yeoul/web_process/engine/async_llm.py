"""AsyncLLM: the engine as a Python object on an event loop: generate, encode, abort, check_health, drain, shutdown.

Turns text into tokens on the way in and tokens into text on the way out. Knows nothing of HTTP. The routes call
``submit``, scripts and ``yeoul.LLM`` call ``generate``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType

import msgspec

from yeoul.config.settings import Settings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_slot import EngineState
from yeoul.engines.engine_slots import Connect, EngineSlots
from yeoul.errors import InvalidRequestError, ProcessDeadError, UnavailableError
from yeoul.messages.outputs import EngineReady, RequestOutput
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.own_thread import in_own_thread
from yeoul.start_parts import START
from yeoul.web_process.engine.admission import (
    Limits,
    check_grammar_copies,
    check_num_logprobs,
    check_sampling,
    resolve_max_tokens,
)
from yeoul.web_process.engine.answer_grammars import AnswerForm, AnswerGrammars
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.model_text import ModelText, Prompt
from yeoul.web_process.engine.new_requests import NewRequests, replay, unique_id
from yeoul.web_process.engine.prompt_frame import PLAIN_FRAME, PromptFrame
from yeoul.web_process.engine.prompt_leases import PromptLease, leases_of
from yeoul.web_process.engine.request_observer import RequestObserver
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.request_table import RequestTable
from yeoul.web_process.engine.served_model import Progress, ServedModel
from yeoul.web_process.engine.served_text import ServedText
from yeoul.web_process.engine.service_terms import PLAIN_TERMS, ServiceTerms
from yeoul.web_process.engine.ticket import Ticket, guess_num_tokens
from yeoul.web_process.engine.waiting_room import WaitingRoom


class AsyncLLM:
    """Engines, one as a rule, and the requests in them. The constructor starts nothing; ``start`` does. One event loop.

    ``engines`` are what belongs to each. ``served`` has what requests need before they are handed in, and stays when the
    engine goes.

    ::

        async with AsyncLLM(build_settings({"model": "org/name", "max_model_len": 4096})) as llm:
            async for delta in llm.generate("Once upon a time", SamplingParams(max_tokens=32)):
                print(delta.text, end="", flush=True)
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_progress: Progress | None = None,
        connect: Connect = AsyncMPClient,
        num_engines: int | None = None,
        mark: str = "",
    ) -> None:
        """Where ``connect`` makes one that stands for several, ``num_engines`` is 1; ``mark`` tells apart who asks it."""
        self.settings = settings
        parallel = settings.parallel
        numbers = (parallel.data_parallel_size, parallel.num_prefill_engines) if num_engines is None else (num_engines, 0)
        self._requests = RequestTable(WaitingRoom.for_server(settings), RequestObserver(), *numbers)
        self.engines = EngineSlots(self._requests, connect)
        self.token_gaps = self._requests.token_gaps
        self._new_requests = NewRequests(settings.model.seed, mark)
        self.served = ServedText(settings.model, on_progress, self._call_workers)
        self.fingerprint = ""  # of the model, as the engine reported it
        self.is_woken = False  # somebody starts the engine when requests wait for it: they are taken without one
        self.drain_is_announced = False  # ``state`` then says draining, while what comes is still taken

    # Start and stop

    async def __aenter__(self) -> AsyncLLM:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    def spawn(self) -> None:
        """Starts the engine's process and returns at once; ``start`` waits for it.

        Call it on the loop, in a thread that lives as long as the engine. Raises as ``resolve``.
        """
        self.resolve()
        model = self.model
        self.engines.spawn(self.settings, model.files, model.description, model.limits.max_model_len)

    def resolve(self) -> None:
        """Finds the model's files, and fetches them where they are missing: blocks as long as that takes.

        Raises:
            ConfigError: the model or a setting cannot work.
        """
        self.served.resolve()

    async def start(self) -> EngineReady:
        """Starts the engine, loads the tokenizer meanwhile, and returns when requests can come.

        Raises:
            ConfigError: the user's mistake, here or in a child.
            ProcessDeadError: a child died before it was ready.
        """
        if not self.served.is_found:
            await in_own_thread("fetch_model", self.resolve)
            START.mark("finding the model")
        self.spawn()
        loading = asyncio.create_task(self.served.load(), name="load_text")
        starting = asyncio.create_task(self.engines.start(), name="start_engines")
        try:
            ready, _ = await asyncio.gather(starting, loading)
        except BaseException:
            starting.cancel()
            loading.cancel()
            await asyncio.gather(starting, loading, return_exceptions=True)
            await self.engines.stop()
            raise
        self.fingerprint = ready.model_fingerprint
        self.served.note_context(ready.max_model_len)
        self.engines.serve()
        return ready

    async def rest(self) -> None:
        """Ends the engine and every process below it; the next ``start`` makes another, for which requests wait meanwhile."""
        self._requests.part()
        try:
            await self.engines.rest()
        finally:
            self._requests.part()  # an engine that was being replaced may have come before its tasks ended

    async def drain(self) -> None:
        """Takes no new requests from now on; returns when the last running one is finished and read."""
        self._requests.is_closed = True
        await self._requests.wait_until_empty()

    async def shutdown(self, *, at_once: bool = False) -> None:
        """Ends the engine and every process below it. What still runs fails with ``UnavailableError``. May be repeated.

        ``at_once`` does not let the engine finish its step; it also hastens a shutdown that is under way.
        """
        self._requests.is_closed = True
        if at_once:
            self.engines.kill("is ended at once, as the server is")
        self._requests.fail_all(UnavailableError("the server stops; send the request again"))
        await self.engines.stop()
        self.served.close()

    # State

    @property
    def observer(self) -> RequestObserver:
        """Whoever counts and times requests."""
        return self._requests.observer

    @observer.setter
    def observer(self, observer: RequestObserver) -> None:
        self._requests.observer = observer

    @property
    def ready(self) -> EngineReady | None:
        """What the engine said when it was ready, several as one; None before."""
        return self.engines.ready if self.served.is_loaded else None

    @property
    def state(self) -> EngineState:
        """What the engine is doing, of several the one that is best off.

        While it recovers requests are taken, and wait; while it drains only old ones go on.
        """
        if self.ready is None:
            return "sleeping" if not self.engines.slots and self.is_woken else "starting"
        if (state := self.engines.state) != "ready":
            return state
        return "draining" if self._requests.is_closed or self.drain_is_announced else "ready"

    @property
    def model(self) -> ServedModel:
        """The model's files, shape and limits; known once ``resolve`` has returned."""
        return self.served.model

    @property
    def text(self) -> ModelText:
        """The tokenizer and the chat template. Raises UnavailableError while they are not loaded yet."""
        return self.served.text

    @property
    def grammars(self) -> AnswerGrammars:
        """What makes grammars ready for the workers. Raises as ``text``."""
        return self.served.grammars

    @property
    def requests(self) -> RequestTable:
        """All that is unfinished."""
        return self._requests

    @property
    def started_by(self) -> str | None:
        """The process that has started this one, where that one keeps the engines."""
        return self.engines.slots[0].engine.started_by if self.engines.slots else None

    @property
    def limits(self) -> Limits:
        """What the engine can take; known once ``resolve`` has returned."""
        return self.model.limits

    @property
    def max_num_prompts(self) -> int:
        """How many prompts may be handed in at a time, with an answer each."""
        return self._requests.room.most_requests

    @property
    def statistics(self) -> EngineStatistics:
        """The engine's last snapshot."""
        return self._requests.statistics

    @property
    def num_unfinished(self) -> int:
        """Requests (choices) inside the engine as this process knows it."""
        return self._requests.num_unfinished

    @property
    def max_num_running(self) -> int:
        """How many requests can be in the steps of all engines together."""
        return self.settings.parallel.data_parallel_size * self.settings.scheduler.max_num_seqs

    @property
    def lost(self) -> str | None:
        """Which process is missing and being replaced, as a sentence; None where an engine computes."""
        return self.engines.lost

    @property
    def waiting_room(self) -> WaitingRoom:
        """What is known of the waiting queue."""
        return self._requests.room

    def check_health(self) -> None:
        """Raises ProcessDeadError for a dead engine, UnavailableError for one that is not ready yet, if nobody wakes it."""
        if not self.is_woken:
            self.engines.check_alive()
            self._check_ready()

    def _check_ready(self) -> None:
        if self.ready is None:
            raise UnavailableError("the server is starting; try again in a few seconds")

    async def wait_for_death(self) -> ProcessDeadError:
        """Returns when the engine, of several the last one, has died: its error."""
        return await self.engines.wait_for_death()

    async def call(self, method: str, arguments: list[str] | None = None) -> str:
        """Calls a method of EngineCore (``ping``, ``reset_prefix_cache``, ``collective_rpc``), of each that computes."""
        self.engines.check_alive()
        self._check_ready()
        return await self.engines.call(method, arguments)

    async def _call_workers(self, method: str, arguments: list[str]) -> str:
        return await self.call("collective_rpc", [method, *arguments])

    # Requests

    async def generate(
        self,
        prompt: Prompt,
        sampling: SamplingParams,
        request_id: str | None = None,
        *,
        terms: ServiceTerms = PLAIN_TERMS,
    ) -> AsyncIterator[GenerationOutput]:
        """Deltas of all ``sampling.n`` choices, as they come. Leaving the iteration gives the request up at once.

        Raises:
            InvalidRequestError: a value that cannot work; PromptTooLongError for the prompt.
            BusyError: the queue is full, or the engine starts or stops.
            InternalError: the request, or the engine, failed.
        """
        stream = await self.submit([prompt], sampling, request_id, terms=terms)
        try:
            async for output in stream:
                yield output
        finally:
            stream.close()

    def take_ticket(self, terms: ServiceTerms, num_choices: int, num_tokens: int, request_id: str | None = None) -> Ticket:
        """A place for so many choices, with prompts of about so many tokens together: before those are made with effort.

        Raises as ``submit``. Use it with ``with``.
        """
        self.check_health()
        return Ticket(self._requests, terms, num_choices, num_tokens, request_id)

    async def submit(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingParams,
        request_id: str | None = None,
        *,
        terms: ServiceTerms = PLAIN_TERMS,
        ticket: Ticket | None = None,
        add_special_tokens: bool = True,
        pooling: str | None = None,
        marked: Mapping[int, str] | None = None,
        form: AnswerForm | None = None,
        frame: PromptFrame = PLAIN_FRAME,
        made: Sequence[RequestOutput] | None = None,
        leases: Sequence[PromptLease] = (),
    ) -> RequestStream:
        """Checks everything, hands the prompts to the engine, and returns the stream of all their choices.

        The caller closes the stream. Who has a ticket gives it instead of terms. With ``pooling`` a vector comes back for
        each prompt, see ``embed``. Of ``marked`` tokens, by id, the text is kept, and told where it begins. ``made`` is what
        was made of the one choice before: the stream begins with it, and its deltas are kept apart. ``leases`` are of the
        first prompt. Errors as for ``generate``; on an error the engine has heard of nothing.
        """
        limits = self.limits if pooling is None else msgspec.structs.replace(self.limits, num_answer_tokens=0)
        sampling = check_sampling(sampling, limits)
        with contextlib.ExitStack() as place:
            if ticket is None:
                num_tokens = sampling.n * _guess(prompts)
                ticket = place.enter_context(self.take_ticket(terms, len(prompts) * sampling.n, num_tokens, request_id))
            async with ticket.in_time():
                sampling = await self.text.spell_bad_words(sampling, ticket.terms.tenant)
                prompt_token_ids = await self.text.tokenize_all(
                    prompts, sampling, limits, add_special_tokens, ticket.terms.tenant, frame
                )
                if frame.suffix is not None:
                    sampling = self.text.ending_with_gap(sampling)
                if form is not None:
                    sampling = msgspec.structs.replace(sampling, grammar=await self.grammars.build(form))
                if sampling.grammar is not None:
                    check_grammar_copies(sampling, len(prompts))
                    await self.grammars.prepare(sampling.grammar)
            resolved = [resolve_max_tokens(sampling, len(token_ids), limits) for token_ids in prompt_token_ids]
            num_prompt_tokens, max_tokens = sum(map(len, prompt_token_ids)), [params.max_tokens or 1 for params in resolved]
            check_num_logprobs(sampling, num_prompt_tokens, sum(max_tokens))
            seeds = self._new_requests.choose_seeds(sampling.seed, len(prompts))
            own_id = request_id or unique_id(ticket.terms.request_id)
            kept = await leases_of(leases, prompts[0], len(prompt_token_ids[0]), self.text, ticket.terms)
            stream = RequestStream(own_id, prompt_token_ids, sampling, seeds, self._requests.close, kept)
            states = await self._new_requests.make(stream, resolved, pooling, marked or {}, self.text, self.observer, ticket)
            if made is not None:
                await replay(states[0], made)
            self.check_health()
            ticket.admit(sampling.n * num_prompt_tokens, max(max_tokens))
        self._requests.open(stream, ticket.seconds_left(), ticket.missed)
        self._requests.add_all(stream, states, ticket.terms, ticket.arrival)
        return stream

    def draw_seed(self) -> int:
        """A seed for a request that says none, for whoever has to know it before the request is handed in."""
        return self._new_requests.choose_seeds(None, 1)[0]

    async def encode(self, prompt: Prompt, pooling: str = "last", *, terms: ServiceTerms = PLAIN_TERMS) -> list[float]:
        """The vector of a prompt, of length 1: of its last token (``last``) or of all its tokens (``mean``)."""
        (output,) = await (await self.embed([prompt], pooling, terms=terms)).collect()
        return output.vector

    async def embed(
        self,
        prompts: Sequence[Prompt],
        pooling: str = "last",
        *,
        terms: ServiceTerms = PLAIN_TERMS,
        add_special_tokens: bool = True,
        frame: PromptFrame = PLAIN_FRAME,
    ) -> RequestStream:
        """The stream of the vectors of several prompts, which the caller closes. Errors as for ``generate``."""
        if pooling not in ("last", "mean"):
            raise InvalidRequestError(f"pooling is {pooling!r}; expected 'last' or 'mean'", param="pooling")
        return await self.submit(
            prompts,
            SamplingParams(max_tokens=1, seed=0),
            terms=terms,
            pooling=pooling,
            add_special_tokens=add_special_tokens,
            frame=frame,
        )

    async def abort(self, request_id: str) -> None:
        """Ends a request; its reader sees ``finish_reason`` ``abort``. An unknown id is ignored."""
        if (stream := self._requests.find(request_id)) is not None:
            stream.close()


def _guess(prompts: Sequence[Prompt]) -> int:
    return sum(guess_num_tokens(len(prompt)) if isinstance(prompt, str) else len(prompt) for prompt in prompts)
