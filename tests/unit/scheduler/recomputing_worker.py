"""A worker without a model, in a process or in a test's own: it knows what StepInput tells it and nothing else.

Its "KV cache" holds a chain value per slot. The next token depends on all values that it reads through the request's block
table as they were before the step, so a wrong block, a wrong counter or a block read too early gives wrong tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from yeoul.messages.outputs import RequestFault, TokenLogprobs
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, RequestResult, ScheduledRequest, StepInput, StepResult

VOCAB_SIZE = 8
NOTHING = b"never written"


def chain_value(previous: bytes, token_id: int, position: int) -> bytes:
    return blake2b(b"%s %d %d" % (previous, token_id, position), digest_size=8).digest()


def next_token(values: list[bytes], sampling: SamplingParams, choice_index: int, position: int) -> int:
    text = b"%s %d %d %d" % (b"".join(values), sampling.seed or 0, choice_index, position)
    return blake2b(text, digest_size=4).digest()[0] % VOCAB_SIZE


def lone_values(token_ids: list[int]) -> list[bytes]:
    values: list[bytes] = []
    for position, token_id in enumerate(token_ids):
        values.append(chain_value(values[-1] if values else b"", token_id, position))
    return values


def lone_run(message: AddRequest, max_num_tokens: int) -> tuple[list[int], str, int | None]:
    """All output tokens (with those of an earlier engine), finish reason and stop reason of a request that runs alone."""
    output = list(message.output_token_ids)
    while True:
        values = lone_values([*message.prompt_token_ids, *output])
        output.append(next_token(values, message.sampling, message.choice_index, len(output)))
        if len(output) >= message.sampling.min_tokens:
            if output[-1] in message.eos_token_ids:
                return output, "stop", None
            if output[-1] in message.sampling.stop_token_ids:
                return output, "stop", output[-1]
        if len(output) == message.sampling.max_tokens or len(message.prompt_token_ids) + len(output) == max_num_tokens:
            return output, "length", None


def prompt_logprobs_of(new: NewRequest, start: int, end: int) -> list[TokenLogprobs | None]:
    """Those of the prompt tokens from ``start`` to ``end``, chunk by chunk and again whenever they are computed again."""
    if new.sampling.prompt_logprobs is None:
        return []
    chunk = range(start, min(end, len(new.prompt_token_ids)))
    return [TokenLogprobs([new.prompt_token_ids[position]], [-1.0], position) if position else None for position in chunk]


@dataclass
class KnownRequest:
    new: NewRequest
    token_ids: list[int]
    block_ids: list[int] = field(default_factory=list)
    num_computed_tokens: int | None = None
    has_failed: bool = False


class FirstStage:
    """What a stage knows that does not sample: no more than steps say. It is not to lack a token that it computes."""

    def __init__(self) -> None:
        self.token_ids: dict[str, list[int]] = {}

    def take(self, step: StepInput, last: RecomputingWorker) -> None:
        """A step that ``last`` is to compute next."""
        for request_id in step.finished_request_ids:
            del self.token_ids[request_id]
        for new in step.new_requests:
            self.token_ids[new.request_id] = new.prompt_token_ids + new.output_token_ids
        new_ids = {new.request_id for new in step.new_requests}
        assert set(step.sampled) <= {entry.request_id for entry in step.scheduled} - new_ids
        for request_id, token_ids in step.sampled.items():
            self.token_ids[request_id] += token_ids
        for entry in step.scheduled:
            known = last.requests.get(entry.request_id)
            if known is not None and not known.has_failed and entry.request_id not in new_ids:
                assert known.token_ids == self.token_ids[entry.request_id]


class RecomputingWorker:
    """Executes steps as bytes, exactly as the protocol says; ``faults`` are requests that fail before they are computed.

    With ``num_tokens_at_once`` it guesses right, as a worker that speculates: a step that samples brings so many tokens.
    """

    def __init__(self, num_blocks: int, block_size: int, last_step_number: int = -1, num_tokens_at_once: int = 1) -> None:
        self.block_size = block_size
        self.num_tokens_at_once = num_tokens_at_once
        self.slots = [NOTHING] * (num_blocks * block_size)
        self.requests: dict[str, KnownRequest] = {}
        self.last_step_number = last_step_number
        self.max_num_tokens_seen = 0
        self.faults: frozenset[str] = frozenset()

    def execute(self, step_bytes: bytes) -> StepResult:
        step = msgspec.msgpack.decode(step_bytes, type=StepInput)
        assert step.step_number > self.last_step_number
        self.last_step_number = step.step_number
        for request_id in step.finished_request_ids:
            del self.requests[request_id]
        for new in step.new_requests:
            assert new.request_id not in self.requests, f"{new.request_id} is sent twice"
            self.requests[new.request_id] = KnownRequest(new, new.prompt_token_ids + new.output_token_ids)
        assert len({entry.request_id for entry in step.scheduled}) == len(step.scheduled)
        self.max_num_tokens_seen = max(self.max_num_tokens_seen, sum(entry.num_new_tokens for entry in step.scheduled))
        before = list(self.slots)
        results = [self._compute(entry, before) for entry in step.scheduled]
        return StepResult(step.step_number, [result for result in results if result is not None])

    def _compute(self, entry: ScheduledRequest, before: list[bytes]) -> RequestResult | None:
        request = self.requests[entry.request_id]
        if request.num_computed_tokens is not None and not request.has_failed:
            assert entry.num_computed_tokens == request.num_computed_tokens
        request.block_ids += entry.new_block_ids
        end = entry.num_computed_tokens + entry.num_new_tokens
        assert entry.num_new_tokens > 0
        if request.has_failed and end > len(request.token_ids):  # scheduled ahead of a token that was never sampled
            return RequestResult(entry.request_id, fault=RequestFault("scheduled beyond what is known"))
        assert end <= len(request.token_ids)
        request.num_computed_tokens = end
        slots = [self._slot(request, position) for position in range(end)]
        if entry.request_id in self.faults:
            for slot in slots[entry.num_computed_tokens :]:
                self.slots[slot] = b"garbage"
            request.has_failed = True
            return RequestResult(entry.request_id, fault=RequestFault("computing went wrong"))
        values = [before[slot] for slot in slots[: entry.num_computed_tokens]]
        for position in range(entry.num_computed_tokens, end):
            values.append(chain_value(values[-1] if values else b"", request.token_ids[position], position))
            self.slots[slots[position]] = values[-1]
        prompt_logprobs = prompt_logprobs_of(request.new, entry.num_computed_tokens, end)
        if end == len(request.token_ids):
            return self._sample(request, values, prompt_logprobs)
        return RequestResult(entry.request_id, prompt_logprobs=prompt_logprobs) if prompt_logprobs else None

    def _sample(
        self, request: KnownRequest, values: list[bytes], prompt_logprobs: list[TokenLogprobs | None]
    ) -> RequestResult:
        new = request.new
        if new.pooling is not None:
            return RequestResult(new.request_id, embedding=b"".join(values), prompt_logprobs=prompt_logprobs)
        new_token_ids = []
        for _ in range(self.num_tokens_at_once):
            length = len(request.token_ids)
            token_id = next_token(values, new.sampling, new.choice_index, length - len(new.prompt_token_ids))
            values.append(chain_value(values[-1], token_id, length))
            request.token_ids.append(token_id)
            new_token_ids.append(token_id)
        return RequestResult(new.request_id, new_token_ids, prompt_logprobs=prompt_logprobs)

    def _slot(self, request: KnownRequest, position: int) -> int:
        return request.block_ids[position // self.block_size] * self.block_size + position % self.block_size
