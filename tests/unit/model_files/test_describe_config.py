"""What a Hugging Face folder's config.json says about a model's shape; the configuration classes of transformers are the
oracle, for files that they write and for files as they stand on the hub.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.unit.model_files.safetensors_bytes import write_json, write_weights
from yeoul.errors import ModelFileError
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelDescription, ModelFiles, RopeScaling

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
    "max_position_embeddings": 256,
}
CLASSES: dict[str, tuple[str, Any]] = {
    "llama": ("LlamaForCausalLM", transformers.LlamaConfig),
    "mistral": ("MistralForCausalLM", transformers.MistralConfig),
    "qwen2": ("Qwen2ForCausalLM", transformers.Qwen2Config),
    "qwen3": ("Qwen3ForCausalLM", transformers.Qwen3Config),
    "gemma3": ("Gemma3ForCausalLM", transformers.Gemma3TextConfig),
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 16.0,
    "attention_factor": 1.2,
}


def described(folder: Path) -> ModelDescription:
    return describe(ModelFiles(name="tiny", file_format="safetensors", path=str(folder)))


def refused(folder: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        described(folder)
    return caught.value.message


def write_folder(folder: Path, **config: Any) -> Path:
    """A folder with a config as it stands on the hub: only what is given, in the spelling of transformers 4."""
    write_weights(folder, {"model.embed_tokens.weight": (4, 4)})
    write_json(folder / "config.json", {name: value for name, value in (SMALL | config).items() if value != "absent"})
    return folder


def check_against(oracle: Any, description: ModelDescription) -> None:
    """Every field that the oracle has under some name."""
    same_names = ("hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings", "rms_norm_eps")
    for name in (*same_names, "tie_word_embeddings"):
        assert getattr(description, name) == getattr(oracle, name), name
    assert description.num_layers == oracle.num_hidden_layers
    assert description.num_heads == oracle.num_attention_heads
    assert description.num_kv_heads == oracle.num_key_value_heads
    assert description.head_dim == getattr(oracle, "head_dim", None) or oracle.hidden_size // oracle.num_attention_heads
    rope = oracle.rope_parameters
    full = rope.get("full_attention", rope)
    assert description.rope_theta == full["rope_theta"]
    assert description.rope_scaling.kind == full["rope_type"].replace("default", "none")
    for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "attention_factor"):
        if full["rope_type"] != "default" and name in full:
            assert getattr(description.rope_scaling, name) == full[name]
    if "sliding_attention" in rope:
        assert description.rope_local_theta == rope["sliding_attention"]["rope_theta"]
    check_window(oracle, description)


def check_window(oracle: Any, description: ModelDescription) -> None:
    window = getattr(oracle, "sliding_window", None) or 0
    kinds = getattr(oracle, "layer_types", None) or ["sliding_attention"] * oracle.num_hidden_layers
    slides = [kind == "sliding_attention" and window > 0 for kind in kinds]
    assert description.sliding_window == (window if any(slides) else 0)
    assert description.sliding_layers == (slides if any(slides) else [])


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
        ("llama", {"rope_parameters": LLAMA3 | {"rope_theta": 500000.0}}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}),
        ("mistral", {}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 16}),
        ("qwen2", {}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
        ("qwen2", {"rope_parameters": YARN | {"rope_theta": 1000000.0}}),
        ("qwen3", {"attention_bias": True}),
        ("gemma3", {}),
        ("gemma3", {"sliding_window": 16, "query_pre_attn_scalar": 64, "final_logit_softcapping": 30.0}),
        ("gemma3", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
    ],
)
def test_a_config_that_transformers_writes_is_understood(tmp_path, architecture, options):
    name, config_class = CLASSES[architecture]
    config = config_class(**SMALL, **options, architectures=[name], dtype="bfloat16")
    config.save_pretrained(tmp_path)
    write_weights(tmp_path, {"model.embed_tokens.weight": (4, 4)})
    description = described(tmp_path)
    assert description.architecture == architecture
    assert description.weights_dtype == "bfloat16"
    check_against(config, description)
    assert description.attention_bias == (architecture == "qwen2" or options.get("attention_bias", False))
    assert description.attention_output_bias == options.get("attention_bias", False)
    assert description.mlp_bias == options.get("mlp_bias", False)
    assert description.qk_norm == (architecture in ("qwen3", "gemma3"))


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("llama", {"rope_theta": 500000.0, "rope_scaling": LLAMA3, "head_dim": "absent", "torch_dtype": "bfloat16"}),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}, "num_key_value_heads": "absent"}),
        ("llama", {"rope_scaling": None, "max_position_embeddings": "absent", "rms_norm_eps": 1e-5}),
        ("mistral", {"sliding_window": None, "rope_theta": 1000000.0}),
        ("mistral", {}),
        ("qwen2", {"sliding_window": 131072, "use_sliding_window": False, "head_dim": "absent", "max_window_layers": 21}),
        ("qwen3", {"head_dim": "absent", "rope_theta": 1000000}),
        ("gemma3", {"head_dim": "absent", "num_attention_heads": 8, "sliding_window": 512, "sliding_window_pattern": 2}),
        ("gemma3", {"rope_local_base_freq": 5000.0, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}),
    ],
)
def test_a_config_as_it_stands_on_the_hub_is_understood(tmp_path, architecture, config):
    name, config_class = CLASSES[architecture]
    folder = write_folder(tmp_path, architectures=[name], model_type=config_class.model_type, **config)
    check_against(config_class.from_pretrained(folder), described(folder))


def test_the_text_part_of_a_model_with_images_is_described(tmp_path):
    text = {
        "hidden_size": 64,
        "num_hidden_layers": 7,
        "sliding_window": 16,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }
    write_weights(tmp_path, {"language_model.model.embed_tokens.weight": (4, 4)})
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    write_json(tmp_path / "config.json", config | {"torch_dtype": "bfloat16"})
    description = described(tmp_path)
    oracle: Any = transformers.Gemma3Config.from_pretrained(tmp_path).text_config
    check_against(oracle, description)
    assert description.attention_scale == oracle.query_pre_attn_scalar**-0.5
    assert description.embedding_scale == 8.0
    assert description.norm_weight_offset == 1.0
    assert description.weights_dtype == "bfloat16"


def test_yarn_stretches_the_context(tmp_path):
    folder = write_folder(tmp_path, architectures=["Qwen2ForCausalLM"], rope_scaling=YARN | {"factor": 16.0})
    assert described(folder).max_position_embeddings == 1024
    assert described(folder).rope_scaling == RopeScaling(
        kind="yarn", factor=16.0, original_max_position_embeddings=64, beta_fast=16.0, attention_factor=1.2
    )


def test_a_dynamic_base_is_none_as_far_as_the_positions_reach(tmp_path):
    folder = write_folder(
        tmp_path,
        architectures=["LlamaForCausalLM"],
        max_position_embeddings=64,
        rope_scaling={"rope_type": "dynamic", "factor": 2.0},
    )
    assert (described(folder).rope_scaling, described(folder).max_position_embeddings) == (RopeScaling(), 64)


def test_the_dtype_of_the_weights_counts_where_the_config_is_silent(tmp_path):
    assert described(write_folder(tmp_path, architectures=["LlamaForCausalLM"])).weights_dtype == "float32"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "unknown architecture GPT2LMHeadModel; this version knows LlamaForCausalLM"),
        ({}, "unknown architecture None"),
        ({"architectures": "LlamaForCausalLM"}, "expected a list of str in the field 'architectures'"),
        ({"hidden_size": "absent"}, "'hidden_size', it is missing"),
        ({"num_attention_heads": -4}, "expected a positive whole number in the field 'num_attention_heads', found -4"),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3 key-value heads"),
        ({"head_dim": 15}, "needs an even head size"),
        ({"rms_norm_eps": 0}, "a number above 0"),
        ({"hidden_act": "relu"}, "expected one of silu"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "'longrope' is not supported; expected default, linear"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'factor', it is missing"),
        ({"rope_scaling": [1]}, "expected an object in the field 'rope_scaling'"),
        ({"partial_rotary_factor": 0.5}, "rotating a part of a head is not supported"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised folders are not supported"),
        ({"architectures": ["Gemma3ForCausalLM"], "layer_types": ["full_attention"]}, "3 entries of sliding_attention"),
        ({"architectures": ["Gemma3ForCausalLM"], "use_bidirectional_attention": True}, "a decoder that looks back only"),
        ({"is_causal": False}, "a decoder that looks back only"),
    ],
)
def test_a_config_that_cannot_work_is_refused(tmp_path, config, message):
    base = {} if config == {} else {"architectures": ["LlamaForCausalLM"]}
    assert message in refused(write_folder(tmp_path, **base | config))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"a": NaN}', b"\xff\xfe", b'{"a":' + b"[" * 9999])
def test_a_config_that_is_no_json_object_is_refused(tmp_path, raw):
    (tmp_path / "config.json").write_bytes(raw)
    assert "is not a JSON object" in refused(tmp_path)


def test_a_folder_that_is_no_model_says_what_was_expected(tmp_path):
    assert "has no config.json" in refused(tmp_path)
    assert "is not a model folder" in refused(tmp_path / "missing")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    assert "holds no weights" in refused(tmp_path)
