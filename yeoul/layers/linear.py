"""Linear layers, whole or cut by rows or columns over the ranks; knows nothing of architectures.

Used by the attention and MLP layers. A column-parallel layer gives each rank some outputs; a row-parallel layer takes
each rank's inputs and adds the partial sums (Shoeybi et al. 2019, arXiv:1909.08053).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from yeoul.kernels import operations
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.weight_source import WeightSource


class RowsOfMatrix(NamedTuple):
    """The rows that this rank takes of the matrix ``name`` (without ``.weight``), which has ``num_rows`` in all."""

    name: str
    num_rows: int
    rows: range


class ColumnParallelLinear:
    """This rank's outputs of one matrix, or of several that share their input, stacked so that one product makes all."""

    def __init__(self, parts: list[operations.Matrix], bias: Tensor | None = None) -> None:
        self._stack = operations.MatrixStack(parts, bias)

    @classmethod
    def load(cls, weights: WeightSource, parts: list[RowsOfMatrix], in_size: int, *, has_bias: bool) -> ColumnParallelLinear:
        """Read this rank's rows of each part and stack them in the order of ``parts``."""
        matrices = [weights.read_matrix(f"{part.name}.weight", (part.num_rows, in_size), rows=part.rows) for part in parts]
        if not has_bias:
            return cls(matrices)
        bias = torch.cat([weights.read(f"{part.name}.bias", (part.num_rows,), rows=part.rows) for part in parts])
        return cls(matrices, bias)

    def __call__(self, rows: Tensor) -> Tensor:
        """``[num_tokens, in_size]`` to ``[num_tokens, this rank's outputs]``."""
        return self._stack(rows)


class RowParallelLinear:
    """All outputs of a matrix from this rank's inputs, summed over the ranks; the bias is added once, after the sum."""

    def __init__(self, weight: operations.Matrix, bias: Tensor | None, parallel: TensorParallel) -> None:
        is_alone = parallel.size == 1
        self._stack = operations.MatrixStack([weight], bias if is_alone else None)
        self._late_bias = None if is_alone else bias
        self._parallel = parallel

    @classmethod
    def load(
        cls,
        weights: WeightSource,
        name: str,
        shape: tuple[int, int],
        columns: range,
        parallel: TensorParallel,
        *,
        has_bias: bool,
    ) -> RowParallelLinear:
        """Read this rank's columns of the matrix ``name`` (without ``.weight``) of ``shape`` (out_size, in_size)."""
        weight = weights.read_matrix(f"{name}.weight", shape, columns=columns)
        bias = weights.read(f"{name}.bias", shape[:1]) if has_bias else None
        return cls(weight, bias, parallel)

    def __call__(self, rows: Tensor) -> Tensor:
        """``[num_tokens, this rank's inputs]`` to ``[num_tokens, out_size]``, the same on every rank."""
        total = self._parallel.all_reduce(self._stack(rows))
        return total if self._late_bias is None else total + self._late_bias
