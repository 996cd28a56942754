"""ServedModel: which model an ``AsyncLLM`` serves: its files, its shape, its limits; knows nothing of text or engines."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from yeoul.config.settings import ModelSettings
from yeoul.errors import UnavailableError
from yeoul.model_files.context_length import choose_max_model_len
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.web_process.engine.admission import Limits

Progress = Callable[[str, int, int], None]
"""What is being done, how many bytes of it are done, of how many."""


def files_have_changed() -> UnavailableError:
    """What a request is told that came before other files of its model were read."""
    told = "the files of the model have changed while the request waited for it; send it again"
    return UnavailableError(told, retry_after_seconds=1)


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """``limits`` are what the settings allow; the engine reports its own when it is ready."""

    files: ModelFiles
    description: ModelDescription
    limits: Limits


def find_served_model(settings: ModelSettings, on_progress: Progress | None = None) -> ServedModel:
    """Finds the model's files, and fetches them where they are missing: blocks as long as that takes.

    Raises:
        ConfigError: the model or a setting cannot work.
    """
    from yeoul.model_files.describe import describe
    from yeoul.model_files.resolve import resolve_model

    files = resolve_model(settings, on_progress)
    return served_model(settings, files, describe(files))


def served_model(settings: ModelSettings, files: ModelFiles, description: ModelDescription) -> ServedModel:
    """The model of these files with its limits. Raises ConfigError."""
    max_model_len = choose_max_model_len(settings.max_model_len, description)
    limits = Limits(max_model_len=max_model_len, vocab_size=description.vocab_size)
    return ServedModel(files=files, description=description, limits=limits)
