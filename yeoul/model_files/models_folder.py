"""models_in(), models_cached(): the models of a folder, and those that were fetched, by the names to serve them under.

They look at names alone; why_unusable() looks into one. Asks nobody. ``yeoul serve`` calls it for ``--models-dir`` and
``--models-cached``.
"""

from __future__ import annotations

import os

from yeoul.config.settings import ModelSettings
from yeoul.errors import ConfigError
from yeoul.model_files.context_length import choose_max_model_len
from yeoul.model_files.describe import describe
from yeoul.model_files.gguf_names import model_names, without_ending
from yeoul.model_files.local_models import find_models
from yeoul.model_files.resolve import ModelResolver


def models_in(folder: str) -> dict[str, str]:
    """Names and paths: a GGUF file has its own without the ending, a folder with a model in it the folder's.

    Raises:
        ConfigError: the folder cannot be read, or holds no model, or a file and a folder of one name.
    """
    parent = os.path.abspath(os.path.expanduser(folder))
    found: dict[str, str] = {}
    try:
        names = sorted(name for name in os.listdir(parent) if not name.startswith("."))
    except OSError as error:
        raise ConfigError(f"--models-dir {folder} cannot be read: {error.strerror}", param="models_dir") from error
    for name in model_names(name for name in names if os.path.isfile(os.path.join(parent, name))):
        found[without_ending(name)] = os.path.join(parent, name)
    for name in names:
        path = os.path.join(parent, name)
        if os.path.isdir(path):
            models = _models_of_folder(name, path)
            if name in found and name in models:
                raise ConfigError(
                    f"two models are called {name!r} in --models-dir {folder}: {os.path.basename(found[name])} and the "
                    f"folder {name}; expected a name each",
                    param="models_dir",
                )
            found |= models
    if not found:
        raise ConfigError(
            f"--models-dir {folder} holds no model; expected GGUF files, or folders with one GGUF model or a config.json",
            param="models_dir",
        )
    return found


def _models_of_folder(name: str, path: str) -> dict[str, str]:
    """One by the folder's name, several by that and their own."""
    try:
        files = os.listdir(path)
    except OSError:
        return {}
    if "config.json" in files:
        return {name: path}
    if len(models := model_names(files)) == 1:
        return {name: path}
    return {f"{name}/{without_ending(model)}": os.path.join(path, model) for model in models}


def models_cached(settings: ModelSettings) -> dict[str, str]:
    """What ``yeoul list`` shows, as far as it is there whole: each name is what it was fetched by."""
    resolver = ModelResolver.for_settings(settings)
    hub_cache = os.path.join(resolver.cache.path, "hub") if settings.download_dir else None
    names = sorted(model.name for model in find_models(resolver.cache, hub_cache))
    return {name: name for name in names if _is_whole(resolver, name)}


def why_unusable(settings: ModelSettings) -> str | None:
    """Why this model, whose files are here, cannot be served; None where it can."""
    try:
        files = None if settings.model is None else ModelResolver.for_settings(settings).find_here(settings.model)
        if files is not None:
            choose_max_model_len(settings.max_model_len, describe(files))
    except ConfigError as error:
        return error.message
    return None


def _is_whole(resolver: ModelResolver, name: str) -> bool:
    try:
        return resolver.find_here(name) is not None
    except ConfigError:
        return False
