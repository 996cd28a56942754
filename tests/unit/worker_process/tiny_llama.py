"""A tiny Llama of random weights in a Hugging Face folder, its worker, and the answers that it gives without any cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.unit.worker_process.fake_worker import fake_settings
from yeoul.config.parts import WorkerSettings
from yeoul.config.settings import CacheSettings, ModelSettings
from yeoul.layers.attention_metadata import AttentionMetadata
from yeoul.layers.parallel import TensorParallel
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.models.decoder import Decoder
from yeoul.models.loading import load_model
from yeoul.worker_process.worker import Worker

VOCAB_SIZE = 96
HIDDEN, INNER, NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS, HEAD_DIM = 48, 80, 2, 6, 2, 8
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": NUM_HEADS,
    "num_key_value_heads": NUM_KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}


def write_tiny_llama(folder: Path) -> ModelFiles:
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * (0.4 if len(shape) == 2 else 0.1) + (len(shape) == 1)

    tensors = {"model.embed_tokens.weight": random(VOCAB_SIZE, HIDDEN), "model.norm.weight": random(HIDDEN)}
    for layer in range(NUM_LAYERS):
        prefix = f"model.layers.{layer}"
        tensors |= {
            f"{prefix}.input_layernorm.weight": random(HIDDEN),
            f"{prefix}.post_attention_layernorm.weight": random(HIDDEN),
            f"{prefix}.self_attn.q_proj.weight": random(NUM_HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}.self_attn.k_proj.weight": random(NUM_KV_HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}.self_attn.v_proj.weight": random(NUM_KV_HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": random(HIDDEN, NUM_HEADS * HEAD_DIM),
            f"{prefix}.mlp.gate_proj.weight": random(INNER, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": random(INNER, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": random(HIDDEN, INNER),
        }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return ModelFiles(name="tiny", file_format="safetensors", path=str(folder))


def tiny_settings(files: ModelFiles, **changes: Any) -> WorkerSettings:
    """A block has 4 tokens in float32, and 16 in types whose caches on a CPU consist of groups of 16."""
    in_float32 = "model" not in changes or changes["model"].dtype == "float32"
    settings = {
        "files": files,
        "description": describe(files),
        "model": ModelSettings(model=files.path, dtype="float32", device="cpu"),
        "cache": CacheSettings(block_size=4 if in_float32 else 16),
    }
    return fake_settings(**(settings | changes))


def tiny_worker(files: ModelFiles, num_blocks: int = 256, **changes: Any) -> Worker:
    worker = Worker(tiny_settings(files, **changes))
    worker.load()
    worker.allocate_cache(num_blocks)
    return worker


class WithoutCache:
    """The same model, run over the whole context at once in a cache of one block: no chunks, no blocks, no crowd."""

    def __init__(self, files: ModelFiles) -> None:
        self.model: Decoder = load_model(
            files, describe(files), dtype=torch.float32, device=torch.device("cpu"), parallel=TensorParallel()
        )

    def hidden_states(self, token_ids: list[int]) -> Tensor:
        """``[num_tokens, hidden_size]``."""
        length = len(token_ids)
        metadata = AttentionMetadata(
            query_start=torch.tensor([0, length], dtype=torch.int32),
            context_lengths=torch.tensor([length], dtype=torch.int32),
            block_tables=torch.tensor([[0]], dtype=torch.int32),
            slot_mapping=torch.arange(length),
            max_context_length=length,
        )
        caches = [torch.zeros(2, 1, NUM_KV_HEADS, 512, HEAD_DIM) for _ in range(NUM_LAYERS)]
        return self.model.forward(torch.tensor(token_ids), torch.arange(length), metadata, caches)

    def logits(self, token_ids: list[int]) -> Tensor:
        """``[num_tokens, vocab_size]``."""
        return self.model.compute_logits(self.hidden_states(token_ids))

    def greedy_tokens(self, prompt: list[int], num_tokens: int) -> list[int]:
        """The likeliest continuation."""
        tokens = list(prompt)
        for _ in range(num_tokens):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[len(prompt) :]
