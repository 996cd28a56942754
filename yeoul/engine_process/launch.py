"""Starting an EngineCore process: its part of the settings, and the child itself; used by both of its possible parents."""

from __future__ import annotations

import hashlib
import os

import msgspec

from yeoul.config.parts import ONLY_ENGINE, EngineAddresses, EnginePlace, EngineSettings, LogChoice
from yeoul.config.settings import Settings
from yeoul.config.user_folders import chosen_folder, user_cache_folder
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.model_files.pipeline_split import check_pipeline_parallel_size
from yeoul.transport.child_process import ChildProcess

_TIER_FOLDER = "kv"


def engine_settings(
    settings: Settings,
    files: ModelFiles,
    description: ModelDescription,
    max_model_len: int,
    link: EngineAddresses,
    place: EnginePlace = ONLY_ENGINE,
) -> EngineSettings:
    """EngineCore's part of the settings, with the model as it was found.

    Raises:
        ConfigError: the model has too few layers for so many stages.
    """
    check_pipeline_parallel_size(description, settings.parallel.pipeline_parallel_size)
    data_dir = settings.store.data_dir
    return EngineSettings(
        link=link,
        model=settings.model,
        files=files,
        description=description,
        max_model_len=max_model_len,
        cache=settings.cache,
        scheduler=settings.scheduler,
        parallel=settings.parallel,
        transport=settings.transport,
        time=settings.time,
        recovery=settings.recovery,
        fake=settings.fake,
        place=place,
        tier_owner=_owner(settings.server.api_key),
        tier_folder=os.path.join(chosen_folder(data_dir) if data_dir is not None else user_cache_folder(), _TIER_FOLDER),
        log=LogChoice(settings.server.log_level, settings.server.log_format),
    )


def _owner(api_keys: list[str]) -> str:
    """A key that is alone has no salt, and what it leaves on a disk is still not for the next one. Several have."""
    return hashlib.sha256(api_keys[0].strip().encode()).hexdigest() if len(api_keys) == 1 else ""


def spawn_engine(settings: EngineSettings) -> ChildProcess:
    """Starts EngineCore and returns at once; it dies with the calling thread."""
    return ChildProcess.spawn("yeoul.engine_process.main", f"yeoul::{settings.place.name}", msgspec.msgpack.encode(settings))
