"""Whatever stands in a folder's JSON files, reading them ends in a result or in a ModelFileError."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import little_time
from tests.unit.model_files.safetensors_bytes import write_json, write_weights
from yeoul.errors import ModelFileError
from yeoul.model_files.describe_config import describe_folder
from yeoul.model_files.tokenizer_folder import answers_of_folder, source_from_folder

ROPE = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64, "rope_theta": 1e4, "beta_fast": 32}
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 100,
    "max_position_embeddings": 256,
    "sliding_window": 16,
    "use_sliding_window": True,
    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    "rope_scaling": ROPE,
    "rope_parameters": None,
    "rope_theta": 1e6,
    "text_config": None,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "eos_token_id": [1, 2],
}
TOKENIZER_CONFIG: dict[str, Any] = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>"},
    "chat_template": [{"name": "default", "template": "x"}],
    "add_bos_token": True,
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.sampled_from([0, 1, 1 << 31, 1e308, 1e-308, -1.0, 0.5]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "yarn", "linear", "llama3", "full_attention", "Gemma3ForCausalLM", "LlamaForCausalLM"]),
    st.text(max_size=5),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*CONFIG, *ROPE, "content", "full_attention"]), inner, max_size=3),
    ),
    max_leaves=6,
)


def changed(whole: dict[str, Any], changes: dict[str, Any], rope_changes: dict[str, Any]) -> dict[str, Any]:
    rope = ROPE | rope_changes
    return whole | ({"rope_scaling": rope} if "rope_scaling" in whole else {}) | changes


@given(
    st.sampled_from(["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM"]),
    st.dictionaries(st.sampled_from(sorted(CONFIG)), values, max_size=3),
    st.dictionaries(st.sampled_from(sorted(ROPE)), values, max_size=2),
)
@settings(max_examples=200)
@little_time(2)
def test_a_config_of_any_values_is_described_or_refused(architecture, changes, rope_changes):
    with tempfile.TemporaryDirectory() as folder:
        write_weights(Path(folder), {"model.embed_tokens.weight": (1, 1)})
        write_json(Path(folder) / "config.json", changed(CONFIG | {"architectures": [architecture]}, changes, rope_changes))
        with contextlib.suppress(ModelFileError):
            description = describe_folder(folder)
            assert description.head_dim % 2 == 0
            assert description.num_heads % description.num_kv_heads == 0
            assert len(description.sliding_layers) in (0, description.num_layers)
            assert msgspec.convert(msgspec.to_builtins(description), type(description)) == description


token_ids = st.one_of(values, st.integers(-2, 9), st.lists(st.integers(-1, 9), max_size=3))


@given(st.dictionaries(st.sampled_from(sorted(TOKENIZER_CONFIG)), values, max_size=1), values, token_ids)
@settings(max_examples=100)
@little_time(2)
def test_tokenizer_files_of_any_values_are_read_or_refused(changes, tokenizer, generation):
    with tempfile.TemporaryDirectory() as folder:
        write_json(
            Path(folder) / "tokenizer.json", {"added_tokens": [], "padding": tokenizer, "model": {"vocab": {"<s>": 0}}}
        )
        write_json(Path(folder) / "tokenizer_config.json", TOKENIZER_CONFIG | changes)
        write_json(Path(folder) / "generation_config.json", {"eos_token_id": generation, "temperature": generation})
        with contextlib.suppress(ModelFileError):
            source = source_from_folder(folder)
            assert all(isinstance(token_id, int) and token_id >= 0 for token_id in source.eos_token_ids)
        with contextlib.suppress(ModelFileError):
            answers_of_folder(folder)
