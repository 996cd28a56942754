"""Small packed files for tests: two arrays of known bytes under a key of one file."""

from __future__ import annotations

import os

import numpy as np

from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.file_identity import FileIdentity
from yeoul.model_files.packed_file import Bytes, PackedFile, PackedFileWriter, PackedKey, StoredWeight
from yeoul.model_files.packed_folder import PackedFolder

FILE = FileIdentity("/models/tiny.gguf", 7, 1000, 1_600_000_000_000_000_001, 1_600_000_000_000_000_002)
KEY = PackedKey(files=[FILE], shape="shape", dtype="bfloat16", rank=0, size=1, packing="packing")
NUM_BYTES = (1 << 20) + 777


def contents(seed: int = 1) -> dict[str, Bytes]:
    """A matrix of more than one chunk of the checksum, and a short vector behind it."""
    matrix = np.random.default_rng(seed).integers(0, 256, NUM_BYTES, dtype=np.uint8)
    return {"matrix": matrix, "vector": np.arange(100, dtype=np.uint8)}


def fill(writer: PackedFileWriter, seed: int = 1) -> None:
    for name, content in contents(seed).items():
        array = writer.put("uint8", [len(content)], content)
        writer.weights[name] = StoredWeight([array, None], [4, 32])


def write_file(path: str | os.PathLike[str], seed: int = 1) -> None:
    """A whole file outside any folder."""
    with open(path, "wb") as file:
        writer = PackedFileWriter(file)
        fill(writer, seed)
        writer.finish("tiny", KEY)


def opened(path: str | os.PathLike[str], key: PackedKey = KEY) -> PackedFile:
    """A file that is of the key."""
    file = PackedFile.open(str(path), key)
    assert file is not None
    return file


def folder_at(path: str | os.PathLike[str]) -> PackedFolder:
    return PackedFolder(CacheFolder(str(path)))


def store(folder: PackedFolder, key: PackedKey = KEY, model: str = "tiny", seed: int = 1) -> str:
    """Stores a sample; its path."""
    with folder.write(model, key) as writer:
        fill(writer, seed)
    return folder.path_of(key)
