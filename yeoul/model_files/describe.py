"""describe(): a model's shape from its files, whichever kind they are; knows nothing of torch, tokenizers or processes.

The web process calls it before anything is started, so that a file that cannot work is refused at once.
"""

from __future__ import annotations

from typing import assert_never

from yeoul.model_files.describe_config import describe_folder
from yeoul.model_files.describe_gguf import describe_gguf
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.model_files.tokenizer_source import FAKE_VOCAB_SIZE

FAKE_MAX_POSITION_EMBEDDINGS = 8192


def describe(files: ModelFiles) -> ModelDescription:
    """Reads headers and config only. Raises ModelFileError for what is missing, damaged or of an unknown architecture."""
    match files.file_format:
        case "gguf":
            return describe_gguf(files.path)
        case "safetensors":
            return describe_folder(files.path)
        case "fake":
            return fake_description()
        case _:
            assert_never(files.file_format)


def fake_description() -> ModelDescription:
    """The model ``fake``: layers for any pipeline of up to 8 stages, and heads that up to 8 ranks can share."""
    return ModelDescription(
        architecture="fake",
        file_format="fake",
        num_layers=8,
        hidden_size=64,
        intermediate_size=64,
        num_heads=8,
        num_kv_heads=8,
        head_dim=8,
        vocab_size=FAKE_VOCAB_SIZE,
        max_position_embeddings=FAKE_MAX_POSITION_EMBEDDINGS,
        rms_norm_eps=1e-6,
        attention_scale=8**-0.5,
        rope_theta=10000.0,
        weights_dtype="float32",
    )
