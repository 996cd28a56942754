"""Linear layers, whole or cut by rows or columns over the ranks; knows nothing of architectures.

Used by the attention and MLP layers. A column-parallel layer gives each rank some outputs; a row-parallel layer takes
each rank's inputs and adds the partial sums (Shoeybi et al. 2019, arXiv:1909.08053).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from yeoul.kernels import operations
from yeoul.layers.norm import RmsNorm
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.weight_source import WeightSource


class RowsOfMatrix(NamedTuple):
    """The rows that this rank takes of the matrix ``name`` (without ``.weight``), which has ``num_rows`` in all."""

    name: str
    num_rows: int
    rows: range


class ColumnParallelLinear:
    """This rank's outputs of one matrix, or of several that share their input, stacked so that one product makes all."""

    def __init__(self, weights: WeightSource, parts: list[RowsOfMatrix], in_size: int, *, has_bias: bool) -> None:
        """Read this rank's rows of each part and stack them in the order of ``parts``."""
        matrices = [weights.read_matrix(f"{part.name}.weight", (part.num_rows, in_size), rows=part.rows) for part in parts]
        biases = [weights.read(f"{part.name}.bias", (part.num_rows,), rows=part.rows) for part in parts] if has_bias else []
        self._stack = operations.MatrixStack(matrices, torch.cat(biases) if has_bias else None)

    def after_norm(self, norm: RmsNorm, stream: Tensor, addend: Tensor | None) -> Tensor:
        """Adds ``addend`` to ``stream`` in place, and turns its norm into ``[num_tokens, this rank's outputs]``."""
        return operations.norm_linear(self._stack, stream, addend, norm.weight, norm.epsilon)


class RowParallelLinear:
    """All outputs of a matrix from this rank's inputs, summed over the ranks; the first rank adds the bias."""

    def __init__(self, weight: operations.Matrix, bias: Tensor | None, parallel: TensorParallel) -> None:
        self._stack = operations.MatrixStack([weight], bias if parallel.rank == 0 else None)
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
        return self._parallel.all_reduce(self._stack(rows))

    def after_gate(self, gate_and_up: Tensor, kind: str) -> Tensor:
        """The same for what a gate makes of ``[num_tokens, 2 * this rank's inputs]``."""
        return self._parallel.all_reduce(operations.gated_linear(self._stack, gate_and_up, kind))
