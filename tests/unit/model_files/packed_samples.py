"""Small packed files for tests: two arrays of known bytes under a key of one file."""

from __future__ import annotations

import os

import numpy as np

from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.file_identity import FileIdentity
from yeoul.model_files.packed_file import PackedHeader, PackedKey, StoredArray, StoredWeight
from yeoul.model_files.packed_folder import PackedFolder

FILE = FileIdentity("/models/tiny.gguf", 7, 1000, 1_600_000_000_000_000_001, 1_600_000_000_000_000_002)
KEY = PackedKey(files=[FILE], shape="shape", dtype="bfloat16", rank=0, size=1, packing="packing")
NUM_BYTES = (1 << 20) + 777


def sample(
    key: PackedKey = KEY, model: str = "tiny", seed: int = 1
) -> tuple[PackedHeader, list[tuple[StoredArray, memoryview]]]:
    """A header and contents: a matrix of more than one chunk of the checksum, and a short vector behind it."""
    matrix = np.random.default_rng(seed).integers(0, 256, NUM_BYTES, dtype=np.uint8)
    vector = np.arange(100, dtype=np.uint8)
    start = -(-NUM_BYTES // 64) * 64
    arrays = [StoredArray("uint8", [NUM_BYTES], 0, NUM_BYTES), StoredArray("uint8", [100], start, 100)]
    weights = {"matrix": StoredWeight([arrays[0], None, None], [4, 32]), "vector": StoredWeight([arrays[1]])}
    header = PackedHeader(model=model, key=key, weights=weights, num_data_bytes=start + 100)
    return header, [(arrays[0], matrix.data), (arrays[1], vector.data)]


def folder_at(path: str | os.PathLike[str], wait_seconds: float = 5.0) -> PackedFolder:
    return PackedFolder(CacheFolder(str(path)), wait_seconds)


def store(folder: PackedFolder, key: PackedKey = KEY, model: str = "tiny", seed: int = 1) -> str:
    """Stores a sample; its path."""
    with folder.packing(key):
        folder.store(*sample(key, model, seed))
    return folder.path_of(key)
