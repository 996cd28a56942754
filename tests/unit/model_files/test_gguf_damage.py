"""Whatever is done to a GGUF file's bytes, opening it ends soon, in a result or in a ModelFileError, in little memory."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import little_time
from tests.unit.model_files.gguf_bytes import Q8_0, Tensor, tiny_model
from yeoul.errors import ModelFileError
from yeoul.model_files.describe_gguf import describe_gguf
from yeoul.model_files.gguf import GgufFile
from yeoul.model_files.tokenizer_gguf import source_from_gguf

MAX_ALLOCATED_BYTES = 8 << 20


def whole_file() -> bytes:
    model = tiny_model(general__languages=["en", "ko"], tokenizer__ggml__scores=[0.0] * 6, general__file_type=7)
    model.tensors = [*model.tensors, Tensor("blk.0.attn_q.weight", (32, 2), Q8_0, bytes(68))]
    return model.build()


WHOLE = whole_file()
EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]

overwrites = st.lists(
    st.tuples(
        st.integers(0, len(WHOLE) - 1),
        st.one_of(
            st.binary(min_size=1, max_size=12),
            st.sampled_from(EXTREMES).map(lambda number: number.to_bytes(8, "little")),
            st.sampled_from(EXTREMES[:6]).map(lambda number: number.to_bytes(4, "little")),
        ),
    ),
    max_size=6,
)


def read_everything(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "damaged.gguf")
        Path(path).write_bytes(raw)
        with contextlib.suppress(ModelFileError):
            file = GgufFile.open(path)
            for key in file.metadata:
                assert file.metadata[key] is not None
            for tensor in file.tensors.values():
                assert tensor.data().nbytes == len(tensor.content)
        with contextlib.suppress(ModelFileError):
            describe_gguf(path)
        with contextlib.suppress(ModelFileError):
            source_from_gguf(path)


@given(st.integers(0, len(WHOLE)), overwrites)
@settings(max_examples=200)
@little_time(2)
def test_a_damaged_header_is_refused_or_read_but_never_crashes(length, changes):
    raw = bytearray(WHOLE)
    for position, replacement in changes:
        raw[position : position + len(replacement)] = replacement
    read_everything(bytes(raw[:length]))


@given(overwrites)
@settings(max_examples=50)
@little_time(2)
def test_a_damaged_header_allocates_little(changes):
    raw = bytearray(WHOLE)
    for position, replacement in changes:
        raw[position : position + len(replacement)] = replacement
    tracemalloc.start()
    try:
        read_everything(bytes(raw))
        assert tracemalloc.get_traced_memory()[1] < MAX_ALLOCATED_BYTES
    finally:
        tracemalloc.stop()


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(WHOLE)
    last_tensor_bytes = -(-68 // 32) * 32
    for length in range(len(WHOLE) - last_tensor_bytes + 67, -1, -1):
        os.truncate(path, length)
        with pytest.raises(ModelFileError):
            GgufFile.open(str(path))


def test_the_map_and_its_descriptor_go_with_the_last_array(tmp_path):
    path = tmp_path / "whole.gguf"
    path.write_bytes(WHOLE)
    kept = [GgufFile.open(str(path)).tensors["token_embd.weight"].data() for _ in range(5)]
    assert str(path) in Path("/proc/self/maps").read_text()
    assert num_descriptors_of(path) > 0
    kept.clear()
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert num_descriptors_of(path) == 0


def num_descriptors_of(path):
    return sum(os.path.realpath(link) == str(path) for link in Path("/proc/self/fd").iterdir())
