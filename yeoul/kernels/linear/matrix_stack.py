"""MatrixStack: matrices that share their input, multiplied by whatever computes their kind; knows nothing of sharding.

Dense tensors go through ``linear.reference``, packed matrices through ``packed_linear.native``. Used by the layers through
``kernels.operations``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import TypeAlias

import torch
from torch import Tensor

from yeoul.kernels.linear.reference import linear
from yeoul.kernels.pack_matrix.native import unpack_rows
from yeoul.kernels.pack_matrix.packed_matrix import PackedMatrix
from yeoul.kernels.packed_linear.native import PackedStack

Matrix: TypeAlias = Tensor | PackedMatrix
_Product: TypeAlias = Callable[[Tensor, torch.dtype], Tensor]


class MatrixStack:
    """``[num_outputs, num_inputs]``, in parts that may be stored differently, and a bias of all outputs."""

    def __init__(self, matrices: list[Matrix], bias: Tensor | None = None) -> None:
        """``bias`` is ``[num_outputs]`` of any floating type."""
        self._products: list[_Product] = []
        first_output = 0
        for is_packed, neighbours in groupby(matrices, key=lambda matrix: isinstance(matrix, PackedMatrix)):
            group = list(neighbours)
            num_outputs = sum(num_outputs_of(matrix) for matrix in group)
            part = None if bias is None else bias[first_output : first_output + num_outputs]
            self._products.append(_packed_product(group, part) if is_packed else _dense_product(group, part))
            first_output += num_outputs

    @property
    def packed(self) -> PackedStack | None:
        """All of it, where all of it is packed."""
        first, *others = self._products
        return first if isinstance(first, PackedStack) and not others else None

    def __call__(self, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """``[num_rows, num_inputs]`` to ``[num_rows, num_outputs]``, of ``dtype`` or else that of ``rows``."""
        results = [product(rows, dtype or rows.dtype) for product in self._products]
        return results[0] if len(results) == 1 else torch.cat(results, dim=1)


def num_outputs_of(matrix: Matrix) -> int:
    """The rows of the matrix."""
    return matrix.num_outputs if isinstance(matrix, PackedMatrix) else matrix.shape[0]


def look_up(matrix: Matrix, indices: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows of the matrix: int64 ``indices`` ``[num_rows]`` to ``[num_rows, num_inputs]`` of ``dtype``."""
    if isinstance(matrix, PackedMatrix):
        return unpack_rows(matrix, indices, dtype)
    return torch.nn.functional.embedding(indices, matrix).to(dtype)


def _packed_product(matrices: list[Matrix], bias: Tensor | None) -> _Product:
    return PackedStack([matrix for matrix in matrices if isinstance(matrix, PackedMatrix)], bias)


def _dense_product(matrices: list[Matrix], bias: Tensor | None) -> _Product:
    weight = torch.cat([matrix for matrix in matrices if isinstance(matrix, Tensor)]) if len(matrices) > 1 else matrices[0]
    assert isinstance(weight, Tensor)
    bias = None if bias is None else bias.to(weight.dtype)
    return lambda rows, dtype: linear(rows.to(weight.dtype), weight, bias, dtype)
