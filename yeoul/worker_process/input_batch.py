"""InputBatch: the tokens and block tables of the requests that a worker knows, in arrays that live from step to step.

Knows nothing of models, devices or sampling: numpy only. Each model runner owns one. A request has a row of its own from
its first step until it is forgotten, so that a step of decoding costs a few array operations however many requests there
are, and no copying.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yeoul.config.parts import WorkerSettings
from yeoul.messages.outputs import RequestFault
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.worker_process.request_state import RequestState, request_state_from_message

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepBatch:
    """A step's requests, in the order in which they were scheduled, and their tokens, one request after the other.

    Attributes:
        states: the requests, ``num_requests`` of them.
        rows: int64 ``[num_requests]``, each request's row in the batch.
        num_computed: int64 ``[num_requests]``, the position of each request's first token in this step.
        num_known: int64 ``[num_requests]``, prompt and output tokens so far.
        query_start: int32 ``[num_requests + 1]``, where each request's tokens begin.
        context_lengths: int32 ``[num_requests]``, tokens in the cache once this step is done.
        token_ids, positions, slot_mapping: int64 ``[num_tokens]``; a slot is ``block_id * block_size + offset``.
        block_tables: int32 ``[num_requests, max_num_blocks]``, as wide as this step's longest context needs.
        reaches_end: the indices of the requests whose tokens reach the end of what is known: these sample, or embed.
    """

    states: list[RequestState]
    rows: Int64Array
    num_computed: Int64Array
    num_known: Int64Array
    query_start: Int32Array
    context_lengths: Int32Array
    token_ids: Int64Array
    positions: Int64Array
    slot_mapping: Int64Array
    block_tables: Int32Array
    reaches_end: list[int]

    @property
    def max_context_length(self) -> int:
        """The longest context of this step, in tokens."""
        return int(self.context_lengths.max())


class _RefusalError(Exception):
    """What the message says is wrong with one request."""


class InputBatch:
    """Rows of requests: ``begin_step`` applies a step's news and lays its tokens out, ``append_token`` adds what was sampled.

    A request that was scheduled wrongly is reported as a fault of its own and left out; the step goes on without it.
    """

    def __init__(self, settings: WorkerSettings, num_blocks: int, vocab_size: int) -> None:
        max_num_requests, max_model_len = settings.max_num_seqs, settings.max_model_len
        self.block_size = block_size = settings.cache.block_size
        self._num_blocks = num_blocks
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        # np.zeros maps memory only where it is touched, so room for the longest contexts costs nothing until it is used.
        self._token_ids = np.zeros((max_num_requests, max_model_len + 1), dtype=np.int32)
        self._num_tokens = np.zeros(max_num_requests, dtype=np.int64)
        blocks_per_request = -(-(max_model_len + 1) // block_size)
        self._block_tables = np.zeros((max_num_requests, blocks_per_request), dtype=np.int32)
        self._num_table_blocks = np.zeros(max_num_requests, dtype=np.int64)
        self._free_rows = list(range(max_num_requests - 1, -1, -1))
        self._requests: dict[str, RequestState] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def take_sampled(self, sampled: dict[str, list[int]]) -> None:
        """Adds what another stage sampled for requests of the step that is to begin."""
        for request_id, token_ids in sampled.items():
            if (state := self._requests.get(request_id)) is not None:
                for token_id in token_ids:
                    self.append_token(state, token_id)

    def begin_step(self, step: StepInput) -> tuple[StepBatch | None, dict[str, RequestFault], list[RequestState]]:
        """Forgets, adds and extends what the step says.

        Returns:
            the step's batch (None where nothing is left to compute), the faults by request id, and the new requests.
        """
        for request_id in step.finished_request_ids:
            self._forget(request_id)
        faults: dict[str, RequestFault] = {}
        new_states: list[RequestState] = []
        for message in step.new_requests:
            try:
                new_states.append(self._add(message))
            except Exception as error:
                self._forget(message.request_id)
                faults[message.request_id] = _describe(error)
        states: list[RequestState] = []
        scheduled: list[ScheduledRequest] = []
        for part in step.scheduled:
            if part.request_id not in faults:
                try:
                    states.append(self._extend(part))
                    scheduled.append(part)
                except Exception as error:
                    faults[part.request_id] = _describe(error)
        return (self._lay_out(states, scheduled) if states else None), faults, new_states

    def append_token(self, state: RequestState, token_id: int) -> None:
        """Adds a sampled token to the end of a request."""
        length = self._num_tokens[state.row]
        self._token_ids[state.row, length] = token_id
        self._num_tokens[state.row] = length + 1

    def append_tokens(self, rows: Int64Array, token_ids: Int64Array) -> None:
        """Adds one sampled token to each of the requests in ``rows`` (each named once)."""
        lengths = self._num_tokens[rows]
        self._token_ids[rows, lengths] = token_ids
        self._num_tokens[rows] = lengths + 1

    def tokens_of(self, state: RequestState) -> Int32Array:
        """All tokens of a request, prompt and output: a view, not a copy."""
        return self._token_ids[state.row, : self._num_tokens[state.row]]

    def num_output_tokens(self, state: RequestState) -> int:
        """How many tokens the request has made so far, which is the position of its next one."""
        return int(self._num_tokens[state.row]) - state.num_prompt_tokens

    def slots_of(self, rows: Int64Array, positions: Int64Array) -> Int64Array:
        """The cache slots in which these rows keep these positions; arrays of one shape."""
        blocks = self._block_tables[rows, positions // self.block_size].astype(np.int64)
        return blocks * self.block_size + positions % self.block_size

    def _forget(self, request_id: str) -> None:
        state = self._requests.pop(request_id, None)
        if state is not None:
            self._num_tokens[state.row] = 0
            self._num_table_blocks[state.row] = 0
            self._free_rows.append(state.row)

    def _add(self, message: NewRequest) -> RequestState:
        """Gives a request its row. The door has checked it all, but this step is not to fail."""
        token_ids = np.array(message.prompt_token_ids + message.output_token_ids, dtype=np.int64)
        if message.request_id in self._requests:
            raise _RefusalError("the worker was told of this request twice")
        if not self._free_rows:
            raise _RefusalError(f"the worker has room for {len(self._requests)} requests, and all are taken")
        if not message.prompt_token_ids or len(token_ids) > self._max_model_len:
            raise _RefusalError(
                f"the request has {len(token_ids)} tokens, {len(message.prompt_token_ids)} of them prompt; "
                f"the worker takes 1 to {self._max_model_len}"
            )
        if token_ids.min() < 0 or token_ids.max() >= self._vocab_size:
            bad = int(token_ids[(token_ids < 0) | (token_ids >= self._vocab_size)][0])
            raise _RefusalError(f"token {bad} is not in the vocabulary of {self._vocab_size} tokens")
        state = request_state_from_message(message, self._free_rows[-1])
        self._requests[message.request_id] = state
        self._free_rows.pop()
        self._token_ids[state.row, : len(token_ids)] = token_ids
        self._num_tokens[state.row] = len(token_ids)
        return state

    def _extend(self, part: ScheduledRequest) -> RequestState:
        """Appends the part's new blocks to its request's table."""
        state = self._requests.get(part.request_id)
        if state is None:
            raise _RefusalError("the worker does not know this request")
        start, end = part.num_computed_tokens, part.num_computed_tokens + part.num_new_tokens
        num_known = int(self._num_tokens[state.row])
        if part.num_new_tokens < 1 or start < 0 or end > num_known:
            raise _RefusalError(f"positions {start} to {end} were scheduled, but the request has {num_known} tokens")
        num_old = int(self._num_table_blocks[state.row])
        num_blocks = num_old + len(part.new_block_ids)
        if num_blocks * self.block_size < end or num_blocks > self._block_tables.shape[1]:
            raise _RefusalError(f"{num_blocks} blocks of {self.block_size} tokens were given for {end} tokens")
        if part.new_block_ids:
            if min(part.new_block_ids) < 0 or max(part.new_block_ids) >= self._num_blocks:
                last = self._num_blocks - 1
                raise _RefusalError(f"blocks {part.new_block_ids} were given, but the cache has blocks 0 to {last}")
            self._block_tables[state.row, num_old:num_blocks] = part.new_block_ids
            self._num_table_blocks[state.row] = num_blocks
        return state

    def _lay_out(self, states: list[RequestState], scheduled: list[ScheduledRequest]) -> StepBatch:
        rows = np.array([state.row for state in states], dtype=np.int64)
        num_computed = np.array([part.num_computed_tokens for part in scheduled], dtype=np.int64)
        num_new = np.array([part.num_new_tokens for part in scheduled], dtype=np.int64)
        query_start = np.zeros(len(states) + 1, dtype=np.int64)
        np.cumsum(num_new, out=query_start[1:])
        if query_start[-1] == len(states):  # a step of decoding: one token each
            token_rows, positions = rows, num_computed
        else:
            token_rows = np.repeat(rows, num_new)
            positions = np.arange(query_start[-1]) + np.repeat(num_computed - query_start[:-1], num_new)
        context_lengths = num_computed + num_new
        num_known = self._num_tokens[rows]
        num_table_blocks = -(-int(context_lengths.max()) // self.block_size)
        return StepBatch(
            states=states,
            rows=rows,
            num_computed=num_computed,
            num_known=num_known,
            query_start=query_start.astype(np.int32),
            context_lengths=context_lengths.astype(np.int32),
            token_ids=self._token_ids[token_rows, positions].astype(np.int64),
            positions=positions,
            slot_mapping=self.slots_of(token_rows, positions),
            block_tables=self._block_tables[rows, :num_table_blocks],
            reaches_end=np.flatnonzero(context_lengths == num_known).tolist(),
        )


def _describe(error: Exception) -> RequestFault:
    if isinstance(error, _RefusalError):
        return RequestFault(str(error))
    return RequestFault.because("the worker could not take this request", error)
