"""GatedMlp: the feed-forward half of a decoder layer, its inner columns cut over the ranks; knows nothing of attention.

Used by ``models``.
"""

from __future__ import annotations

from torch import Tensor

from yeoul.layers.linear import ColumnParallelLinear, RowParallelLinear, RowsOfMatrix
from yeoul.layers.norm import RmsNorm
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.description import ModelDescription
from yeoul.model_files.tensor_parallel_split import deal_intermediate


class GatedMlp:
    """``down(activation(gate(x)) * up(x))`` of a norm."""

    def __init__(
        self, weights: WeightSource, prefix: str, description: ModelDescription, parallel: TensorParallel, norm: RmsNorm
    ) -> None:
        """Read this rank's share of ``prefix``'s ``gate_proj``, ``up_proj`` and ``down_proj``; ``norm`` comes before them."""
        hidden, inner, bias = description.hidden_size, description.intermediate_size, description.mlp_bias
        mine = deal_intermediate(inner, parallel.size)[parallel.rank]
        parts = [RowsOfMatrix(f"{prefix}.{part}", inner, mine) for part in ("gate_proj", "up_proj")]
        self._norm = norm
        self._gate_and_up = ColumnParallelLinear(weights, parts, hidden, has_bias=bias)
        self._down = RowParallelLinear.load(weights, f"{prefix}.down_proj", (hidden, inner), mine, parallel, has_bias=bias)
        self._activation = description.activation

    def __call__(self, stream: Tensor, addend: Tensor) -> Tensor:
        """Adds ``addend`` to the stream in place; ``[num_tokens, hidden_size]``, the same on every rank."""
        return self._down.after_gate(self._gate_and_up.after_norm(self._norm, stream, addend), self._activation)
