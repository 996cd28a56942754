"""Starting an EngineCore process: its part of the settings, and the child itself; used by both of its possible parents."""

from __future__ import annotations

import msgspec

from yeoul.config.parts import ONLY_ENGINE, EngineAddresses, EnginePlace, EngineSettings, LogChoice
from yeoul.config.settings import Settings
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.transport.child_process import ChildProcess


def engine_settings(
    settings: Settings,
    files: ModelFiles,
    description: ModelDescription,
    max_model_len: int,
    link: EngineAddresses,
    place: EnginePlace = ONLY_ENGINE,
) -> EngineSettings:
    """EngineCore's part of the settings, with the model as it was found."""
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
        log=LogChoice(settings.server.log_level, settings.server.log_format),
    )


def spawn_engine(settings: EngineSettings) -> ChildProcess:
    """Starts EngineCore and returns at once; it dies with the calling thread."""
    return ChildProcess.spawn("yeoul.engine_process.main", f"yeoul::{settings.place.name}", msgspec.msgpack.encode(settings))
