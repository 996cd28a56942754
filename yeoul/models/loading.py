"""load_model: a model's weights from its files into this rank's memory; knows nothing of requests or caches.

Called by the worker, once.
"""

from __future__ import annotations

from typing import Literal

import torch

from yeoul.layers.parallel import TensorParallel
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.model_files.packed_folder import PackedFolder
from yeoul.model_files.pipeline_split import WHOLE_MODEL, PipelineStage
from yeoul.model_files.tensor_parallel_split import check_tensor_parallel_size
from yeoul.models.decoder import Decoder
from yeoul.models.packed_loading import load_packed, packed_key
from yeoul.models.registry import layer_of
from yeoul.models.tensor_files import GgufTensors, SafetensorsTensors
from yeoul.models.weights import FileWeights, TensorFile


def load_model(
    files: ModelFiles,
    description: ModelDescription,
    *,
    dtype: torch.dtype,
    device: torch.device,
    parallel: TensorParallel,
    stage: PipelineStage = WHOLE_MODEL,
    packed: PackedFolder | None = None,
    quantization: Literal["int8"] | None = None,
) -> Decoder:
    """Read this rank's share of every weight, decoded to ``dtype`` on ``device``.

    Args:
        files: where the model lies.
        description: what ``model_files.describe`` made of the same files.
        dtype: what the model computes in: float32, bfloat16 or float16.
        device: where it computes.
        parallel: this rank's place.
        stage: which of the layers are wanted.
        packed: where the weights are kept as this machine's CPU reads them, and mapped from at the next start. In
            float32, which other modes are held against, nothing stands between a model and its files.
        quantization: None, or what matrices of floating numbers become on the way in.

    Raises:
        ModelFileError: a tensor is missing, of another shape, or of a type that cannot be decoded; names it.
        ConfigError: this many ranks cannot share the model, or ``quantization`` makes no sense here.
    """
    layer = layer_of(description.architecture)
    check_tensor_parallel_size(description, parallel.size)

    def read_files() -> FileWeights:
        file: TensorFile
        file = (
            GgufTensors(files.path, description)
            if files.file_format == "gguf"
            else SafetensorsTensors(files.path, is_tied=description.tie_word_embeddings)
        )
        return FileWeights(file, dtype, device, quantization)

    def build(weights: WeightSource) -> Decoder:
        return Decoder(weights, description, parallel, layer, stage)

    with torch.inference_mode():
        if packed is None or device.type != "cpu" or dtype == torch.float32:
            return build(read_files())
        key = packed_key(files, description, dtype, parallel, quantization, stage)
        return load_packed(packed, files, key, dtype, build, read_files)
