"""Writes small GGUF files byte by byte, right ones and wrong ones; knows nothing of the reader that the tests put to it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 5, 6, 7, 8, 9, 10
F32, F16, Q4_0, Q8_0, IQ2_XXS = 0, 1, 2, 8, 16


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def typed(value: object) -> bytes:
    """A value with its type in front, of the type that files usually have for it."""
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<IQ", UINT64, value) if value >= 1 << 32 else struct.pack("<II", UINT32, value)
        case float():
            return struct.pack("<If", FLOAT32, value)
        case str() | bytes():
            return struct.pack("<I", STRING) + text(value)
        case list():
            return struct.pack("<I", ARRAY) + array(value)
    raise TypeError(type(value))


def array(values: Sequence[object]) -> bytes:
    first = values[0] if values else 0
    match first:
        case bool():
            return struct.pack(f"<IQ{len(values)}?", BOOL, len(values), *values)
        case int():
            return struct.pack(f"<IQ{len(values)}i", INT32, len(values), *values)
        case float():
            return struct.pack(f"<IQ{len(values)}f", FLOAT32, len(values), *values)
    return struct.pack("<IQ", STRING, len(values)) + b"".join(text(value) for value in values)  # type: ignore[arg-type]


@dataclass
class Tensor:
    """``dimensions`` in the file's order: the fastest first."""

    name: str
    dimensions: tuple[int, ...]
    type_id: int = F32
    data: bytes = b""
    offset: int | None = None


@dataclass
class GgufBytes:
    """A file in the making; every field may be made wrong before ``build``."""

    metadata: Mapping[str, object] = field(default_factory=dict)
    tensors: Sequence[Tensor] = ()
    magic: bytes = b"GGUF"
    version: int = 3
    num_tensors: int | None = None
    num_entries: int | None = None
    alignment: int = 32
    raw_entries: bytes = b""

    def build(self) -> bytes:
        num_tensors = len(self.tensors) if self.num_tensors is None else self.num_tensors
        num_entries = len(self.metadata) if self.num_entries is None else self.num_entries
        header = self.magic + struct.pack("<IQQ", self.version, num_tensors, num_entries)
        header += b"".join(text(key) + typed(value) for key, value in self.metadata.items()) + self.raw_entries
        body = b""
        for tensor in self.tensors:
            offset = len(body) if tensor.offset is None else tensor.offset
            header += text(tensor.name) + struct.pack(
                f"<I{len(tensor.dimensions)}Q", len(tensor.dimensions), *tensor.dimensions
            )
            header += struct.pack("<IQ", tensor.type_id, offset)
            body += tensor.data + bytes(-len(tensor.data) % self.alignment)
        return header + bytes(-len(header) % self.alignment) + body

    def write(self, folder: Path, name: str = "model.gguf") -> str:
        path = folder / name
        path.write_bytes(self.build())
        return str(path)


def float_tensor(name: str, *shape: int) -> Tensor:
    """A float32 tensor of 0, 1, 2, ...; ``shape`` in torch's order."""
    values = np.arange(np.prod(shape), dtype="<f4")
    return Tensor(name, tuple(reversed(shape)), F32, values.tobytes())


def tiny_model(architecture: str = "llama", **changes: object) -> GgufBytes:
    """A whole tiny model: every field that describing and tokenising need; a change of None takes a field away.

    In the names of fields that are changed, ``__`` stands for a dot, and ``arch`` for the architecture.
    """
    fields: dict[str, object] = {
        "general.architecture": architecture,
        f"{architecture}.block_count": 2,
        f"{architecture}.context_length": 128,
        f"{architecture}.embedding_length": 8,
        f"{architecture}.feed_forward_length": 16,
        f"{architecture}.attention.head_count": 4,
        f"{architecture}.attention.head_count_kv": 2,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"],
        "tokenizer.ggml.token_type": [3, 3, 3, 1, 1, 1],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    for name, value in changes.items():
        fields[name.replace("__", ".").replace("arch.", f"{architecture}.")] = value
    kept = {name: value for name, value in fields.items() if value is not None}
    return GgufBytes(kept, [float_tensor("token_embd.weight", 6, 8), float_tensor("output_norm.weight", 8)])
