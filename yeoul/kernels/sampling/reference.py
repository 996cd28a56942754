"""Choosing one token a row in plain torch: the truth that every other implementation is tested against.

Knows nothing of requests or penalties. Called through ``kernels.operations``. A row's token depends on its own logits and
numbers and on nothing else, bit for bit: what is computed for many rows at once is either exact (maxima, comparisons),
element by element, or summed within a row in an order that the vocabulary's size alone decides.

The draw inverts the cumulative distribution at one random number, which is a function of (seed, choice index, position);
see ``kernels.sampling_noise``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from yeoul.kernels.sampling.sampling_rows import SamplingRows, TokenMasks
from yeoul.kernels.sampling_noise.reference import uniform_noise

_MAX_SUM_WIDTH = 512


def sample(logits: Tensor, rows: SamplingRows, masks: TokenMasks | None = None) -> tuple[Tensor, Tensor]:
    """The next token of each row.

    Args:
        logits: float32 ``[num_rows, vocab_size]``.
        rows: ``[num_rows]`` of ``SAMPLING_ROW``.
        masks: the tokens that each row may become; None lets every one through.

    Returns:
        int64 ``[num_rows]``, the tokens: the likeliest one, the lowest among equals, at temperature 0; and float32
        ``[num_rows]``, the highest logits. Where a row holds a NaN or its highest logit is infinite, that number is not
        finite, and the token says nothing.
    """
    if masks is not None:
        is_allowed = np.unpackbits(masks.view(np.uint8), axis=1, count=logits.shape[1], bitorder="little")
        logits = logits.masked_fill(torch.from_numpy(is_allowed == 0).to(logits.device), -torch.inf)
    token_ids = logits.argmax(dim=-1)
    highest = logits.gather(1, token_ids[:, None])
    drawn = torch.from_numpy((rows["temperature"] > 0).nonzero()[0]).to(logits.device)
    if len(drawn):
        token_ids[drawn] = _draw(logits[drawn], highest[drawn], rows[rows["temperature"] > 0])
    return token_ids, highest[:, 0]


def _draw(logits: Tensor, highest: Tensor, rows: SamplingRows) -> Tensor:
    temperatures = torch.from_numpy(rows["temperature"].copy()).to(logits.device)
    weights = (logits - highest).div_(temperatures[:, None]).exp_()
    for place, row in enumerate(rows):
        if row["top_k"] > 0 or row["top_p"] < 1.0 or row["min_p"] > 0.0:
            threshold = _threshold(weights[place], int(row["top_k"]), float(row["top_p"]), float(row["min_p"]))
            weights[place].masked_fill_(weights[place] < threshold, 0.0)
    noise = uniform_noise(*(rows[name].tolist() for name in ("seed", "choice_index", "position")))
    return _invert_cumulative(weights, torch.from_numpy(noise).to(weights.device))


def _threshold(weights: Tensor, top_k: int, top_p: float, min_p: float) -> float:
    """The least weight that top-k, then top-p (of what top-k left), then min-p let through. Equal weights stay together.

    ``weights`` are relative to the likeliest token's, float32 ``[vocab_size]``. Top-p is Holtzman et al. 2020.
    """
    kth = float(weights.topk(top_k).values[-1]) if top_k > 0 else 0.0
    if top_p < 1.0:
        min_p = max(min_p, _nucleus_threshold(weights, kth, top_p))
    return max(min_p, kth)


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
