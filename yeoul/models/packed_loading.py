"""Building a model from packed weights where a start before this one left them, and leaving them where it did not.

Knows nothing of layouts or of what is in a model. ``models.loading`` calls it. Whatever the cache folder refuses or has
damaged costs a conversion and one line in the log, never a start and never a wrong weight.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import xxhash

import yeoul.kernels
import yeoul.layers
import yeoul.model_files
import yeoul.models
from yeoul.errors import ModelFileError
from yeoul.kernels.native_library import instruction_set_in_use
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.description import ModelDescription, ModelFiles, shape_digest
from yeoul.model_files.file_identity import are_settled, identify
from yeoul.model_files.packed_file import PackedKey
from yeoul.model_files.packed_folder import PackedFolder
from yeoul.model_files.pipeline_split import WHOLE_MODEL, PipelineStage
from yeoul.models.decoder import Decoder
from yeoul.models.packed_weights import PackedWeights
from yeoul.start_parts import START

logger = logging.getLogger(__name__)

Build = Callable[[WeightSource], Decoder]
_CPU = torch.device("cpu")


def packed_key(
    files: ModelFiles,
    description: ModelDescription,
    dtype: torch.dtype,
    parallel: TensorParallel,
    quantization: Literal["int8"] | None = None,
    stage: PipelineStage = WHOLE_MODEL,
) -> PackedKey:
    """What packed weights must have been made of and for, to serve for this."""
    return PackedKey(
        files=identify(files),
        shape=shape_digest(description),
        dtype=str(dtype).removeprefix("torch."),
        rank=parallel.rank,
        size=parallel.size,
        stage=stage.index,
        num_stages=stage.size,
        packing=f"{quantization} {code_digest()}",
    )


def load_packed(
    folder: PackedFolder,
    files: ModelFiles,
    key: PackedKey,
    dtype: torch.dtype,
    build: Build,
    read_files: Callable[[], WeightSource],
) -> Decoder:
    """The model over mapped weights; over its own where they cannot be kept.

    Args:
        folder: where they are kept.
        files: the model's own.
        key: what the weights must be of.
        dtype: what the model computes in.
        build: makes the model of a source.
        read_files: opens the model's own files; called only where there are no packed weights.

    Raises:
        ModelFileError: the model's own files are damaged.
    """
    model = _map(folder, key, dtype, build)
    if model is None and are_settled(key.files):
        try:
            model = _pack_in_turn(folder, files, key, dtype, build, read_files)
        except OSError as error:
            logger.warning("the packed weights are not kept in %s: %s", folder.path, error)
    elif model is None:
        logger.info("the packed weights are not kept: the model's files have just been written")
    return model or build(read_files())


def _pack_in_turn(
    folder: PackedFolder,
    files: ModelFiles,
    key: PackedKey,
    dtype: torch.dtype,
    build: Build,
    read_files: Callable[[], WeightSource],
) -> Decoder | None:
    """The model over what was packed, by this process or by one that was about to; raises OSError."""
    with folder.turn(key) as had_to_wait:
        if had_to_wait:
            START.mark("waiting for who packs the same weights")
            if (model := _map(folder, key, dtype, build)) is not None:
                return model
        start = time.perf_counter()
        with folder.write(files.name, key) as file:
            build(PackedWeights(file, dtype, _CPU, read_files()))
            if identify(files) != key.files:
                raise OSError("the model's files were written to meanwhile")
        START.mark("packing the weights")
        logger.info("packed the weights in %.2f s: %s", time.perf_counter() - start, folder.path_of(key))
    return _map(folder, key, dtype, build)


@functools.cache
def code_digest() -> str:
    """A name for the code that packs and computes: a change of it cannot be forgotten by what is kept."""
    hasher = xxhash.xxh3_128(f"{torch.__version__} {instruction_set_in_use()}".encode())
    folders = [folder for room in (yeoul.kernels, yeoul.layers, yeoul.model_files, yeoul.models) for folder in room.__path__]
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*") if path.suffix in (".py", ".so")):
        hasher.update(path.read_bytes())
    return hasher.hexdigest()


def _map(folder: PackedFolder, key: PackedKey, dtype: torch.dtype, build: Build) -> Decoder | None:
    """The model over the map; None where there is none, or it does not fit."""
    start = time.perf_counter()
    try:
        file = folder.open(key)
        if file is None:
            return None
        model = build(PackedWeights(file, dtype, _CPU))
    except (ModelFileError, OSError) as error:
        logger.warning("packing the weights again: %s", error)
        return None
    START.mark("mapping the weights")
    logger.info("mapped the packed weights in %.2f s", time.perf_counter() - start)
    return model
