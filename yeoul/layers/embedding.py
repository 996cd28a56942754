"""The vocabulary's two ends, cut by rows over the ranks: token ids to hidden states, hidden states to logits.

Knows nothing of sampling. Used by ``models``; tied models share one matrix between both ends.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels import operations
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.tensor_parallel_split import deal_vocabulary


class VocabularyMatrix:
    """This rank's rows of a ``[vocab_size, hidden_size]`` matrix."""

    def __init__(
        self, weight: operations.Matrix, shares: list[range], parallel: TensorParallel, dtype: torch.dtype = torch.float32
    ) -> None:
        """``dtype`` is what hidden states are of."""
        self._weight = weight
        self._stack = operations.MatrixStack([weight])
        self._dtype = dtype
        self._shares = shares
        self._parallel = parallel

    @classmethod
    def load(cls, weights: WeightSource, name: str, shape: tuple[int, int], parallel: TensorParallel) -> VocabularyMatrix:
        """Read this rank's rows of the matrix ``name`` (without ``.weight``) of ``shape`` (vocab_size, hidden_size)."""
        shares = deal_vocabulary(shape[0], parallel.size)
        weight = weights.read_matrix(f"{name}.weight", shape, rows=shares[parallel.rank])
        return cls(weight, shares, parallel, weights.dtype)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Look up int64 ``token_ids`` ``[num_tokens]``: ``[num_tokens, hidden_size]``, the same on every rank."""
        if self._parallel.size == 1:
            return operations.look_up(self._weight, token_ids, self._dtype)
        share = self._shares[self._parallel.rank]
        is_mine = (token_ids >= share.start) & (token_ids < share.stop)
        found = operations.look_up(self._weight, token_ids[is_mine] - share.start, self._dtype)
        rows = torch.zeros(len(token_ids), found.shape[1], dtype=self._dtype, device=found.device)
        rows[is_mine] = found
        return self._parallel.all_reduce(rows)

    def logits(self, hidden_states: Tensor, softcap: float | None = None) -> Tensor:
        """Score ``[num_rows, hidden_size]`` against the vocabulary.

        Args:
            hidden_states: after the final norm.
            softcap: None, or the bound c of ``c * tanh(logit / c)``.

        Returns:
            float32 ``[num_rows, vocab_size]``, whole on every rank.
        """
        mine = self._stack(hidden_states, torch.float32)
        logits = self._parallel.all_gather(mine, [len(share) for share in self._shares])
        if softcap is None:
            return logits
        return torch.tanh(logits / softcap).mul_(softcap).add_(logits, alpha=0.0)  # an infinite logit is not hidden
