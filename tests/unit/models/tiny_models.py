"""Tiny random models, made by transformers and written as a Hugging Face folder or as a GGUF file; the tests' input."""

from __future__ import annotations

import gguf
import numpy as np
import torch
import transformers

from yeoul.model_files.description import ModelFiles

VOCAB_SIZE = 96
SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "attn_implementation": "eager",
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 10000.0,
}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}


def make_model(architecture: str, **options):
    """A model of random weights in float32, whose norms and biases are random too."""
    torch.manual_seed(11)
    config_class = {
        "llama": transformers.LlamaConfig,
        "mistral": transformers.MistralConfig,
        "qwen2": transformers.Qwen2Config,
        "qwen3": transformers.Qwen3Config,
        "gemma3": transformers.Gemma3TextConfig,
    }[architecture]
    config = config_class(**(SHAPE | options))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            else:
                parameter.copy_(torch.randn_like(parameter) * (0.5 if "embed" in name else 0.15))
    return model


def save_folder(model, path: str, *, max_shard_size: str = "50GB") -> ModelFiles:
    model.save_pretrained(path, max_shard_size=max_shard_size)
    return ModelFiles(name="tiny", file_format="safetensors", path=path)


def save_gguf(model, architecture: str, path: str, type_name: str = "F32") -> ModelFiles:
    """Write a model as llama.cpp's converter does: its names, Llama's rotated rows interleaved, Gemma's norms plus 1."""
    config = model.config
    gguf_name = "llama" if architecture == "mistral" else architecture
    writer = gguf.GGUFWriter(path, gguf_name)
    _write_metadata(writer, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[gguf_name.upper()], config.num_hidden_layers)
    for name, parameter in _stored(model, architecture).items():
        stored_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored_name is not None, name
        quantization = gguf.GGMLQuantizationType[type_name if parameter.ndim > 1 else "F32"]
        writer.add_tensor(stored_name, gguf.quants.quantize(parameter, quantization), raw_dtype=quantization)
    if config.rope_parameters.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", _llama3_divisors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelFiles(name="tiny", file_format="gguf", path=path)


def _stored(model, architecture: str) -> dict[str, np.ndarray]:
    config = model.config
    stored = {}
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = parameter.numpy()
        if architecture in ("llama", "mistral") and ("q_proj" in name or "k_proj" in name):
            num_heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            halves = values.reshape(num_heads, 2, values.shape[0] // num_heads // 2, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        if architecture == "gemma3" and "norm" in name:
            values = values + 1
        stored[name] = np.ascontiguousarray(values)
    return stored


def _write_metadata(writer: gguf.GGUFWriter, config) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if any(kind == "sliding_attention" for kind in getattr(config, "layer_types", None) or []):
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
    elif config.model_type == "mistral" and config.sliding_window:
        writer.add_sliding_window(config.sliding_window)
    if getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _llama3_divisors(config) -> np.ndarray:
    """What llama.cpp's converter writes for this scaling: the plain frequencies over the scaled ones."""
    scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = 1.0 / config.rope_parameters["rope_theta"] ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    divisors: np.ndarray = (plain / scaled).numpy()
    return divisors
