"""Log probabilities of tokens as the API reports them, from raw logits; knows nothing of requests or sampling.

Called by ``layers.sampler`` for tokens that were sampled and by the model runner for the tokens of a prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.messages.outputs import TokenLogprobs


def token_logprobs(
    logits: Tensor, token_ids: Tensor, num_likeliest: int, others: Tensor | None = None
) -> list[TokenLogprobs]:
    """Reports each row's token, the row's ``num_likeliest`` most likely ones, and ``others``.

    Args:
        logits: float32 ``[num_rows, vocab_size]``, as the model made them.
        token_ids: int64 ``[num_rows]``.
        num_likeliest: how many more entries each report has.
        others: int64 ``[num_others]``, tokens that each report has entries for, too.

    Returns:
        a report a row; ranks count from 1, and tokens of the same probability share the better rank.
    """
    logprobs = torch.log_softmax(logits, dim=-1)
    own = logprobs.gather(1, token_ids[:, None])
    # Counted as floats, which torch sums eight times as fast as booleans; exact, since a vocabulary is below 2**24.
    are_likelier = torch.gt(logprobs, own, out=torch.empty_like(logprobs))
    ranks = (are_likelier.sum(dim=-1) + 1).int().tolist()
    likeliest, likeliest_ids = logprobs.topk(min(num_likeliest, logits.shape[1]), dim=-1)
    more_ids = token_ids.new_empty(0) if others is None else others
    all_ids = torch.cat([token_ids[:, None], likeliest_ids, more_ids.expand(len(logits), -1)], dim=1).tolist()
    all_logprobs = torch.cat([own, likeliest, logprobs[:, more_ids]], dim=1).tolist()
    return [TokenLogprobs(*report) for report in zip(all_ids, all_logprobs, ranks, strict=True)]
