"""Settings of an engine on the fake model, for tests that start parts of the hierarchy by hand."""

from __future__ import annotations

from yeoul.config.parts import EngineAddresses, EngineSettings
from yeoul.config.settings import Settings
from yeoul.engine_process.launch import engine_settings
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles

FILES = ModelFiles(name="fake", file_format="fake", path="")


def fake_engine_settings(link: EngineAddresses, settings: Settings | None = None) -> EngineSettings:
    """EngineCore's part of ``settings`` with the fake model in a context of 512 tokens."""
    return engine_settings(settings or Settings(), FILES, describe(FILES), 512, link)
