"""The sampler: logits in, one token a row out. Knows nothing of models, of the KV cache or of requests by name.

Called by the model runner once a step. A row's token depends on its own logits and parameters and on nothing else, bit
for bit. Without penalties, bias or logprobs a row only takes part in ``operations.sample``, which does all rows at once;
with them it takes its own way first.

To find all tokens that a grammar allows costs more than to draw one and to ask whether it is allowed. So where nothing else
takes tokens away the question comes after the draw, and only where the answer is no are all of them found, for a second
draw. An allowed token t has the chance p(t) + (1 - p(allowed)) p(t) / p(allowed) = p(t) / p(allowed), as it would have had
among the allowed ones alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from yeoul.kernels import operations
from yeoul.layers.logprobs import token_logprobs
from yeoul.layers.request_sampling import RequestSampling, sampling_rows
from yeoul.messages.outputs import RequestFault, TokenLogprobs


@dataclass(slots=True)
class SampledTokens:
    """What ``sample_tokens`` made: a token a row (of no meaning where the row failed), and logprobs and faults by row."""

    token_ids: list[int]
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)
    faults: dict[int, RequestFault] = field(default_factory=dict)


def sample_tokens(logits: Tensor, requests: Sequence[RequestSampling], positions: Sequence[int]) -> SampledTokens:
    """Chooses one token a row.

    Args:
        logits: float32 ``[num_rows, vocab_size]``; penalties and biases change them in place.
        requests: how each row is sampled.
        positions: how many output tokens each row's request has so far.
    """
    result = SampledTokens([0] * len(requests))
    raw_rows = {row: logits[row] for row, request in enumerate(requests) if request.num_logprobs is not None}
    for row, request in enumerate(requests):
        if request.changes_logits:
            if row in raw_rows:
                raw_rows[row] = logits[row].clone()
            _change_row(logits, row, request, positions[row], result)
    masked = [row for row, request in enumerate(requests) if request.needs_mask]
    masks = _token_masks(requests, positions, masked, logits.shape[1], result) if masked else None
    token_ids, highest = operations.sample(logits, sampling_rows(requests, positions), masks)
    result.token_ids = token_ids.tolist()
    _refuse_bad_rows(range(len(requests)), highest.tolist(), result)
    _draw_again(logits, requests, positions, result)
    for row, raw_row in raw_rows.items():
        _report(raw_row, row, requests[row], result)
    return result


def _change_row(logits: Tensor, row: int, request: RequestSampling, position: int, result: SampledTokens) -> None:
    """Any error in a request's own parameters fails this request, never the step."""
    try:
        request.change_logits(logits[row], position)
    except Exception as error:
        result.faults[row] = RequestFault.because("the sampling parameters could not be applied", error)


def _draw_again(logits: Tensor, requests: Sequence[RequestSampling], positions: Sequence[int], result: SampledTokens) -> None:
    """Where a token that was drawn freely is not allowed, another one, among those that are."""
    drawn = [row for row, request in enumerate(requests) if request.is_drawn_freely]
    rows = [row for row in drawn if not _is_allowed(row, requests[row], positions[row], result)]
    if not rows:
        return
    masks = _token_masks(requests, positions, rows, logits.shape[1], result)[rows]
    parameters = sampling_rows([requests[row] for row in rows], [positions[row] for row in rows], again=True)
    token_ids, highest = operations.sample(logits[rows], parameters, masks)
    for row, token_id in zip(rows, token_ids.tolist(), strict=True):
        result.token_ids[row] = token_id
    _refuse_bad_rows(rows, highest.tolist(), result)


def _is_allowed(row: int, request: RequestSampling, position: int, result: SampledTokens) -> bool:
    """True for a row that failed as well: nothing more is done for it."""
    if row in result.faults:
        return True
    try:
        return request.allows(result.token_ids[row], position)
    except Exception as error:
        result.faults[row] = RequestFault.because("the grammar cannot be followed any further", error)
        return True


def _token_masks(
    requests: Sequence[RequestSampling],
    positions: Sequence[int],
    masked: Sequence[int],
    vocab_size: int,
    result: SampledTokens,
) -> operations.TokenMasks:
    """The tokens that each row may become, a bit a token: all of them where a row is not among the masked ones."""
    masks = np.full((len(requests), -(-vocab_size // 32)), -1, dtype=np.int32)
    for row in masked:
        if row in result.faults:
            continue
        try:
            requests[row].fill_mask(masks[row], positions[row])
        except Exception as error:
            result.faults[row] = RequestFault.because("the grammar cannot be followed any further", error)
    return masks


def _report(raw_logits: Tensor, row: int, request: RequestSampling, result: SampledTokens) -> None:
    """Any error in what a request wants reported fails this request, never the step."""
    if row in result.faults:
        return
    try:
        token_ids = torch.tensor([result.token_ids[row]], device=raw_logits.device)
        result.logprobs[row] = token_logprobs(
            raw_logits[None], token_ids, request.num_logprobs or 0, request.logprob_token_ids
        )[0]
    except Exception as error:
        result.faults[row] = RequestFault.because("the log probabilities could not be computed", error)


def _refuse_bad_rows(rows: Sequence[int], highest: list[float], result: SampledTokens) -> None:
    for row, logit in zip(rows, highest, strict=True):
        if not math.isfinite(logit):
            result.faults.setdefault(row, RequestFault("no token can be sampled: the highest logit is not a finite number"))
