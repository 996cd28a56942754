"""Every architecture, option and kind of file gives the logits that transformers gives on the same weights."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.models.running import all_logits, load
from tests.unit.models.tiny_models import LINEAR, LLAMA3, VOCAB_SIZE, YARN, make_model, save_folder, save_gguf

FULL_AND_SLIDING = ["sliding_attention", "full_attention"]
GEMMA = {"head_dim": 16, "layer_types": FULL_AND_SLIDING, "sliding_window": 8, "query_pre_attn_scalar": 10}
GEMMA_IN_GGUF = GEMMA | {"query_pre_attn_scalar": 16}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama with attention bias": ("llama", {"attention_bias": True}),
    "llama with mlp bias": ("llama", {"mlp_bias": True}),
    "llama with its own head size": ("llama", {"head_dim": 16}),
    "llama with one head a group": ("llama", {"num_key_value_heads": 6}),
    "llama with one group": ("llama", {"num_key_value_heads": 1}),
    "llama linear": ("llama", {"rope_parameters": LINEAR}),
    "llama llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral sliding": ("mistral", {"sliding_window": 8}),
    "qwen2": ("qwen2", {}),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2 yarn": ("qwen2", {"rope_parameters": YARN}),
    "qwen2 sliding": ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "layer_types": FULL_AND_SLIDING}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3 tied": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3 with attention bias": ("qwen3", {"head_dim": 16, "attention_bias": True}),
    "qwen3 sliding": (
        "qwen3",
        {"head_dim": 16, "use_sliding_window": True, "sliding_window": 8, "layer_types": FULL_AND_SLIDING},
    ),
    "gemma3": ("gemma3", GEMMA_IN_GGUF),
    "gemma3 all full": ("gemma3", GEMMA_IN_GGUF | {"layer_types": ["full_attention"] * 2}),
    "gemma3 untied": ("gemma3", GEMMA_IN_GGUF | {"tie_word_embeddings": False}),
    "gemma3 softcap": ("gemma3", GEMMA_IN_GGUF | {"final_logit_softcapping": 5.0}),
}
FOLDER_ONLY_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama yarn untruncated": ("llama", {"rope_parameters": YARN | {"truncate": False, "beta_fast": 16.0}}),
    "llama yarn mscale": ("llama", {"rope_parameters": YARN | {"mscale": 0.7, "mscale_all_dim": 1.2}}),
    "llama yarn attention factor": ("llama", {"rope_parameters": YARN | {"attention_factor": 1.3}}),
    "gemma3 scalar": ("gemma3", GEMMA),
    "gemma3 with attention bias": ("gemma3", GEMMA | {"attention_bias": True}),
    "gemma3 linear": (
        "gemma3",
        GEMMA
        | {
            "rope_parameters": {
                "full_attention": LINEAR | {"rope_theta": 50000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 3000.0},
            }
        },
    ),
}


def _tokens(length: int) -> list[int]:
    return random.Random(length).choices(range(VOCAB_SIZE), k=length)


def _expected(model, tokens: list[int]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0]
    return logits


def _assert_same_logits(oracle, model, lengths: tuple[int, ...]) -> None:
    for length in lengths:
        tokens = _tokens(length)
        expected = _expected(oracle, tokens)
        assert torch.allclose(all_logits(model, tokens), expected, atol=2e-5, rtol=1e-5)
        assert expected.abs().max() > 1.0


@pytest.mark.parametrize("case", [*CASES, *FOLDER_ONLY_CASES])
def test_a_folder_gives_the_logits_of_transformers(case, tmp_path):
    architecture, options = (CASES | FOLDER_ONLY_CASES)[case]
    oracle = make_model(architecture, **options)
    _assert_same_logits(oracle, load(save_folder(oracle, str(tmp_path))), (1, 7, 150))


@pytest.mark.parametrize("case", CASES)
def test_a_gguf_file_gives_the_logits_of_transformers(case, tmp_path):
    architecture, options = CASES[case]
    oracle = make_model(architecture, **options)
    _assert_same_logits(oracle, load(save_gguf(oracle, architecture, str(tmp_path / "tiny.gguf"))), (1, 7, 150))


def test_a_folder_of_several_shards_gives_the_logits_of_transformers(tmp_path):
    oracle = make_model("llama")
    files = save_folder(oracle, str(tmp_path), max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    _assert_same_logits(oracle, load(files), (20,))


@pytest.mark.parametrize("chunk", [1, 3, 16])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_prompt_in_chunks_gives_the_logits_of_transformers(architecture, chunk, tmp_path):
    oracle = make_model(architecture, **(GEMMA if architecture == "gemma3" else {}))
    model = load(save_folder(oracle, str(tmp_path)))
    tokens = _tokens(40)
    assert torch.allclose(all_logits(model, tokens, chunk=chunk), _expected(oracle, tokens), atol=2e-5, rtol=1e-5)
