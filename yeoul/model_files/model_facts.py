"""What people are told of a model's files: size, number of parameters, how weights are stored; no computation needs it."""

from __future__ import annotations

import math
import os
from collections import Counter

import msgspec

from yeoul.model_files.description import ModelFiles
from yeoul.model_files.gguf import GgufFile
from yeoul.model_files.mapped_file import MappedTensor
from yeoul.model_files.safetensors_folder import map_tensors


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``weights_type`` is the format's name of the type that most bytes have; ``modified_at`` is of the wall clock."""

    num_parameters: int = 0
    num_bytes: int = 0
    weights_type: str = "unknown"
    modified_at: float = 0.0


def find_facts(files: ModelFiles) -> ModelFacts:
    """Reads headers only, which takes a tenth of a second for a large vocabulary.

    Raises:
        ModelFileError: a file is gone, or damaged, since it was loaded.
    """
    match files.file_format:
        case "gguf":
            tensors = GgufFile.open(files.path).tensors
        case "safetensors":
            tensors = map_tensors(files.path)
        case "fake":
            return ModelFacts()
    return _facts_of(list(tensors.values()))


def _facts_of(tensors: list[MappedTensor]) -> ModelFacts:
    bytes_of_type: Counter[str] = Counter()
    for tensor in tensors:
        bytes_of_type[tensor.type_name] += len(tensor.content)
    return ModelFacts(
        num_parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        num_bytes=bytes_of_type.total(),
        weights_type=bytes_of_type.most_common(1)[0][0],
        modified_at=max(os.stat(file).st_mtime for file in {tensor.file for tensor in tensors}),
    )
