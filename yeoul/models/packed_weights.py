"""PackedWeights: weights that go into a packed file as layers ask for them, and that come back from it at a later start.

Knows nothing of folders or keys. A WeightSource, bit for bit the same both times; ``models.packed_loading`` calls it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from yeoul.kernels.operations import Matrix
from yeoul.kernels.pack_matrix.packed_matrix import PackedForm, PackedMatrix
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.packed_file import Bytes, PackedFile, PackedFileWriter, StoredArray, StoredWeight

_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.float32, torch.float16, torch.bfloat16)}


class WeightNotPackedError(LookupError):
    """The file was made by layers that asked for other weights; it is made again. Never leaves this room."""


class PackedWeights:
    """The weights of a packed file, in its map.

    What is not in it is taken from ``source``, which fills the file: of what a model has nothing stays in memory. Without a
    source it is a WeightNotPackedError.
    """

    def __init__(
        self,
        file: PackedFile | PackedFileWriter,
        dtype: torch.dtype,
        device: torch.device,
        source: WeightSource | None = None,
    ) -> None:
        self.dtype = dtype
        self.device = device
        self._file = file
        self._source = source

    def has(self, name: str) -> bool:
        """See ``WeightSource.has``."""
        stored = self._find(f"has {name}", lambda source: source.has(name))
        return bool(stored.numbers[0])

    def read(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        rows: range | None = None,
        columns: range | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """See ``WeightSource.read``."""
        stored = self._find(
            f"read {name} {shape} {rows} {columns} {dtype or self.dtype}",
            lambda source: source.read(name, shape, rows=rows, columns=columns, dtype=dtype),
        )
        return self._tensor(stored.arrays[0])

    def read_matrix(
        self, name: str, shape: tuple[int, int], *, rows: range | None = None, columns: range | None = None
    ) -> Matrix:
        """See ``WeightSource.read_matrix``."""
        stored = self._find(
            f"matrix {name} {shape} {rows} {columns}",
            lambda source: source.read_matrix(name, shape, rows=rows, columns=columns),
        )
        if not stored.numbers:
            return self._tensor(stored.arrays[0])
        *form, num_outputs, num_inputs = stored.numbers
        codes, scales = stored.arrays
        scales_tensor = None if scales is None else self._tensor(scales)
        return PackedMatrix(PackedForm(*form), num_outputs, num_inputs, self._tensor(codes), scales_tensor)

    def _find(self, question: str, ask: Callable[[WeightSource], Matrix | bool]) -> StoredWeight:
        stored = self._file.weights.get(question)
        if stored is None:
            if self._source is None or isinstance(self._file, PackedFile):
                raise WeightNotPackedError(question)
            tensors, numbers = parts_of(ask(self._source))
            stored = StoredWeight([None if tensor is None else _put(self._file, tensor) for tensor in tensors], numbers)
            self._file.weights[question] = stored
            _give_memory_back()
        return stored

    def _tensor(self, array: StoredArray | None) -> Tensor:
        assert array is not None
        dtype = _TYPES[array.type_name]
        if array.num_bytes == 0:
            return torch.empty(array.shape, dtype=dtype)
        return torch.from_numpy(self._file.data(array)).view(dtype).view(array.shape)


def parts_of(answer: Matrix | bool) -> tuple[list[Tensor | None], list[int]]:
    """The tensors of an answer, and the numbers that make it whole."""
    if isinstance(answer, bool):
        return [], [int(answer)]
    if isinstance(answer, Tensor):
        return [answer], []
    form = answer.form
    layout = [form.code_bits, form.step_block, form.has_starts]
    return [answer.codes, answer.scales], [*layout, answer.num_outputs, answer.num_inputs]


def bytes_of(tensor: Tensor) -> Bytes:
    """The numbers of a tensor as they lie in memory, ``[num_bytes]``."""
    if tensor.numel() == 0:
        return np.empty(0, np.uint8)
    return tensor.contiguous().flatten().view(torch.uint8).numpy()


def _put(file: PackedFileWriter, tensor: Tensor) -> StoredArray:
    return file.put(str(tensor.dtype).removeprefix("torch."), list(tensor.shape), bytes_of(tensor))


def _give_memory_back() -> None:
    """What matrices have left, which malloc keeps where small things that stay have settled behind them."""
    with contextlib.suppress(AttributeError):  # musl has no such function, and no such habit
        ctypes.CDLL(None).malloc_trim(0)
