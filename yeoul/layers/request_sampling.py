"""RequestSampling: one request's sampling parameters, made ready once so that a step spends no time on what is switched off.

Knows nothing of batches or models. The model runner makes one for each request; ``layers.sampler`` reads it.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yeoul.grammars.matcher import GrammarMatcher
from yeoul.kernels import operations
from yeoul.layers.thinking_limit import ThinkingLimit
from yeoul.layers.token_counts import TokenCounts
from yeoul.messages.sampling import SamplingParams

# Below this temperature the likeliest token wins all the same, and the division by it could overflow.
GREEDY_TEMPERATURE = 1e-5
_LOW_WORD = 0xFFFFFFFF


class RequestSampling:
    """How the next token of one request is chosen.

    Args:
        params: checked at the door; what does not fit the vocabulary raises IndexError here, and fails this request.
        token_ids: prompt and output so far, int32 ``[num_tokens]``.
        num_prompt_tokens: where the output begins in ``token_ids``.
        eos_token_ids: the ends of sequence that ``min_tokens`` holds back.
        device: where the logits will be.
        grammar: where the answer begins in its grammar; it is led over the output here.
    """

    def __init__(
        self,
        params: SamplingParams,
        *,
        token_ids: npt.NDArray[np.int32],
        num_prompt_tokens: int,
        eos_token_ids: list[int],
        choice_index: int,
        vocab_size: int,
        device: torch.device,
        grammar: GrammarMatcher | None = None,
    ) -> None:
        is_greedy = params.temperature < GREEDY_TEMPERATURE
        self.num_logprobs = params.logprobs if params.logprob_token_ids is None else 0
        row = np.zeros((), dtype=operations.SAMPLING_ROW)
        row["seed"] = (params.seed or 0) & (2**64 - 1)
        row["choice_index"] = choice_index & _LOW_WORD
        row["temperature"] = 0.0 if is_greedy else params.temperature
        row["top_k"] = params.top_k if 0 < params.top_k < vocab_size else 0
        row["top_p"] = params.top_p
        row["min_p"] = params.min_p
        self.row = row.tobytes()
        self._device = device
        self._params = params
        self._min_tokens = params.min_tokens
        self._forced = params.forced_token_ids
        self.grammar = grammar
        self.logprob_token_ids = _index_tensor(params.logprob_token_ids or [], vocab_size, device)
        self._allowed = _mask_of(params.allowed_token_ids, vocab_size)
        # Where nothing but the grammar takes tokens away, one drawn from all that is allowed is drawn as from the allowed.
        takes_all = is_greedy or not (row["top_k"] > 0 or row["top_p"] < 1.0 or row["min_p"] > 0.0)
        self.is_drawn_freely = grammar is not None and self._allowed is None and takes_all
        self._bad_words = [tuple(word) for word in params.bad_word_token_ids if word]
        longest = max(map(len, self._bad_words), default=1)
        self._recent = collections.deque(token_ids[num_prompt_tokens:].tolist(), maxlen=longest - 1)
        if grammar is not None:
            grammar.accept(token_ids[num_prompt_tokens:].tolist())
        self._thinking: ThinkingLimit | None = None
        if params.thinking_budget is not None:
            self._thinking = ThinkingLimit(params.thinking_budget, token_ids[num_prompt_tokens:].tolist())
        self._counts: TokenCounts | None = None
        if params.repetition_penalty != 1.0:
            self._counts = TokenCounts(token_ids, num_prompt_tokens)
        elif params.presence_penalty != 0.0 or params.frequency_penalty != 0.0:
            self._counts = TokenCounts(token_ids[num_prompt_tokens:], 0)
        held_back = sorted({*eos_token_ids, *params.stop_token_ids}) if params.min_tokens > 0 else []
        self._held_back = _index_tensor(held_back, vocab_size, device)
        self._biased = _index_tensor(list(params.logit_bias), vocab_size, device)
        self._biases = torch.tensor(list(params.logit_bias.values()), dtype=torch.float32, device=device)
        self.changes_logits = any(
            (
                self._counts is not None,
                params.logit_bias,
                held_back,
                self._forced,
                self._bad_words,
                self._thinking is not None,
            )
        )

    @property
    def needs_mask(self) -> bool:
        """Whether ``fill_mask`` is asked before a token is drawn; of who ``is_drawn_freely``, ``allows`` is asked after."""
        return self._allowed is not None or (self.grammar is not None and not self.is_drawn_freely)

    def change_logits(self, logits: Tensor, position: int) -> None:
        """Applies penalties, then logit bias, ``min_tokens`` and bad words, in place, to float32 ``[vocab_size]``.

        ``position`` is the number of output tokens so far. A token that is forced leaves nothing else to choose. Where a
        grammar has come to its end, ``min_tokens`` cannot ask for more.
        """
        if (forced := self._forced_at(position)) is not None:
            logits.fill_(-torch.inf)
            logits[forced] = 0.0
            return
        if self._counts is not None:
            self._penalize(logits, self._counts)
        if len(self._biased):
            logits[self._biased] += self._biases
        if position < self._min_tokens and not (self.grammar is not None and self.grammar.is_complete):
            logits[self._held_back] = -torch.inf
        recent = tuple(self._recent)
        for word in self._bad_words:
            if recent[max(0, len(recent) - len(word) + 1) :] == word[:-1]:
                logits[word[-1]] = -torch.inf

    def fill_mask(self, mask: npt.NDArray[np.int32], position: int) -> None:
        """Clears the bits of the tokens that may not come next. A forced token is nobody's choice.

        Raises:
            GrammarError: see ``GrammarMatcher.fill_mask``.
        """
        if self._forced_at(position) is not None:
            return
        if self.grammar is not None:
            self.grammar.fill_mask(mask)
        if self._allowed is not None:
            mask &= self._allowed

    def allows(self, token_id: int, position: int) -> bool:
        """Whether this token, drawn freely, may come next.

        Raises:
            GrammarError: see ``GrammarMatcher.allows``.
        """
        return self._forced_at(position) is not None or self.grammar is None or self.grammar.allows(token_id)

    def note_token(self, token_id: int) -> None:
        """Takes account of a token that was sampled."""
        if self._counts is not None:
            self._counts.add(token_id)
        self._recent.append(token_id)
        if self._thinking is not None:
            self._thinking.note(token_id)
        if self.grammar is not None:
            self.grammar.accept([token_id])

    def _forced_at(self, position: int) -> int | None:
        if position < len(self._forced):
            return self._forced[position]
        return None if self._thinking is None else self._thinking.forced()

    def _penalize(self, logits: Tensor, counts: TokenCounts) -> None:
        token_ids = torch.from_numpy(counts.token_ids).to(self._device)
        num_outputs = torch.from_numpy(counts.num_outputs).to(self._device)
        values = logits[token_ids]
        repetition = self._params.repetition_penalty
        if repetition != 1.0:
            values = torch.where(values > 0, values / repetition, values * repetition)
        values -= self._params.frequency_penalty * num_outputs
        values -= self._params.presence_penalty * (num_outputs > 0)
        logits[token_ids] = values


def sampling_rows(
    requests: Sequence[RequestSampling], positions: Sequence[int], *, again: bool = False
) -> operations.SamplingRows:
    """What ``operations.sample`` is told of these requests, the next token of each at its position of the output."""
    rows = np.frombuffer(bytearray().join([request.row for request in requests]), dtype=operations.SAMPLING_ROW)
    rows["position"] = positions
    if again:
        rows["position"] |= operations.SECOND_DRAW
    return rows


def _mask_of(token_ids: list[int] | None, vocab_size: int) -> npt.NDArray[np.int32] | None:
    if token_ids is None:
        return None
    bits = np.zeros(-(-vocab_size // 32) * 32, dtype=np.uint8)
    bits[_index_tensor(token_ids, vocab_size, torch.device("cpu")).numpy()] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)


def _index_tensor(token_ids: list[int], vocab_size: int, device: torch.device) -> Tensor:
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise IndexError(f"token {token_id} is not in the vocabulary of {vocab_size} tokens")
    return torch.tensor(token_ids, dtype=torch.int64, device=device)
