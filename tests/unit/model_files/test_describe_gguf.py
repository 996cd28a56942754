"""What a GGUF file's metadata says about a model's shape."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.unit.model_files.gguf_bytes import IQ2_XXS, GgufBytes, Tensor, float_tensor, tiny_model
from yeoul.errors import ModelFileError
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelDescription, ModelFiles, RopeScaling


def described(model: GgufBytes, folder) -> ModelDescription:
    return describe(ModelFiles(name="tiny", file_format="gguf", path=model.write(folder)))


def refused(model: GgufBytes, folder) -> str:
    with pytest.raises(ModelFileError) as caught:
        described(model, folder)
    return caught.value.message


def test_a_llama_file_is_described(tmp_path):
    assert described(tiny_model(llama__rope__freq_base=100000.0), tmp_path) == ModelDescription(
        architecture="llama",
        file_format="gguf",
        num_layers=2,
        hidden_size=8,
        intermediate_size=16,
        num_heads=4,
        num_kv_heads=2,
        head_dim=2,
        vocab_size=6,
        max_position_embeddings=128,
        rms_norm_eps=float(np.float32(1e-5)),
        attention_scale=2**-0.5,
        rope_theta=100000.0,
        tie_word_embeddings=True,
        weights_dtype="float32",
    )


def test_tensors_tell_what_metadata_does_not(tmp_path):
    model = tiny_model("qwen3")
    names = [
        "output.weight",
        "blk.0.attn_q.bias",
        "blk.0.attn_output.bias",
        "blk.0.ffn_gate.bias",
        "blk.0.attn_q_norm.weight",
    ]
    plain = described(model, tmp_path)
    model.tensors = [*model.tensors, *(float_tensor(name, 8) for name in names)]
    full = described(model, tmp_path)
    assert (plain.tie_word_embeddings, full.tie_word_embeddings) == (True, False)
    for name in ("attention_bias", "attention_output_bias", "mlp_bias", "qk_norm"):
        assert (getattr(plain, name), getattr(full, name)) == (False, True)


def test_gemma3_has_what_its_architecture_implies(tmp_path):
    model = tiny_model("gemma3", arch__block_count=7, arch__attention__key_length=4, arch__attention__sliding_window=16)
    description = described(model, tmp_path)
    assert description.sliding_window == 16
    assert description.sliding_layers == [True, True, True, True, True, False, True]
    assert description.embedding_scale == math.sqrt(8)
    assert description.attention_scale == 0.5
    assert (description.rope_theta, description.rope_local_theta) == (1_000_000.0, 10_000.0)
    assert description.activation == "gelu_tanh"
    assert description.post_norms
    assert description.norm_weight_offset == 0.0


def test_the_27b_gemma_scales_its_queries_by_hidden_size(tmp_path):
    model = tiny_model("gemma3", arch__block_count=62, arch__embedding_length=16, arch__attention__key_length=8)
    model.tensors = [float_tensor("token_embd.weight", 6, 16)]
    assert described(model, tmp_path).attention_scale == 0.5


def test_a_pattern_in_the_file_wins(tmp_path):
    every_second = tiny_model("gemma3", arch__attention__sliding_window=16, arch__attention__sliding_window_pattern=2)
    assert described(every_second, tmp_path).sliding_layers == [True, False]
    listed = tiny_model("gemma3", arch__attention__sliding_window=16, arch__attention__sliding_window_pattern=[False, True])
    assert described(listed, tmp_path).sliding_layers == [False, True]


def test_a_llama_file_with_a_window_slides_everywhere(tmp_path):
    description = described(tiny_model(arch__attention__sliding_window=16), tmp_path)
    assert (description.sliding_window, description.sliding_layers) == (16, [True, True])


def test_sizes_may_be_given_layer_by_layer(tmp_path):
    assert described(tiny_model(arch__attention__head_count_kv=[2, 2]), tmp_path).num_kv_heads == 2
    assert "the same number for every layer" in refused(tiny_model(arch__attention__head_count_kv=[2, 1]), tmp_path)


@pytest.mark.parametrize(
    ("fields", "scaling"),
    [
        ({}, RopeScaling()),
        ({"type": "none", "factor": 8.0}, RopeScaling()),
        ({"type": "linear", "factor": 8.0}, RopeScaling(kind="linear", factor=8.0)),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 32},
            RopeScaling(
                kind="yarn",
                factor=4.0,
                original_max_position_embeddings=32,
                attention_factor=1 + 0.1 * math.log(4),
            ),
        ),
        (
            {"type": "yarn", "factor": 4.0, "attn_factor": 0.5, "yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0},
            RopeScaling(
                kind="yarn",
                factor=4.0,
                original_max_position_embeddings=128,
                attention_factor=0.5 * (1 + 0.1 * math.log(4)),
                beta_fast=16.0,
                beta_slow=2.0,
            ),
        ),
    ],
)
def test_rope_scaling_is_read(tmp_path, fields, scaling):
    model = tiny_model(**{f"arch__rope__scaling__{name}": value for name, value in fields.items()})
    assert described(model, tmp_path).rope_scaling == scaling


def test_the_old_name_of_linear_scaling_is_read(tmp_path):
    assert described(tiny_model(arch__rope__scale_linear=2.0), tmp_path).rope_scaling == RopeScaling(
        kind="linear", factor=2.0
    )


@pytest.mark.parametrize(
    ("type_id", "dtype"),
    [(0, "float32"), (1, "float16"), (30, "bfloat16"), (8, "bfloat16")],
    ids=["F32", "F16", "BF16", "Q8_0"],
)
def test_the_dtype_is_that_of_the_matrices(tmp_path, type_id, dtype):
    model = tiny_model(arch__embedding_length=32)
    model.tensors = [Tensor("token_embd.weight", (32, 6), type_id, bytes(32 * 6 * 4)), float_tensor("output_norm.weight", 32)]
    assert described(model, tmp_path).weights_dtype == dtype


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_model("mamba"), "unknown architecture 'mamba'; this version knows llama, qwen2, qwen3, gemma3"),
        (tiny_model(general__architecture=None), "unknown architecture None"),
        (tiny_model(general__architecture=7), "expected a string in the field 'general.architecture', found 7"),
        (tiny_model(arch__block_count=None), "'llama.block_count', it is missing"),
        (tiny_model(arch__block_count=0), "expected a positive whole number in the field 'llama.block_count', found 0"),
        (tiny_model(arch__block_count="two"), "found 'two'"),
        (tiny_model(arch__attention__head_count=3), "3 attention heads cannot share 2 key-value heads"),
        (tiny_model(arch__attention__layer_norm_rms_epsilon=math.nan), "expected a finite number"),
        (tiny_model(arch__attention__value_length=4), "the size of a key head, 2"),
        (tiny_model(arch__attention__key_length=3), "needs an even head size, found 3"),
        (tiny_model(arch__rope__dimension_count=1), "'llama.rope.dimension_count'"),
        (tiny_model(arch__rope__scaling__type="longrope"), "none, linear or yarn"),
        (tiny_model(arch__expert_count=8), "mixture of experts"),
        (tiny_model(arch__attention__causal=False), "a decoder that looks back only"),
        (tiny_model(arch__attention__clamp_kqv=8.0), "'llama.attention.clamp_kqv', found 8.0"),
        (tiny_model(arch__embedding_length=16), "expected the shape (vocabulary, 16) for 'token_embd.weight', found (6, 8)"),
        (GgufBytes(tiny_model().metadata), "no tensor 'token_embd.weight'"),
        (
            tiny_model(arch__attention__sliding_window=4, arch__attention__sliding_window_pattern=[True]),
            "one attention kind for each of 2 layers, found 1",
        ),
        (GgufBytes(tiny_model().metadata, [Tensor("x", (256,), IQ2_XXS, bytes(66))]), "of type IQ2_XXS"),
    ],
)
def test_a_file_that_cannot_work_is_refused(tmp_path, model, message):
    assert message in refused(model, tmp_path)


def test_the_fake_model_needs_no_file():
    description = describe(ModelFiles(name="fake", file_format="fake", path=""))
    assert (description.architecture, description.vocab_size) == ("fake", 512)
