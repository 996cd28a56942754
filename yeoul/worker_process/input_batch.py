"""InputBatch: the tokens and block tables of the requests that a worker knows, in arrays that live from step to step.

Knows nothing of models, devices or sampling: numpy only. Each model runner owns one. A request has a row of its own from
its first step until it is forgotten, so that a step of decoding costs a few array operations however many requests there
are, and no copying.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    def max_query_length(self) -> int:
        """The largest number of tokens that a request has in this step."""
        return int(np.diff(self.query_start).max())

    @property
    def max_context_length(self) -> int:
        """The longest context of this step, in tokens."""
        return int(self.context_lengths.max())


class InputBatch:
    """Rows of requests: ``begin_step`` applies a step's news and lays its tokens out, ``append_token`` adds what was sampled.

    A request that was scheduled wrongly is reported as a fault of its own and left out; the step goes on without it.
    """

    def __init__(
        self, *, max_num_requests: int, max_model_len: int, block_size: int, num_blocks: int, vocab_size: int
    ) -> None:
        self.block_size = block_size
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
        self._refused: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def begin_step(self, step: StepInput) -> tuple[StepBatch | None, dict[str, str], list[RequestState]]:
        """Forgets, adds and extends what the step says.

        Returns:
            the step's batch (None where nothing is left to compute), the faults by request id, and the new requests.
        """
        for request_id in step.finished_request_ids:
            self._forget(request_id)
        new_states = [state for message in step.new_requests if (state := self._try_to_add(message)) is not None]
        states: list[RequestState] = []
        scheduled: list[ScheduledRequest] = []
        faults: dict[str, str] = {}
        for part in step.scheduled:
            if (fault := self._try_to_extend(part)) is not None:
                faults[part.request_id] = fault
                continue
            states.append(self._requests[part.request_id])
            scheduled.append(part)
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
        self._refused.pop(request_id, None)
        state = self._requests.pop(request_id, None)
        if state is not None:
            self._num_tokens[state.row] = 0
            self._num_table_blocks[state.row] = 0
            self._free_rows.append(state.row)

    def _try_to_add(self, message: NewRequest) -> RequestState | None:
        """What cannot be taken is refused when its part of the step comes, and the step goes on without it."""
        try:
            return self._add(message)
        except Exception as error:
            self._forget(message.request_id)
            self._refused[message.request_id] = f"the worker could not take this request: {type(error).__name__}: {error}"
            return None

    def _try_to_extend(self, part: ScheduledRequest) -> str | None:
        try:
            return self._extend(part)
        except Exception as error:
            return f"the request's part of the step cannot be laid out: {type(error).__name__}: {error}"

    def _add(self, message: NewRequest) -> RequestState | None:
        token_ids = np.array(message.prompt_token_ids + message.output_token_ids, dtype=np.int64)
        refusal = self._find_flaw(message, token_ids)
        if refusal is not None:
            self._refused[message.request_id] = refusal
            return None
        state = request_state_from_message(message, self._free_rows[-1])
        self._requests[message.request_id] = state
        self._free_rows.pop()
        self._token_ids[state.row, : len(token_ids)] = token_ids
        self._num_tokens[state.row] = len(token_ids)
        return state

    def _find_flaw(self, message: NewRequest, token_ids: Int64Array) -> str | None:
        """Why the request cannot be taken; None if it can. The door has checked it all, but this step is not to fail."""
        if message.request_id in self._requests:
            self._forget(message.request_id)
            return "the worker was told of this request twice"
        if not self._free_rows:
            return f"the worker has room for {len(self._requests)} requests, and all are taken"
        if not message.prompt_token_ids or len(token_ids) > self._max_model_len:
            return (
                f"the request has {len(token_ids)} tokens, {len(message.prompt_token_ids)} of them prompt; "
                f"the worker takes 1 to {self._max_model_len}"
            )
        if token_ids.min() < 0 or token_ids.max() >= self._vocab_size:
            bad = int(token_ids[(token_ids < 0) | (token_ids >= self._vocab_size)][0])
            return f"token {bad} is not in the vocabulary of {self._vocab_size} tokens"
        return None

    def _extend(self, part: ScheduledRequest) -> str | None:
        """Appends the part's new blocks to the request's table; returns why the part cannot be computed, or None."""
        state = self._requests.get(part.request_id)
        if state is None:
            return self._refused.get(part.request_id, "the worker does not know this request")
        end = part.num_computed_tokens + part.num_new_tokens
        num_known = int(self._num_tokens[state.row])
        if part.num_new_tokens < 1 or part.num_computed_tokens < 0 or end > num_known:
            return f"positions {part.num_computed_tokens} to {end} were scheduled, but the request has {num_known} tokens"
        num_old = int(self._num_table_blocks[state.row])
        num_blocks = num_old + len(part.new_block_ids)
        if num_blocks * self.block_size < end or num_blocks > self._block_tables.shape[1]:
            return f"{num_blocks} blocks of {self.block_size} tokens were given for {end} tokens"
        if part.new_block_ids:
            if min(part.new_block_ids) < 0 or max(part.new_block_ids) >= self._num_blocks:
                return f"blocks {part.new_block_ids} were given, but the cache has blocks 0 to {self._num_blocks - 1}"
            self._block_tables[state.row, num_old:num_blocks] = part.new_block_ids
            self._num_table_blocks[state.row] = num_blocks
        return None

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
