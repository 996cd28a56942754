"""Weights that go into a packed file as layers ask for them, and that come back from it; knows nothing of folders or keys.

``RecordingWeights`` stands before the model's own files and notes what every layer got; ``PackedWeights`` gives a later
start the same, bit for bit, from the map. Both are WeightSources; ``models.packed_loading`` calls them.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from yeoul.kernels.operations import Matrix
from yeoul.kernels.pack_matrix.packed_matrix import PackedForm, PackedMatrix
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.packed_file import ARRAY_ALIGNMENT, PackedFile, StoredArray, StoredWeight

_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.float32, torch.float16, torch.bfloat16)}

Answer = TypeVar("Answer", bound=Matrix | bool)


class WeightNotPackedError(LookupError):
    """The file was made by layers that asked for other weights; it is made again. Never leaves this room."""


class RecordingWeights:
    """Another source, whose answers are noted."""

    def __init__(self, source: WeightSource) -> None:
        self.dtype = source.dtype
        self.device = source.device
        self._source = source
        self._answers: dict[str, Matrix | bool] = {}

    def has(self, name: str) -> bool:
        """See ``WeightSource.has``."""
        return self._note(_question("has", name), self._source.has(name))

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
        question = _question("read", name, shape, rows, columns, dtype or self.dtype)
        return self._note(question, self._source.read(name, shape, rows=rows, columns=columns, dtype=dtype))

    def read_matrix(
        self, name: str, shape: tuple[int, int], *, rows: range | None = None, columns: range | None = None
    ) -> Matrix:
        """See ``WeightSource.read_matrix``."""
        question = _question("matrix", name, shape, rows, columns)
        return self._note(question, self._source.read_matrix(name, shape, rows=rows, columns=columns))

    def lay_out(self) -> tuple[dict[str, StoredWeight], list[tuple[StoredArray, memoryview]]]:
        """Everything that was noted as a file's header describes it, and the arrays with their bytes, in their order."""
        weights: dict[str, StoredWeight] = {}
        contents: list[tuple[StoredArray, memoryview]] = []
        end = 0
        for question, answer in self._answers.items():
            tensors, numbers = _parts_of(answer)
            arrays: list[StoredArray | None] = []
            for tensor in tensors:
                if tensor is None:
                    arrays.append(None)
                    continue
                content = _bytes_of(tensor)
                start = -(-end // ARRAY_ALIGNMENT) * ARRAY_ALIGNMENT
                end = start + content.nbytes
                array = StoredArray(str(tensor.dtype).removeprefix("torch."), list(tensor.shape), start, content.nbytes)
                arrays.append(array)
                contents.append((array, content))
            weights[question] = StoredWeight(arrays, numbers)
        return weights, contents

    def _note(self, question: str, answer: Answer) -> Answer:
        self._answers[question] = answer
        return answer


class PackedWeights:
    """The weights of a packed file, in its map. Every method raises WeightNotPackedError for what it does not hold."""

    def __init__(self, file: PackedFile, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        self._file = file

    def has(self, name: str) -> bool:
        """See ``WeightSource.has``."""
        return bool(self._find(_question("has", name)).numbers[0])

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
        stored = self._find(_question("read", name, shape, rows, columns, dtype or self.dtype))
        return self._tensor(stored.arrays[0])

    def read_matrix(
        self, name: str, shape: tuple[int, int], *, rows: range | None = None, columns: range | None = None
    ) -> Matrix:
        """See ``WeightSource.read_matrix``."""
        stored = self._find(_question("matrix", name, shape, rows, columns))
        if not stored.numbers:
            return self._tensor(stored.arrays[0])
        *form, num_outputs, num_inputs = stored.numbers
        codes, scales = stored.arrays
        return PackedMatrix(
            PackedForm(*form),
            num_outputs,
            num_inputs,
            self._tensor(codes),
            None if scales is None else self._tensor(scales),
        )

    def _find(self, question: str) -> StoredWeight:
        stored = self._file.header.weights.get(question)
        if stored is None:
            raise WeightNotPackedError(question)
        return stored

    def _tensor(self, array: StoredArray | None) -> Tensor:
        assert array is not None
        dtype = _TYPES[array.type_name]
        if array.num_bytes == 0:
            return torch.empty(array.shape, dtype=dtype)
        return torch.from_numpy(self._file.data(array)).view(dtype).view(array.shape)


def _question(kind: str, name: str, *details: object) -> str:
    return " ".join([kind, name, *map(str, details)])


def _parts_of(answer: Matrix | bool) -> tuple[list[Tensor | None], list[int]]:
    """The tensors of an answer, and the numbers that make it whole."""
    if isinstance(answer, bool):
        return [], [int(answer)]
    if isinstance(answer, Tensor):
        return [answer], []
    form = answer.form
    layout = [form.code_bits, form.step_block, form.has_starts]
    return [answer.codes, answer.scales], [*layout, answer.num_outputs, answer.num_inputs]


def _bytes_of(tensor: Tensor) -> memoryview:
    if tensor.numel() == 0:
        return memoryview(b"")
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
