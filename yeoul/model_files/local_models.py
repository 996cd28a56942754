"""The models that were fetched to this disk: which they are, and how to take one away; knows nothing of what is in them.

``yeoul list`` and ``yeoul rm`` call it. What a running server has mapped stays in its memory until it ends.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import msgspec

from yeoul.errors import ConfigError
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.registry_models import REGISTRY_MODELS

_WEIGHTS = (".gguf", ".safetensors")


class LocalModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model by the name that ``yeoul serve`` takes, and its folder. ``used_at`` is a time of the wall clock, in seconds."""

    name: str
    num_bytes: int
    used_at: float
    folder: str

    def remove(self) -> None:
        """Deletes its files.

        Raises:
            ConfigError: the disk refuses.
        """
        try:
            shutil.rmtree(self.folder)
        except OSError as error:
            raise ConfigError(f"cannot remove {error.filename or self.folder}: {error.strerror}; make it writable") from error


def find_models(cache: CacheFolder, hub_cache_dir: str | None) -> list[LocalModel]:
    """The models in the cache folder and in the hub client's (``hub_cache_dir``; None is its own), the last used first."""
    models = [*_registry_models(cache), *_hub_models(hub_cache_dir)]
    return sorted(models, key=lambda model: (-model.used_at, model.name))


def _registry_models(cache: CacheFolder) -> list[LocalModel]:
    found = []
    for model in REGISTRY_MODELS.values():
        path = cache.model_path(model.name, model.file_name)
        try:
            status = os.stat(path)
        except OSError:
            continue
        used_at = max(status.st_atime, status.st_mtime)
        found.append(LocalModel(name=model.name, num_bytes=status.st_size, used_at=used_at, folder=os.path.dirname(path)))
    return found


def _hub_models(hub_cache_dir: str | None) -> list[LocalModel]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(hub_cache_dir).repos
    except (CacheNotFound, ValueError, OSError):
        return []
    return [
        LocalModel(name=one.repo_id, num_bytes=one.size_on_disk, used_at=one.last_accessed, folder=str(one.repo_path))
        for one in repositories
        if one.repo_type == "model" and _has_weights(one)
    ]


def _has_weights(repository: Any) -> bool:
    return any(file.file_name.endswith(_WEIGHTS) for revision in repository.revisions for file in revision.files)
