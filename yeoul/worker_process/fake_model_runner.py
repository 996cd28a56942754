"""FakeModelRunner: a model runner without a model; measures and tests everything around it. Never imports torch.

Its KV cache is real in all but size: a slot holds the hash of the prefix that ends there, and each step reads it back
through the block tables. ``Worker`` makes one for the model named ``fake``.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yeoul.config.parts import WorkerSettings
from yeoul.grammars.compiler import GrammarCompiler
from yeoul.grammars.matcher import GrammarMatcher
from yeoul.layers.thinking_limit import ThinkingLimit
from yeoul.messages.outputs import RequestFault, TokenLogprobs
from yeoul.messages.steps import RequestResult, StepInput
from yeoul.worker_process import fake_model
from yeoul.worker_process.cache_memory import plan_num_blocks
from yeoul.worker_process.fingerprint import model_fingerprint
from yeoul.worker_process.input_batch import InputBatch, StepBatch
from yeoul.worker_process.request_state import RequestState
from yeoul.worker_process.stage_neighbours import StageNeighbours

_SLOT_BYTES = 8
_DEFAULT_CACHE_BYTES = 1 << 20
_EMBEDDING_SIZE = 64  # as the description says


class _Sampling(NamedTuple):
    """What a request adds to its draws, and where its answer stands in its grammar."""

    noise: int
    grammar: GrammarMatcher | None
    thinking: ThinkingLimit | None


class FakeModelRunner:
    """Answers as ``fake_model`` says, if every block and counter that it is handed is right."""

    def __init__(
        self, settings: WorkerSettings, grammars: GrammarCompiler, neighbours: StageNeighbours | None = None
    ) -> None:
        self._neighbours = neighbours or StageNeighbours()
        self._stage = settings.stage
        self.prepared_at = self.sample_seconds = 0.0
        self._settings = settings
        self._grammars = grammars
        self._powers, self._inverse_powers = _powers_of_multiplier(settings.max_num_batched_tokens + 1)
        self._batch: InputBatch | None = None
        self._cache: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)

    @property
    def device_name(self) -> str:
        """``fake``: nothing is computed."""
        return "fake"

    def load(self) -> None:
        """There is nothing to load."""

    @property
    def block_bytes(self) -> int:
        """8 bytes a token."""
        return self._settings.cache.block_size * _SLOT_BYTES

    def max_num_blocks(self) -> int:
        """Room in 1 MiB, or in what the settings give; one full context at least."""
        return plan_num_blocks(self._settings, self.block_bytes, _DEFAULT_CACHE_BYTES, None)

    def fingerprint(self) -> str:
        """The same for every fake model of this version."""
        return model_fingerprint(self._settings, "uint64")

    def cache_key(self) -> str:
        """The same for every fake model of this version and block size."""
        return f"{self.fingerprint()} {self._settings.cache.block_size}"

    def cache_blocks(self) -> npt.NDArray[np.uint8]:
        """See ``ModelRunner.cache_blocks``."""
        return self._cache.view(np.uint8).reshape(-1, self.block_bytes)

    def allocate_cache(self, num_blocks: int) -> None:
        """Makes an empty cache and forgets all requests."""
        block_size = self._settings.cache.block_size
        self._cache = np.zeros(num_blocks * block_size, dtype=np.uint64)
        self._batch = InputBatch(self._settings, num_blocks, self._settings.description.vocab_size)

    def execute(self, step: StepInput) -> list[RequestResult]:
        """Writes the hashes of the step's tokens to the cache, then draws a token where a request's end is reached."""
        batch = self._batch
        assert batch is not None, "execute before allocate_cache"
        self.sample_seconds = 0.0
        self.prepared_at = time.monotonic()
        if self._stage.is_first:
            self._pass_time(step)
        if not self._stage.is_last:
            batch.take_sampled(step.sampled)
        layout, faults, new_states = batch.begin_step(step)
        if self._stage.is_last:
            for state in new_states:
                self._prepare(batch, state, faults)
        results: list[RequestResult] = []
        if layout is not None:
            if self._settings.fake.fake_poison:
                fake_model.act_on_poison(layout.token_ids.astype(np.uint64))
            self._write(step, batch, layout)
        if layout is not None and self._stage.is_last:
            since = time.monotonic()
            _collect_prompt_logprobs(batch, layout, faults)
            results = self._answer(batch, layout, faults)
            self.sample_seconds = time.monotonic() - since
        return results + [RequestResult(request_id, fault=fault) for request_id, fault in faults.items()]

    def _prepare(self, batch: InputBatch, state: RequestState, faults: dict[str, RequestFault]) -> None:
        """A request without it (it failed) is computed for nobody."""
        try:
            grammar = None if state.sampling.grammar is None else self._grammars.matcher(state.sampling.grammar)
            output = batch.tokens_of(state)[state.num_prompt_tokens :].tolist()
            if grammar is not None:
                grammar.accept(output)
            budget = state.sampling.thinking_budget
            thinking = None if budget is None else ThinkingLimit(budget, output)
            state.runner_data = _Sampling(fake_model.sampling_noise(state.sampling, state.choice_index), grammar, thinking)
        except Exception as error:
            faults[state.request_id] = RequestFault.because("the request's parameters cannot be used", error)

    def _pass_time(self, step: StepInput) -> None:
        """This stage's part of what the whole model would take."""
        num_tokens = sum(entry.num_new_tokens for entry in step.scheduled)
        seconds = self._settings.fake.fake_step_seconds + num_tokens * self._settings.fake.fake_token_seconds
        if seconds > 0 and num_tokens > 0:
            time.sleep(seconds / self._stage.size)

    def _write(self, step: StepInput, batch: InputBatch, layout: StepBatch) -> None:
        """The first stage computes the hashes, from those in its cache; each stage keeps them, and hands them on."""
        if self._stage.is_first:
            self._write_hashes(batch, layout)
        else:
            given = self._neighbours.receive(step.step_number, len(layout.token_ids) * _SLOT_BYTES)
            self._pass_time(step)
            self._cache[layout.slot_mapping] = np.frombuffer(given, dtype=np.uint64)
        if not self._stage.is_last:
            self._neighbours.send(step.step_number, self._cache[layout.slot_mapping].tobytes())

    def _write_hashes(self, batch: InputBatch, layout: StepBatch) -> None:
        """``h(s + j) = M**(j + 1) * (h(s - 1) + sum over i <= j of mix(token(s + i)) * M**-(i + 1))``, for all requests."""
        starts = layout.query_start[:-1].astype(np.int64)
        num_new = np.diff(layout.query_start).astype(np.int64)
        before = np.full(len(starts), fake_model.START, dtype=np.uint64)
        has_past = np.flatnonzero(layout.num_computed)
        before[has_past] = self._cache[batch.slots_of(layout.rows[has_past], layout.num_computed[has_past] - 1)]
        offsets = np.arange(len(layout.token_ids)) - np.repeat(starts, num_new) + 1
        terms = fake_model.mix(layout.token_ids.astype(np.uint64)) * self._inverse_powers[offsets]
        sums = np.cumsum(terms, dtype=np.uint64)
        carried = before - (sums[starts] - terms[starts])
        self._cache[layout.slot_mapping] = self._powers[offsets] * (sums + np.repeat(carried, num_new))

    def _answer(self, batch: InputBatch, layout: StepBatch, faults: dict[str, RequestFault]) -> list[RequestResult]:
        indices = [index for index in layout.reaches_end if layout.states[index].runner_data is not None]
        if not indices:
            return []
        states = [layout.states[index] for index in indices]
        rows = layout.rows[indices]
        lengths = layout.num_known[indices]
        last = self._cache[batch.slots_of(rows, lengths - 1)]
        picked = (last % lengths.astype(np.uint64)).astype(np.int64)
        earlier = self._cache[batch.slots_of(rows, picked)]
        noise = np.array([_sampling_of(state).noise for state in states], dtype=np.uint64)
        positions = [batch.num_output_tokens(state) for state in states]
        bits = fake_model.draw(last, earlier, noise, np.array(positions, dtype=np.uint64)).tolist()
        results = []
        for parts in zip(states, positions, bits, strict=True):
            try:
                results.append(self._result(batch, *parts))
            except Exception as error:
                faults[parts[0].request_id] = RequestFault.because("no token can be sampled", error)
        return results

    def _result(self, batch: InputBatch, state: RequestState, position: int, bits: int) -> RequestResult:
        prompt_logprobs, state.prompt_logprobs = state.prompt_logprobs or [], None
        if state.pooling is not None:
            return RequestResult(state.request_id, prompt_logprobs=prompt_logprobs, embedding=_embedding(bits))
        token_id = fake_model.token_from_bits(bits, int(batch.tokens_of(state)[-1]))
        token_id = fake_model.constrain(token_id, state.sampling, state.eos_token_ids, position)
        _, grammar, thinking = _sampling_of(state)
        is_forced = position < len(state.sampling.forced_token_ids)
        if thinking is not None:
            if not is_forced and (forced := thinking.forced()) is not None:
                token_id, is_forced = forced, True
            thinking.note(token_id)
        if grammar is not None:
            if not is_forced:
                token_id = _next_allowed(grammar, token_id)
            grammar.accept([token_id])
        batch.append_token(state, token_id)
        num_logprobs, asked = state.sampling.logprobs, state.sampling.logprob_token_ids
        logprobs = [] if num_logprobs is None else [_fake_logprobs(token_id, num_logprobs)]
        if asked is not None:
            logprobs = [_logprobs_of(asked, token_id, bits)]
        return RequestResult(state.request_id, [token_id], logprobs, prompt_logprobs)


def _powers_of_multiplier(num_powers: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Powers 0 to ``num_powers`` of the multiplier and of its inverse modulo 2**64 (it is odd, so there is one)."""
    powers = np.ones(num_powers + 1, dtype=np.uint64)
    inverse_powers = powers.copy()
    powers[1:] = fake_model.MULTIPLIER
    inverse_powers[1:] = pow(fake_model.MULTIPLIER, -1, 1 << 64)
    return np.cumprod(powers, dtype=np.uint64), np.cumprod(inverse_powers, dtype=np.uint64)


def _sampling_of(state: RequestState) -> _Sampling:
    assert isinstance(state.runner_data, _Sampling)
    return state.runner_data


def _next_allowed(grammar: GrammarMatcher, token_id: int) -> int:
    """The token itself, or the next one that the grammar allows, the first after the last."""
    mask = np.zeros(fake_model.VOCAB_SIZE // 32, dtype=np.int32)
    grammar.fill_mask(mask)
    allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
    return int(allowed[np.searchsorted(allowed, token_id) % len(allowed)])


def _collect_prompt_logprobs(batch: InputBatch, layout: StepBatch, faults: dict[str, RequestFault]) -> None:
    for state, first, end in zip(layout.states, layout.num_computed, layout.context_lengths, strict=True):
        if state.prompt_logprobs is None:
            continue
        predicted = batch.tokens_of(state)[first + 1 : min(int(end) + 1, state.num_prompt_tokens)].tolist()
        num_logprobs = state.sampling.prompt_logprobs or 0
        try:
            state.prompt_logprobs += [_fake_logprobs(token_id, num_logprobs) for token_id in predicted]
        except Exception as error:
            state.runner_data = None
            faults[state.request_id] = RequestFault.because("the prompt's log probabilities could not be computed", error)


def _fake_logprobs(token_id: int, num_logprobs: int) -> TokenLogprobs:
    """The token is the likeliest, the ids after it follow."""
    likeliest = [(token_id + place) % fake_model.VOCAB_SIZE for place in range(num_logprobs)]
    return TokenLogprobs([token_id, *likeliest], [-0.5, *(-0.5 - place for place in range(num_logprobs))], 1)


def _logprobs_of(asked: list[int], token_id: int, bits: int) -> TokenLogprobs:
    """Those of certain tokens, which differ by prompt."""
    return TokenLogprobs([token_id, *asked], [-0.5, *(-(bits * (2 * one + 1) % 4093) / 512 for one in asked)], 1)


def _embedding(bits: int) -> bytes:
    numbers = fake_model.mix(np.arange(_EMBEDDING_SIZE, dtype=np.uint64) + np.uint64(bits))
    vector = numbers.astype(np.float64) / 2**63 - 1.0
    return (vector / np.linalg.norm(vector)).astype("<f4").tobytes()
