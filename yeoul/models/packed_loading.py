"""Building a model from packed weights where a start before this one left them, and leaving them where it did not.

Knows nothing of layouts or of what is in a model. ``models.loading`` calls it. Whatever the cache folder refuses or has
damaged costs a conversion and one line in the log, never a start and never a wrong weight.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from typing import Literal

import torch

from yeoul.errors import ModelFileError
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.description import ModelDescription, ModelFiles, shape_digest
from yeoul.model_files.file_identity import are_settled, identify
from yeoul.model_files.packed_file import PackedHeader, PackedKey
from yeoul.model_files.packed_folder import PackedFolder
from yeoul.models.model import Model
from yeoul.models.packed_weights import PackedWeights, RecordingWeights, WeightNotPackedError
from yeoul.models.packing_fingerprint import packing_fingerprint

logger = logging.getLogger(__name__)

Build = Callable[[WeightSource], Model]


def packed_key(
    files: ModelFiles,
    description: ModelDescription,
    dtype: torch.dtype,
    parallel: TensorParallel,
    quantization: Literal["int8"] | None = None,
) -> PackedKey:
    """What packed weights must have been made of and for, to serve for this."""
    return PackedKey(
        files=identify(files),
        shape=shape_digest(description),
        dtype=str(dtype).removeprefix("torch."),
        rank=parallel.rank,
        size=parallel.size,
        packing=packing_fingerprint(dtype, quantization),
    )


class PackedLoading:
    """One model in one configuration, and the folder in which its packed weights are kept."""

    def __init__(self, folder: PackedFolder, files: ModelFiles, key: PackedKey, dtype: torch.dtype) -> None:
        self._folder = folder
        self._files = files
        self._key = key
        self._dtype = dtype

    def load(self, build: Build, read_files: Callable[[], WeightSource]) -> Model:
        """The model over mapped weights; over its own where they cannot be kept.

        Args:
            build: makes the model of a source.
            read_files: opens the model's own files; called only where there are no packed weights.

        Raises:
            ModelFileError: the model's own files are damaged.
        """
        kept = self._build_kept(build)
        if kept is None and (made := self._pack(build, read_files)) is not None:
            return made
        if kept is None:
            gc.collect()  # what was made for this process alone, which may hold itself in cycles
            kept = self._build_kept(build)
        return kept or build(read_files())

    def _pack(self, build: Build, read_files: Callable[[], WeightSource]) -> Model | None:
        """None where packed weights can be mapped now; else the model over its own weights, or those of another process."""
        made: Model | None = None
        try:
            with self._folder.packing(self._key):
                if (kept := self._build_kept(build, is_second_look=True)) is not None:
                    return kept
                start = time.perf_counter()
                recording = RecordingWeights(read_files())
                made = build(recording)
                return None if self._store(recording, start) else made
        except OSError as error:
            logger.warning("the packed weights are not kept in %s: %s", self._folder.path, error)
            return made or build(read_files())

    def _build_kept(self, build: Build, *, is_second_look: bool = False) -> Model | None:
        """The model over the map, or None. The first look says what is wrong, the second, under the lock, drops it."""
        try:
            start = time.perf_counter()
            file = self._folder.open(self._key)
            if file is None:
                return None
            model = build(PackedWeights(file, self._dtype, torch.device("cpu")))
        except (ModelFileError, OSError) as error:
            if not is_second_look:
                logger.warning("packing the weights again: %s", error)
            elif isinstance(error, ModelFileError):
                self._folder.drop(self._key)
            return None
        except WeightNotPackedError:
            return None
        logger.info("mapped the packed weights in %.2f s", time.perf_counter() - start)
        return model

    def _store(self, recording: RecordingWeights, start: float) -> bool:
        """Whether the weights are in the folder now; not those of a file that may just have been written to."""
        if not are_settled(self._key.files) or identify(self._files) != self._key.files:
            logger.info("the packed weights are not kept: the model's files have just been written")
            return False
        weights, contents = recording.lay_out()
        num_bytes = max((array.offset + array.num_bytes for array, _ in contents), default=0)
        header = PackedHeader(model=self._files.name, key=self._key, weights=weights, num_data_bytes=num_bytes)
        self._folder.store(header, contents)
        logger.info("packed the weights in %.2f s: %s", time.perf_counter() - start, self._folder.path_of(self._key))
        return True
