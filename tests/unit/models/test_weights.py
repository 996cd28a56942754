"""Any rectangle of a stored tensor is what the whole tensor has there; what is missing or of another shape is named."""

from __future__ import annotations

import math
import struct

import gguf
import numpy as np
import pytest
import torch

from tests.unit.kernels.packed_linear_reference import unpack
from tests.unit.kernels.test_packed_linear import SCALE_PLACES, stored_rows
from tests.unit.models.running import load
from tests.unit.models.tiny_models import make_model, save_folder, save_gguf
from yeoul.errors import ModelFileError
from yeoul.kernels.dequantize.reference import block_format
from yeoul.kernels.linear.matrix_stack import MatrixStack
from yeoul.kernels.pack_matrix.packed_matrix import BLOCK_TYPES, PackedMatrix
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.models.tensor_files import GgufTensors, SafetensorsTensors
from yeoul.models.weights import FileWeights, StoredTensor

CPU = torch.device("cpu")


class OneTensor:
    """A file of one tensor, called ``matrix``."""

    path = "memory"

    def __init__(self, stored: StoredTensor) -> None:
        self._stored = stored

    def find(self, name: str) -> StoredTensor | None:
        return self._stored if name == self._stored.name else None

    def stored_name(self, name: str) -> str:
        return name


def _weights(matrix: np.ndarray, type_name: str, interleaved_head_dim: int = 0) -> FileWeights:
    packed = gguf.quants.quantize(matrix, gguf.GGMLQuantizationType[type_name])
    data = packed.view(np.uint8).reshape(-1)
    data.setflags(write=False)
    return FileWeights(
        OneTensor(StoredTensor("matrix", matrix.shape, type_name, data, interleaved_head_dim)), torch.float32, CPU
    )


@pytest.mark.parametrize("type_name", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_a_rectangle_is_read_as_it_stands_in_the_whole(type_name):
    matrix = np.random.default_rng(1).normal(size=(12, 128)).astype(np.float32)
    weights = _weights(matrix, type_name)
    whole = weights.read("matrix", (12, 128))
    for rows, columns in [(range(3, 9), None), (None, range(32, 96)), (range(5, 6), range(40, 41)), (None, range(17, 128))]:
        part = weights.read("matrix", (12, 128), rows=rows, columns=columns)
        expected = whole[rows.start : rows.stop] if rows else whole
        assert torch.equal(part, expected[:, columns.start : columns.stop] if columns else expected)


def test_a_large_tensor_is_decoded_piece_by_piece_to_the_same_numbers(monkeypatch):
    matrix = np.random.default_rng(1).normal(size=(12, 128)).astype(np.float32)
    whole = _weights(matrix, "Q8_0").read("matrix", (12, 128))
    monkeypatch.setattr("yeoul.models.weights.PIECE_ELEMENTS", 300)
    assert torch.equal(_weights(matrix, "Q8_0").read("matrix", (12, 128)), whole)


def test_interleaved_rows_come_out_half_by_half():
    matrix = np.repeat(np.arange(8, dtype=np.float32)[:, None], 32, axis=1)
    found = _weights(matrix, "F32", interleaved_head_dim=4).read("matrix", (8, 32), rows=range(4, 8))
    assert found[:, 0].tolist() == [4, 6, 5, 7]


@pytest.mark.parametrize("type_name", ["BF16", "Q8_0", "Q4_1", "Q4_0"])
@pytest.mark.parametrize("interleaved_head_dim", [0, 4])
def test_a_packed_matrix_holds_the_numbers_of_the_decoded_one(type_name, interleaved_head_dim):
    matrix = np.random.default_rng(1).normal(size=(12, 128)).astype(np.float32)
    weights = _weights(matrix, type_name, interleaved_head_dim)
    packing = FileWeights(weights._file, torch.bfloat16, CPU)
    for rows, columns in [(None, None), (range(4, 8), None), (None, range(32, 96)), (None, range(17, 128))]:
        found = packing.read_matrix("matrix", (12, 128), rows=rows, columns=columns)
        assert isinstance(found, PackedMatrix)
        expected = weights.read("matrix", (12, 128), rows=rows, columns=columns)
        is_exact = type_name == "BF16" or columns != range(17, 128)  # what begins within a block is decoded and rounded
        truth = expected if is_exact else expected.bfloat16().float()
        # What a file has with 4 bits becomes the nearest integers of 8 bits.
        nearest = truth.abs().amax(dim=1, keepdim=True) / 127 * 0.54
        is_near = (unpack(found) - truth).abs() <= nearest
        assert is_near.all() if type_name.startswith("Q4") else torch.equal(unpack(found), truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("type_name", "quantization"), [("F32", None), ("BF16", None), ("Q8_0", None), ("Q4_1", None), ("F32", "int8")]
)
def test_a_rank_that_has_no_rows_reads_none_and_multiplies_to_no_columns(type_name, quantization, dtype):
    matrix = np.random.default_rng(1).normal(size=(12, 128)).astype(np.float32)
    file = _weights(matrix, type_name)._file
    weights = FileWeights(file, dtype, CPU, None if dtype == torch.float32 else quantization)
    for none in (range(0), range(12, 12)):
        assert weights.read("matrix", (12, 128), rows=none).shape == (0, 128)
        assert weights.read("matrix", (12, 128), columns=none).shape == (12, 0)
        product = MatrixStack([weights.read_matrix("matrix", (12, 128), rows=none)])
        assert product(torch.ones(3, 128, dtype=dtype)).shape == (3, 0)


def test_in_float16_a_matrix_that_cannot_be_packed_is_multiplied_in_float32():
    matrix = np.random.default_rng(1).normal(size=(12, 128)).astype(np.float32)
    weights = FileWeights(_weights(matrix, "F16")._file, torch.float16, CPU)
    stack = MatrixStack([weights.read_matrix("matrix", (12, 128))], torch.ones(12, dtype=torch.float16))
    rows = torch.randn(5, 128, dtype=torch.float16, generator=torch.Generator().manual_seed(1)) * 4
    exact = rows.double() @ torch.from_numpy(matrix).half().double().T + 1
    assert torch.allclose(stack(rows, torch.float32).double(), exact, atol=1e-4)
    assert torch.equal(stack(rows), stack(rows, torch.float32).half())


@pytest.mark.parametrize(("type_name", "block_bytes", "block_size"), [("IQ4_NL", 18, 32), ("IQ4_XS", 136, 256)])
def test_a_type_that_has_no_packed_form_is_multiplied_in_bfloat16(type_name, block_bytes, block_size):
    data = np.random.default_rng(1).integers(0, 256, (8, block_bytes), dtype=np.uint8)
    data[:, :2] = np.array([0.01], dtype=np.float16).view(np.uint8)
    stored = StoredTensor("matrix", (8, block_size), type_name, data.reshape(-1))
    exact = torch.from_numpy(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[type_name]))
    rows = torch.randn(3, block_size, generator=torch.Generator().manual_seed(1)).bfloat16()
    weights = FileWeights(OneTensor(stored), torch.bfloat16, CPU)
    product = MatrixStack([weights.read_matrix("matrix", (8, block_size))])(rows, torch.float32)
    assert torch.allclose(product, rows.float() @ exact.bfloat16().float().T, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("number", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("type_name", BLOCK_TYPES)
def test_a_block_whose_scale_is_no_finite_number_is_refused_and_its_tensor_named(type_name, number):
    """What is multiplied as integers would hide a NaN, and what is decoded shows it in every logit."""
    form = block_format(type_name)
    for place in SCALE_PLACES.get(type_name, (0,)):
        blocks = stored_rows(type_name, 20, 512).view(-1, form.block_bytes).numpy()
        blocks[-5, place : place + 2] = np.array([number], dtype=np.float16).view(np.uint8)
        file = OneTensor(StoredTensor("matrix", (20, 512), type_name, blocks.reshape(-1)))
        with pytest.raises(ModelFileError, match="tensor 'matrix' has blocks in 1 of 20 rows whose scale is no finite"):
            FileWeights(file, torch.bfloat16, CPU).read_matrix("matrix", (20, 512))
        assert not FileWeights(file, torch.float32, CPU).read("matrix", (20, 512)).isfinite().all()


def test_the_oracle_s_matrices_are_decoded():
    found = _weights(np.ones((12, 128), dtype=np.float32), "Q8_0").read_matrix("matrix", (12, 128))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32


def test_weights_take_the_type_of_the_model_and_norms_stay_float32(tmp_path):
    files = save_folder(make_model("llama"), str(tmp_path))
    weights = FileWeights(SafetensorsTensors(files.path), torch.bfloat16, CPU)
    assert weights.read("model.norm.weight", (48,)).dtype == torch.bfloat16
    assert weights.read("model.norm.weight", (48,), dtype=torch.float32).dtype == torch.float32


def test_a_missing_tensor_is_named_as_the_file_would_call_it(tmp_path):
    files = save_gguf(make_model("llama"), "llama", str(tmp_path / "tiny.gguf"))
    weights = FileWeights(GgufTensors(files.path, describe(files)), torch.float32, CPU)
    with pytest.raises(ModelFileError, match=r"no tensor 'blk.7.ffn_up.weight' \(expected of shape \(80, 48\)\)"):
        weights.read("model.layers.7.mlp.up_proj.weight", (80, 48))


def test_a_folder_without_a_tensor_is_refused_with_its_name(tmp_path):
    model = make_model("llama")
    kept = {name: value for name, value in model.state_dict().items() if name != "model.layers.1.mlp.up_proj.weight"}
    model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(ModelFileError, match=r"no tensor 'model.layers.1.mlp.up_proj.weight'"):
        load(_files(tmp_path))


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(tmp_path):
    model = make_model("llama")
    wrong = model.state_dict() | {"model.layers.0.self_attn.k_proj.weight": torch.zeros(8, 48)}
    model.save_pretrained(tmp_path, state_dict=wrong)
    with pytest.raises(ModelFileError, match=r"k_proj.weight' has the shape \(8, 48\), expected \(16, 48\)"):
        load(_files(tmp_path))


def test_a_type_that_is_no_float_is_refused(tmp_path):
    model = make_model("llama")
    wrong = model.state_dict() | {"model.layers.0.self_attn.k_proj.weight": torch.zeros(16, 48, dtype=torch.int8)}
    model.save_pretrained(tmp_path, state_dict=wrong)
    with pytest.raises(ModelFileError, match=r"k_proj.weight' is of type I8; expected one of BF16, F16, F32"):
        load(_files(tmp_path))


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_a_text_model_under_another_prefix_is_found(prefix, tmp_path):
    path = tmp_path / "model.safetensors"
    header = f'{{"{prefix}embed_tokens.weight":{{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + np.arange(4, dtype=np.float32).tobytes())
    weights = FileWeights(SafetensorsTensors(str(tmp_path)), torch.float32, CPU)
    assert weights.read("model.embed_tokens.weight", (2, 2)).tolist() == [[0.0, 1.0], [2.0, 3.0]]


def _files(path):
    return ModelFiles(name="tiny", file_format="safetensors", path=str(path))
