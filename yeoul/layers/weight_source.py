"""WeightSource: what layers ask for when they take their weights; knows nothing of files or formats.

``models`` implements it for GGUF files and for safetensors folders; every layer's ``load`` reads its shard through it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from yeoul.kernels.operations import Matrix


class WeightSource(Protocol):
    """A model file's tensors, by their Hugging Face names, whatever the file calls them.

    Whoever reads says what shape the whole tensor must have, so that a file that does not fit is refused by name.
    """

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model's weights lie."""
        ...

    def has(self, name: str) -> bool:
        """Whether the file holds the tensor."""
        ...

    def read(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        rows: range | None = None,
        columns: range | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Read a tensor, or the part of it that a rank needs; only that part is materialised.

        Args:
            name: the Hugging Face name, such as ``model.layers.0.mlp.up_proj.weight``.
            shape: what the whole tensor must have.
            rows: a range of the first dimension; None takes all.
            columns: a range of the second dimension; None takes all.
            dtype: None is the model's.

        Raises:
            ModelFileError: if the tensor is missing or of another shape; names it.
        """
        ...

    def read_matrix(
        self, name: str, shape: tuple[int, int], *, rows: range | None = None, columns: range | None = None
    ) -> Matrix:
        """Like ``read``, for a matrix that is only multiplied with or looked up in: quantised weights may stay so."""
        ...
