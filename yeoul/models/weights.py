"""FileWeights: a model file's tensors, cut and decoded as the layers ask for them; knows nothing of either file format.

The WeightSource of ``models.loading``. Types of both kinds of file go through one decoder, a bounded piece at a time, so
that nothing is materialised but the part that this rank keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yeoul.errors import ConfigError, ModelFileError
from yeoul.kernels import operations
from yeoul.kernels.dequantize.reference import block_format
from yeoul.kernels.operations import Matrix
from yeoul.kernels.pack_matrix.native import can_pack, pack_bfloat16, pack_int8, pack_matrix

PIECE_ELEMENTS = 1 << 19
FLOAT_TYPES = frozenset({"F32", "F16", "BF16"})


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its file stores it.

    Attributes:
        name: what the file calls it.
        shape: in torch's order.
        type_name: ggml's name of the type (``F32``, ``BF16`` and ``Q4_K`` are some).
        data: uint8 ``[num_bytes]``, still in the file's map.
        interleaved_head_dim: 0, or the size of a head whose rows are stored in the order of llama.cpp's Llama files:
            the two rows that rotate together are neighbours, where Hugging Face has them half a head apart.
    """

    name: str
    shape: tuple[int, ...]
    type_name: str
    data: npt.NDArray[np.uint8]
    interleaved_head_dim: int = 0


class TensorFile(Protocol):
    """A file or folder of tensors that can be found by their Hugging Face names."""

    @property
    def path(self) -> str:
        """Where it lies, for errors."""
        ...

    def find(self, name: str) -> StoredTensor | None:
        """The tensor, or None where the file has none of that meaning."""
        ...

    def stored_name(self, name: str) -> str:
        """What the file would call it, for errors."""
        ...


class FileWeights:
    """See ``layers.weight_source.WeightSource``."""

    def __init__(
        self, file: TensorFile, dtype: torch.dtype, device: torch.device, quantization: Literal["int8"] | None = None
    ) -> None:
        self.dtype = dtype
        self.device = device
        self._file = file
        self._quantization = quantization

    def has(self, name: str) -> bool:
        """Whether the file holds the tensor."""
        return self._file.find(name) is not None

    def read(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        rows: range | None = None,
        columns: range | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Read a part of a tensor; raises ModelFileError if it is missing or not of ``shape``."""
        stored = self._find(name, shape)
        # Whoever asks for none gets none: an empty range is false.
        rows = range(shape[0]) if rows is None else rows
        if len(shape) == 1:
            part = _decode(stored, range(1), rows, dtype or self.dtype)[0]
        else:
            part = _decode(stored, rows, range(shape[1]) if columns is None else columns, dtype or self.dtype)
        if stored.interleaved_head_dim:
            part = _halves_from_pairs(part, stored.interleaved_head_dim)
        return part.to(self.device)

    def read_matrix(
        self, name: str, shape: tuple[int, int], *, rows: range | None = None, columns: range | None = None
    ) -> Matrix:
        """Read a part of a matrix: packed, as exact as it is stored, if this device multiplies packed ones; else a tensor.

        Where the model computes in float32, weights are decoded, so that what it computes can be compared.

        Raises:
            ConfigError: it is to be quantised and is quantised already, or this mode computes with decoded weights.
            ModelFileError: it is missing, not of ``shape``, or has a block whose scale is no finite number.
        """
        stored = self._find(name, shape)
        rows = range(shape[0]) if rows is None else rows
        columns = range(shape[1]) if columns is None else columns
        if self._quantization is not None:
            self._check_can_quantize(stored)
            return pack_int8(self.read(name, shape, rows=rows, columns=columns))
        if self.dtype == torch.float32 or self.device.type != "cpu":
            return self.read(name, shape, rows=rows, columns=columns)
        if not can_pack(stored.type_name, columns):
            if self.dtype == torch.bfloat16:
                return pack_bfloat16(self.read(name, shape, rows=rows, columns=columns))
            # A CPU multiplies float16 many times slower than float32, and rounds what it adds up.
            return self.read(name, shape, rows=rows, columns=columns, dtype=torch.float32)
        row_of = torch.arange(rows.start, rows.stop)
        if stored.interleaved_head_dim:
            row_of = _halves_from_pairs(row_of, stored.interleaved_head_dim).contiguous()
        try:
            return pack_matrix(_blocks(stored, columns), stored.type_name, len(columns), row_of)
        except ValueError as error:
            raise ModelFileError(f"{self._file.path}: tensor {stored.name!r} {error}; fetch the file again") from error

    def _check_can_quantize(self, stored: StoredTensor) -> None:
        if self.device.type != "cpu" or self.dtype == torch.float32:
            raise ConfigError(
                f"--quantization {self._quantization} is for a CPU that computes in bfloat16 or float16, not for "
                f"{self.device} with {self.dtype}; leave it away, or choose --device cpu and --dtype bfloat16"
            )
        if stored.type_name not in FLOAT_TYPES:
            raise ConfigError(
                f"--quantization {self._quantization} quantises weights of {', '.join(sorted(FLOAT_TYPES))}, but "
                f"{stored.name!r} in {self._file.path} is quantised already, as {stored.type_name}; leave it away"
            )

    def _find(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        stored = self._file.find(name)
        if stored is None:
            raise ModelFileError(
                f"{self._file.path} has no tensor {self._file.stored_name(name)!r} (expected of shape {shape}); "
                "is the file whole, and of the architecture that it names? Fetch it again"
            )
        if stored.shape != shape:
            raise ModelFileError(
                f"{self._file.path}: tensor {stored.name!r} has the shape {stored.shape}, expected {shape}; "
                "is the file whole, and of the architecture that it names? Fetch it again"
            )
        return stored


def _blocks(stored: StoredTensor, columns: range) -> npt.NDArray[np.uint8]:
    """The bytes of all blocks that hold these columns: ``[num_rows, num_bytes]``."""
    form = block_format(stored.type_name)
    num_stored_rows = stored.shape[0] if len(stored.shape) > 1 else 1
    first_block, end_block = columns.start // form.block_size, -(-columns.stop // form.block_size)
    return stored.data.reshape(num_stored_rows, -1)[:, first_block * form.block_bytes : end_block * form.block_bytes]


def _decode(stored: StoredTensor, rows: range, columns: range, dtype: torch.dtype) -> Tensor:
    """Decode a rectangle, widened to whole blocks for the decoding: ``[len(rows), len(columns)]``."""
    form = block_format(stored.type_name)
    skipped = columns.start % form.block_size
    table = _blocks(stored, columns)
    result = torch.empty(len(rows), len(columns), dtype=dtype)
    if result.numel() == 0:
        return result
    rows_a_piece = max(1, PIECE_ELEMENTS // max(1, table.shape[1] // form.block_bytes * form.block_size))
    for start in range(rows.start, rows.stop, rows_a_piece):
        end = min(start + rows_a_piece, rows.stop)
        piece = operations.dequantize(torch.from_numpy(np.array(table[start:end])), stored.type_name)
        result[start - rows.start : end - rows.start] = piece[:, skipped : skipped + len(columns)]
    return result


def _halves_from_pairs(part: Tensor, head_dim: int) -> Tensor:
    """Put the rows of whole heads from llama.cpp's order (pair by pair) into Hugging Face's (half by half)."""
    heads = part.view(-1, head_dim // 2, 2, *part.shape[1:])
    return heads.transpose(1, 2).reshape(part.shape)
