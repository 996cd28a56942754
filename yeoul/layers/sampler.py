"""The sampler: logits in, one token a row out. Knows nothing of models, of the KV cache or of requests by name.

Called by the model runner once a step. A row's token depends on its own logits and parameters and on nothing else, bit
for bit: what is computed for many rows at once is either exact (maxima, comparisons), element by element, or summed within
a row in an order that the vocabulary's size alone decides. Without penalties, bias, filters or logprobs a row never leaves
these common operations; with them it takes its own way first and joins the others at the draw.

The draw inverts the cumulative distribution at one random number, which is a function of (seed, prompt index, choice
index, position); see ``kernels.sampling_noise``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from yeoul.kernels import operations
from yeoul.kernels.sampling_noise.reference import uniform_noise
from yeoul.layers.logprobs import token_logprobs
from yeoul.layers.request_sampling import RequestSampling
from yeoul.messages.outputs import TokenLogprobs

_MAX_SUM_WIDTH = 512


@dataclass(slots=True)
class SampledTokens:
    """What ``sample_tokens`` made: a token a row (of no meaning where the row failed), and logprobs and faults by row."""

    token_ids: list[int]
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)


def sample_tokens(logits: Tensor, requests: Sequence[RequestSampling], positions: Sequence[int]) -> SampledTokens:
    """Chooses one token a row.

    Args:
        logits: float32 ``[num_rows, vocab_size]``; changed in place.
        requests: how each row is sampled.
        positions: how many output tokens each row's request has so far.
    """
    result = SampledTokens([0] * len(requests))
    raw_rows = {row: logits[row].clone() for row, request in enumerate(requests) if request.num_logprobs is not None}
    for row, request in enumerate(requests):
        if request.changes_logits:
            _change_row(logits, row, request, positions[row], result)
    greedy_rows = [row for row, request in enumerate(requests) if request.is_greedy]
    if greedy_rows:
        _choose(logits if len(greedy_rows) == len(requests) else logits[greedy_rows], greedy_rows, result)
    random_rows = [row for row, request in enumerate(requests) if not request.is_greedy]
    if random_rows:
        _draw(logits, random_rows, requests, positions, result)
    for row, raw_row in raw_rows.items():
        _report(raw_row, row, requests[row], result)
    return result


def _change_row(logits: Tensor, row: int, request: RequestSampling, position: int, result: SampledTokens) -> None:
    """Any error in a request's own parameters fails this request, never the step."""
    try:
        request.change_logits(logits[row], position)
    except Exception as error:
        result.faults[row] = f"the sampling parameters could not be applied: {type(error).__name__}: {error}"


def _report(raw_logits: Tensor, row: int, request: RequestSampling, result: SampledTokens) -> None:
    """Any error in what a request wants reported fails this request, never the step."""
    if row in result.faults:
        return
    try:
        token_ids = torch.tensor([result.token_ids[row]], device=raw_logits.device)
        result.logprobs[row] = token_logprobs(raw_logits[None], token_ids, request.num_logprobs or 0)[0]
    except Exception as error:
        result.faults[row] = f"the log probabilities could not be computed: {type(error).__name__}: {error}"


def _choose(logits: Tensor, rows: list[int], result: SampledTokens) -> None:
    """Takes the likeliest token of each row; the lowest id among equals."""
    best, highest = operations.argmax(logits)
    _refuse_bad_rows(highest, rows, result)
    for row, token_id in zip(rows, best.tolist(), strict=True):
        result.token_ids[row] = token_id


def _draw(
    logits: Tensor,
    rows: list[int],
    requests: Sequence[RequestSampling],
    positions: Sequence[int],
    result: SampledTokens,
) -> None:
    chosen = [requests[row] for row in rows]
    if len(rows) < len(requests):
        logits = logits[rows]
    highest = logits.amax(dim=-1, keepdim=True)
    _refuse_bad_rows(highest[:, 0], rows, result)
    temperatures = torch.tensor([[request.temperature] for request in chosen], dtype=torch.float32, device=logits.device)
    weights = logits.sub_(highest).div_(temperatures).exp_()
    for place, request in enumerate(chosen):
        if request.filters:
            row_weights = weights[place]
            row_weights.masked_fill_(row_weights < _threshold(row_weights, request), 0.0)
    noise = uniform_noise(
        [request.seed for request in chosen],
        [request.prompt_index for request in chosen],
        [request.choice_index for request in chosen],
        [positions[row] for row in rows],
    )
    token_ids = _invert_cumulative(weights, torch.from_numpy(noise).to(weights.device))
    for row, token_id in zip(rows, token_ids.tolist(), strict=True):
        result.token_ids[row] = token_id


def _refuse_bad_rows(highest: Tensor, rows: list[int], result: SampledTokens) -> None:
    is_finite = torch.isfinite(highest)
    if not is_finite.all():
        for row, good in zip(rows, is_finite.tolist(), strict=True):
            if not good:
                result.faults.setdefault(row, "no token can be sampled: the highest logit is not a finite number")


def _threshold(weights: Tensor, request: RequestSampling) -> float:
    """The least weight that top-k, then top-p (of what top-k left), then min-p let through. Equal weights stay together.

    ``weights`` are relative to the likeliest token's, float32 ``[vocab_size]``. Top-p is Holtzman et al. 2020.
    """
    threshold = request.min_p
    kth = float(weights.topk(request.top_k).values[-1]) if request.top_k > 0 else 0.0
    if request.top_p < 1.0:
        threshold = max(threshold, _nucleus_threshold(weights, kth, request.top_p))
    return max(threshold, kth)


def _nucleus_threshold(weights: Tensor, kth: float, top_p: float) -> float:
    """The weight of the last token that the likeliest tokens need to weigh ``top_p`` of all that are at least ``kth``."""
    if kth > 0.0:
        weights = weights[weights >= kth]
        total = None
    else:
        total = float(_block_sums(weights[None]).cumsum(dim=-1)[0, -1])
        # Tokens this rare weigh less than 1 - top_p all together, so they are out without being sorted.
        weights = weights[weights >= (1.0 - top_p) * total / len(weights)]
    in_order = weights.sort(descending=True).values
    running = in_order.cumsum(dim=0, dtype=torch.float64)
    target = top_p * (float(running[-1]) if total is None else total)
    num_before = int((running < target).sum())
    return float(in_order[min(num_before, len(in_order) - 1)])


def _invert_cumulative(weights: Tensor, noise: Tensor) -> Tensor:
    """The token at which the running sum of each row first exceeds ``noise`` times its total, in two levels.

    Args:
        weights: float32 ``[num_rows, vocab_size]``, not normalised; a token of weight 0 is never returned.
        noise: float64 ``[num_rows]`` in [0, 1).

    Returns:
        int64 ``[num_rows]``.
    """
    sums = _block_sums(weights)
    running = sums.cumsum(dim=-1)
    targets = noise[:, None] * running[:, -1:]
    blocks = (running <= targets).sum(dim=-1, keepdim=True).clamp_(max=sums.shape[1] - 1)
    before = running.gather(1, blocks) - sums.gather(1, blocks)
    width = weights.shape[1] // sums.shape[1]
    inside = weights.reshape(len(weights), -1, width)[torch.arange(len(weights), device=weights.device), blocks[:, 0]]
    running_inside = inside.cumsum(dim=-1, dtype=torch.float64)
    # The block's own running sum may round a little lower than its sum did: stay below it.
    highest_target = running_inside[:, -1:] * (1.0 - 2.0**-52)
    targets_inside = torch.minimum((targets - before).clamp_(min=0.0), highest_target)
    offsets = (running_inside <= targets_inside).sum(dim=-1)
    return (blocks[:, 0] * width + offsets).clamp_(max=weights.shape[1] - 1)


def _block_sums(weights: Tensor) -> Tensor:
    """Sums of equally wide blocks of each row, float64 ``[num_rows, num_blocks]``."""
    num_rows, vocab_size = weights.shape
    return weights.reshape(num_rows, -1, _sum_width(vocab_size)).sum(dim=-1, dtype=torch.float64)


def _sum_width(vocab_size: int) -> int:
    """The largest divisor of the vocabulary's size up to 512, so that no row needs padding."""
    return next(width for width in range(min(_MAX_SUM_WIDTH, vocab_size), 0, -1) if vocab_size % width == 0)
