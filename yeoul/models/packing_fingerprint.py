"""packing_fingerprint(): a name for everything that decides what packed weights look like; knows nothing of real files.

``models.packed_loading`` keeps packed weights under it. It is what the code *does* to a sample of every type that can be
stored: a layout that changes gives another name, whether or not anybody thought of it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import xxhash

from yeoul import __version__
from yeoul.kernels.dequantize.reference import block_format
from yeoul.model_files.gguf_types import COMPUTABLE_TYPES
from yeoul.models.packed_weights import bytes_of, parts_of
from yeoul.models.weights import FLOAT_TYPES, FileWeights, StoredTensor

PACKING_VERSION = 1
"""To be raised for a change that the sample does not show."""

_NUM_ROWS, _NUM_COLUMNS, _HEAD_DIM = 20, 256, 4
_SHAPE = (_NUM_ROWS, _NUM_COLUMNS)


class SampleFile:
    """A file with a tensor of every type, each also with the interleaved rows of llama.cpp's Llama files."""

    path = "sample"

    def find(self, name: str) -> StoredTensor | None:
        """``<type>`` or ``<type> interleaved``."""
        type_name, _, order = name.partition(" ")
        form = block_format(type_name)
        num_bytes = _NUM_ROWS * _NUM_COLUMNS // form.block_size * form.block_bytes
        # Bytes below 0x60 are finite numbers in every type.
        data = (np.arange(num_bytes, dtype=np.uint32) * 37 % 96).astype(np.uint8)
        return StoredTensor(name, _SHAPE, type_name, data, _HEAD_DIM if order else 0)

    def stored_name(self, name: str) -> str:
        """The same."""
        return name


def packing_fingerprint(dtype: torch.dtype, quantization: Literal["int8"] | None = None) -> str:
    """What this code, on this processor, makes of weights for a model that computes in ``dtype``; takes milliseconds."""
    weights = FileWeights(SampleFile(), dtype, torch.device("cpu"), quantization)
    hasher = xxhash.xxh3_128(f"{__version__} {PACKING_VERSION}".encode())
    for type_name in COMPUTABLE_TYPES if quantization is None else sorted(FLOAT_TYPES):
        for answer in (
            weights.read_matrix(type_name, _SHAPE),
            weights.read_matrix(f"{type_name} interleaved", _SHAPE, rows=range(_HEAD_DIM, _NUM_ROWS)),
            weights.read(f"{type_name} interleaved", _SHAPE, rows=range(2 * _HEAD_DIM), columns=range(3, 9)),
        ):
            tensors, numbers = parts_of(answer)
            for tensor in [tensor for tensor in tensors if tensor is not None]:
                hasher.update(f"{numbers} {tensor.dtype} {tuple(tensor.shape)}".encode())
                hasher.update(bytes_of(tensor).data)
    return hasher.hexdigest()
