"""The two kinds of model file, seen through Hugging Face's names; knows nothing of layers or of decoding.

Used by ``models.loading``. GGUF's names are those of llama.cpp's converter (gguf-py, ``tensor_mapping.py``).
"""

from __future__ import annotations

from yeoul.errors import ModelFileError
from yeoul.model_files.description import ModelDescription
from yeoul.model_files.gguf import GgufFile
from yeoul.model_files.safetensors_folder import map_tensors
from yeoul.models.weights import StoredTensor

_GGUF_TOP_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "rope_freqs": "rope_freqs",
}
_GGUF_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
}
_GGUF_POST_NORM_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_SAFETENSORS_TYPES = {"F32", "F16", "BF16"}
_TEXT_PREFIXES = ("model.", "language_model.model.", "model.language_model.")
_EMBEDDING = "embed_tokens.weight"
_HEAD_NAMES = ("lm_head.weight", "language_model.lm_head.weight")


class GgufTensors:
    """A GGUF file. Llama's query and key rows come interleaved from llama.cpp's converter, other architectures' do not."""

    def __init__(self, path: str, description: ModelDescription) -> None:
        self.path = path
        self._tensors = GgufFile.open(path).tensors
        self._layer_names = _GGUF_LAYER_NAMES | (_GGUF_POST_NORM_NAMES if description.post_norms else {})
        self._interleaved_head_dim = description.head_dim if description.architecture in ("llama", "mistral") else 0

    def stored_name(self, name: str) -> str:
        """``model.layers.3.mlp.up_proj.weight`` is ``blk.3.ffn_up.weight`` here; an unknown name is left as it is."""
        stem, _, kind = name.rpartition(".")
        if stem in _GGUF_TOP_NAMES:
            return f"{_GGUF_TOP_NAMES[stem]}.{kind}"
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        return f"blk.{layer}.{self._layer_names[part]}.{kind}" if part in self._layer_names else name

    def find(self, name: str) -> StoredTensor | None:
        """The tensor, or None where the file has none of that meaning."""
        stored_name = self.stored_name(name)
        tensor = self._tensors.get(stored_name)
        if tensor is None:
            return None
        is_rotated = ".attn_q." in stored_name or ".attn_k." in stored_name
        interleaved = self._interleaved_head_dim if is_rotated else 0
        return StoredTensor(stored_name, tensor.shape, tensor.type_name, tensor.data(), interleaved)


class SafetensorsTensors:
    """A Hugging Face folder; a model that also sees images keeps its text model under another prefix."""

    def __init__(self, path: str, *, is_tied: bool = False) -> None:
        self.path = path
        names = self._tensors = map_tensors(path)
        prefixes = [prefix for prefix in _TEXT_PREFIXES if {f"{prefix}{_EMBEDDING}", f"{prefix}norm.weight"} & names.keys()]
        self._prefix = prefixes[0] if prefixes else _TEXT_PREFIXES[0]
        self._head_name = next((name for name in _HEAD_NAMES if name in names), _HEAD_NAMES[0])
        # Of a matrix with two names a safetensors file keeps one, and not always the embedding's.
        self._embedding_name = self._prefix + _EMBEDDING
        if is_tied and self._embedding_name not in names and self._head_name in names:
            self._embedding_name = self._head_name

    def stored_name(self, name: str) -> str:
        """``model.`` becomes the folder's own prefix."""
        if name == f"model.{_EMBEDDING}":
            return self._embedding_name
        if name.startswith("model."):
            return self._prefix + name.removeprefix("model.")
        return self._head_name if name == _HEAD_NAMES[0] else name

    def find(self, name: str) -> StoredTensor | None:
        """The tensor, or None where the folder has none of that meaning; a type that is no float is a ModelFileError."""
        stored_name = self.stored_name(name)
        tensor = self._tensors.get(stored_name)
        if tensor is None:
            return None
        if tensor.type_name not in _SAFETENSORS_TYPES:
            raise ModelFileError(
                f"{tensor.file}: tensor {stored_name!r} is of type {tensor.type_name}; "
                f"expected one of {', '.join(sorted(_SAFETENSORS_TYPES))}"
            )
        return StoredTensor(stored_name, tensor.shape, tensor.type_name, tensor.data())
