"""Every GGUF type is decoded to the very numbers that the gguf package decodes it to."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from yeoul.errors import ModelFileError
from yeoul.kernels.dequantize.reference import block_format
from yeoul.kernels.operations import dequantize
from yeoul.model_files.gguf_types import COMPUTABLE_TYPES, TENSOR_TYPES


def _random_rows(type_name: str, num_rows: int, num_blocks: int) -> np.ndarray:
    """Random bytes, each a valid block: where the format keeps a float, a small one."""
    form = block_format(type_name)
    generator = np.random.default_rng(7)
    rows = generator.integers(0, 256, (num_rows * num_blocks, form.block_bytes), dtype=np.uint8)
    float_offsets = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
    float_offsets |= {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "F16": (0,)}
    float_offsets |= {"IQ4_NL": (0,), "IQ4_XS": (0,)}
    for offset in float_offsets.get(type_name, ()):
        rows[:, offset : offset + 2] = generator.normal(size=(len(rows), 1)).astype(np.float16).view(np.uint8)
    if type_name == "F32":
        rows[:] = generator.normal(size=(len(rows), 1)).astype(np.float32).view(np.uint8)
    if type_name == "BF16":
        rows[:] = generator.normal(size=(len(rows), 1)).astype(np.float32).view(np.uint8)[:, 2:]
    return rows.reshape(num_rows, -1)


@pytest.mark.parametrize("type_name", COMPUTABLE_TYPES)
def test_a_type_is_decoded_bit_for_bit_as_the_gguf_package_decodes_it(type_name: str) -> None:
    rows = _random_rows(type_name, num_rows=5, num_blocks=4)
    expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[type_name])
    decoded = dequantize(torch.from_numpy(rows), type_name)
    assert decoded.dtype == torch.float32
    assert decoded.numpy().tolist() == expected.tolist()


@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_quantising_and_decoding_stays_near_the_original(type_name: str) -> None:
    original = np.random.default_rng(3).normal(size=(3, 64)).astype(np.float32)
    packed = gguf.quants.quantize(original, gguf.GGMLQuantizationType[type_name])
    decoded = dequantize(torch.from_numpy(packed), type_name).numpy()
    assert np.abs(decoded - original).max() < 0.4


def test_the_block_sizes_are_those_that_the_file_reader_counts_with() -> None:
    by_name = {entry.name: entry for entry in TENSOR_TYPES.values()}
    for type_name in COMPUTABLE_TYPES:
        form = block_format(type_name)
        assert (form.block_size, form.block_bytes) == (by_name[type_name].block_size, by_name[type_name].block_bytes)


def test_an_unknown_type_is_refused_with_the_known_ones_named() -> None:
    with pytest.raises(ModelFileError, match=r"IQ2_XXS.*Q4_K"):
        dequantize(torch.zeros(1, 66, dtype=torch.uint8), "IQ2_XXS")
