"""Models and memory that cannot work: ``yeoul serve`` says why in its last line, ends with 2, and shows no traceback."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.running_server import RunningServer

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}
TENSORS = {
    "model.embed_tokens.weight": (64, 16),
    "model.norm.weight": (16,),
    "model.layers.0.input_layernorm.weight": (16,),
    "model.layers.0.post_attention_layernorm.weight": (16,),
    "model.layers.0.self_attn.q_proj.weight": (16, 16),
    "model.layers.0.self_attn.k_proj.weight": (8, 16),
    "model.layers.0.self_attn.v_proj.weight": (8, 16),
    "model.layers.0.self_attn.o_proj.weight": (16, 16),
    "model.layers.0.mlp.gate_proj.weight": (32, 16),
    "model.layers.0.mlp.up_proj.weight": (32, 16),
    "model.layers.0.mlp.down_proj.weight": (16, 32),
}


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder that works: a tiny Llama with a tokenizer of characters."""
    (tmp_path / "config.json").write_text(json.dumps(TINY_LLAMA))
    tokenizer = Tokenizer(models.BPE(vocab={chr(33 + number): number for number in range(64)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chance = np.random.default_rng(1)
    weights = {name: chance.normal(0, 0.1, shape).astype(np.float32) for name, shape in TENSORS.items()}
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path


def gguf_file(path, architecture):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_tensor("token_embd.weight", np.zeros((64, 16), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def refusal(model, *arguments):
    """The last line of a start that must fail, after checking how it failed."""
    with RunningServer(*arguments, model=str(model), wait=False) as server:
        assert server.wait_exit(60.0) == 2, server.log()
        assert "Traceback" not in server.log()
        return server.log().strip().splitlines()[-1]


def test_the_folder_itself_works(folder):
    with RunningServer(model=str(folder)) as server:
        assert server.metrics()["yeoul:num_requests_running"] == 0


def test_a_missing_tensor_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors")
    assert "model.layers.0.mlp.up_proj.weight" in refusal(folder)


def test_a_tensor_of_another_shape_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] = np.zeros((31, 16), np.float32)
    save_file(weights, folder / "model.safetensors")
    assert "model.layers.0.mlp.up_proj.weight" in refusal(folder)


def test_a_truncated_safetensors_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "model.safetensors" in refusal(folder)


def test_a_truncated_gguf_file_is_named(tmp_path):
    path = gguf_file(tmp_path / "short.gguf", "llama")
    path.write_bytes(path.read_bytes()[:-100])
    assert "short.gguf" in refusal(path)


def test_a_gguf_file_of_an_unknown_architecture_names_those_that_are_known(tmp_path):
    line = refusal(gguf_file(tmp_path / "odd.gguf", "oddity"))
    assert "oddity" in line
    assert "llama" in line


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "text.gguf"
    path.write_text("this is no model")
    assert "text.gguf" in refusal(path)


def test_an_unknown_architecture_in_a_folder_is_named(folder):
    (folder / "config.json").write_text(json.dumps(TINY_LLAMA | {"architectures": ["OddForCausalLM"], "model_type": "odd"}))
    assert "OddForCausalLM" in refusal(folder)


def test_too_little_memory_for_the_cache_says_what_to_set(folder):
    assert "--kv-cache-memory-bytes" in refusal(folder, "--kv-cache-memory-bytes", "1000")


def test_more_memory_for_the_cache_than_there_is_says_what_to_set(folder):
    assert "--kv-cache-memory-bytes" in refusal(folder, "--kv-cache-memory-bytes", "900TiB")


def test_a_tensor_parallel_size_that_cannot_work_names_those_that_can(folder):
    line = refusal(folder, "--tensor-parallel-size", "3")
    assert "3" in line
    assert "2" in line


def test_a_context_longer_than_the_model_was_trained_for_is_refused(folder):
    assert "128" in refusal(folder, "--max-model-len", "100000")
