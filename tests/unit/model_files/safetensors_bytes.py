"""Writes small Hugging Face folders, right ones and wrong ones; knows nothing of the readers that the tests put to them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def write_weights(folder: Path, *shards: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """One model.safetensors, or several shards with their index; the values of each tensor are told back."""
    random = np.random.default_rng(0)
    tensors = {name: random.standard_normal(shape, dtype=np.float32) for shard in shards for name, shape in shard.items()}
    if len(shards) == 1:
        save_file(tensors, folder / "model.safetensors")
        return tensors
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({name: tensors[name] for name in shard}, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": weight_map})
    return tensors


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def raw_file(header: object, data: bytes = b"", *, claimed: int | None = None) -> bytes:
    """A .safetensors file with any header, also a wrong one."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if claimed is None else claimed) + encoded + data
