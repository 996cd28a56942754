"""``--quantization int8``: floating weights become integers on the way in; refused where it is no use."""

from __future__ import annotations

import pytest
import torch

from tests.unit.models.running import Requests, load
from tests.unit.models.tiny_models import make_model, save_folder, save_gguf
from yeoul.errors import ConfigError
from yeoul.kernels.pack_matrix.packed_matrix import PackedMatrix
from yeoul.layers.parallel import TensorParallel
from yeoul.model_files.describe import describe
from yeoul.models.packed_loading import packed_key
from yeoul.models.tensor_files import SafetensorsTensors
from yeoul.models.weights import FileWeights

TOKENS = [3, 17, 80, 2, 55, 9, 31, 64, 7, 7, 12, 90]


def logits_of(model, dtype: torch.dtype = torch.bfloat16, steps: tuple[int, ...] = (len(TOKENS),)) -> torch.Tensor:
    requests = Requests(model, [TOKENS], dtype=dtype)
    return torch.cat([requests.step({0: count})[0] for count in steps])


def test_quantised_logits_stay_near_those_of_floats(tmp_path):
    files = save_folder(make_model("llama", hidden_size=96, intermediate_size=192), str(tmp_path))
    exact = logits_of(load(files), torch.float32)
    for dtype in (torch.bfloat16, torch.float16):
        quantized = logits_of(load(files, dtype=dtype, quantization="int8"), dtype)
        # On random weights, activations and weights of 8 bits are each off by 3 %, and bfloat16 by 1.7 %.
        assert 0 < (quantized - exact).abs().mean() < 0.06 * exact.abs().mean()


def test_a_prompt_in_chunks_has_the_same_bits(tmp_path):
    files = save_folder(make_model("llama"), str(tmp_path))
    model = load(files, dtype=torch.bfloat16, quantization="int8")
    whole = logits_of(model)
    assert torch.equal(logits_of(model, steps=(1,) * len(TOKENS)), whole)
    assert torch.equal(logits_of(model, steps=(5, 1, 6)), whole)


def test_matrices_are_integers_of_8_bits_and_packed_under_a_name_of_their_own(tmp_path):
    files = save_folder(make_model("llama", hidden_size=96), str(tmp_path))
    weights = FileWeights(SafetensorsTensors(files.path), torch.bfloat16, torch.device("cpu"), "int8")
    matrix = weights.read_matrix("model.layers.0.self_attn.q_proj.weight", (96, 96))
    assert isinstance(matrix, PackedMatrix)
    assert matrix.form.code_bits == 8
    keys = [packed_key(files, describe(files), torch.bfloat16, TensorParallel(), name) for name in (None, "int8")]
    assert keys[0] != keys[1]


def test_float32_and_weights_that_are_quantised_already_are_refused(tmp_path):
    oracle = make_model("llama", hidden_size=96, intermediate_size=192)
    folder = save_folder(oracle, str(tmp_path / "folder"))
    with pytest.raises(ConfigError, match="--quantization int8 is for a CPU that computes in bfloat16 or float16"):
        load(folder, quantization="int8")
    file = save_gguf(oracle, "llama", str(tmp_path / "tiny.gguf"), "Q8_0")
    with pytest.raises(ConfigError, match="is quantised already, as Q8_0; leave it away"):
        load(file, dtype=torch.bfloat16, quantization="int8")


def test_a_gpu_is_refused(tmp_path):
    files = save_folder(make_model("llama", hidden_size=96), str(tmp_path))
    weights = FileWeights(SafetensorsTensors(files.path), torch.bfloat16, torch.device("meta"), "int8")
    with pytest.raises(ConfigError, match="is for a CPU"):
        weights.read_matrix("model.layers.0.self_attn.q_proj.weight", (96, 96))
