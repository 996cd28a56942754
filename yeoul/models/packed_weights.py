"""PackedWeights: weights that go into a packed file as layers ask for them, and that come back from it at a later start.

Knows nothing of folders or keys. A WeightSource, bit for bit the same both times; ``models.packed_loading`` calls it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from yeoul.kernels.operations import Matrix
from yeoul.kernels.pack_matrix.packed_matrix import PackedForm, PackedMatrix
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.packed_file import PackedFile, PackedFileWriter, StoredArray, StoredWeight

_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.float32, torch.float16, torch.bfloat16)}


class PackedWeights:
    """The weights of a packed file, in its map; or, with a ``source``, the source's, on their way into a new file.

    Of what is written nothing stays in memory: matrices, which are only multiplied with or looked up in, are given without
    their numbers (on the device ``meta``), so that a model can be built of them, and not run.
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
        return bool(self._answer(f"has {name}", lambda source: source.has(name)))

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
        tensor = self._answer(
            f"read {name} {shape} {rows} {columns} {dtype or self.dtype}",
            lambda source: source.read(name, shape, rows=rows, columns=columns, dtype=dtype),
        )
        assert isinstance(tensor, Tensor)
        return tensor

    def read_matrix(
        self, name: str, shape: tuple[int, int], *, rows: range | None = None, columns: range | None = None
    ) -> Matrix:
        """See ``WeightSource.read_matrix``."""
        matrix = self._answer(
            f"matrix {name} {shape} {rows} {columns}",
            lambda source: source.read_matrix(name, shape, rows=rows, columns=columns),
        )
        assert isinstance(matrix, Tensor | PackedMatrix)
        return matrix if self._source is None else _without_numbers(matrix)

    def _answer(self, question: str, ask: Callable[[WeightSource], Matrix | bool]) -> Matrix | bool:
        if isinstance(self._file, PackedFile):
            return self._restored(self._file, self._file.weights[question])
        assert self._source is not None
        answer = ask(self._source)
        tensors, numbers = _parts_of(answer)
        arrays = [None if tensor is None else _put(self._file, tensor) for tensor in tensors]
        self._file.weights[question] = StoredWeight(arrays, numbers)
        _give_memory_back()
        return answer

    def _restored(self, file: PackedFile, stored: StoredWeight) -> Matrix | bool:
        """The opposite of ``_parts_of``."""
        tensors = [None if array is None else _tensor(file, array) for array in stored.arrays]
        if not tensors:
            return bool(stored.numbers[0])
        first = tensors[0]
        assert first is not None
        if not stored.numbers:
            return first
        *form, num_outputs, num_inputs = stored.numbers
        return PackedMatrix(PackedForm(*form), num_outputs, num_inputs, first, tensors[1])


def _parts_of(answer: Matrix | bool) -> tuple[list[Tensor | None], list[int]]:
    """The tensors of an answer, and the numbers that make it whole."""
    if isinstance(answer, bool):
        return [], [int(answer)]
    if isinstance(answer, Tensor):
        return [answer], []
    form = answer.form
    layout = [form.code_bits, form.step_block, form.has_starts]
    return [answer.codes, answer.scales], [*layout, answer.num_outputs, answer.num_inputs]


def _tensor(file: PackedFile, array: StoredArray) -> Tensor:
    dtype = _TYPES[array.type_name]
    if array.num_bytes == 0:
        return torch.empty(array.shape, dtype=dtype)
    return torch.from_numpy(file.data(array)).view(dtype).view(array.shape)


def _put(file: PackedFileWriter, tensor: Tensor) -> StoredArray:
    content = tensor.contiguous().flatten().view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
    return file.put(str(tensor.dtype).removeprefix("torch."), list(tensor.shape), content)


def _without_numbers(matrix: Matrix) -> Matrix:
    if isinstance(matrix, Tensor):
        return matrix.to("meta")
    scales = None if matrix.scales is None else matrix.scales.to("meta")
    return replace(matrix, codes=matrix.codes.to("meta"), scales=scales)


def _give_memory_back() -> None:
    """What matrices have left, which malloc keeps where small things that stay have settled behind them."""
    with contextlib.suppress(AttributeError):  # musl has no such function, and no such habit
        ctypes.CDLL(None).malloc_trim(0)
