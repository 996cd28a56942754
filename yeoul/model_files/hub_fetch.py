"""Fetches what is needed of a model hub repository; knows no HTTP. resolve.py calls it.

The hub's client remembers what it listed and fetched, so that the next start asks nobody: a model is fixed until
``yeoul pull`` asks again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from yeoul.errors import ModelFileError
from yeoul.model_files.cache_folder import Progress
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.hub_choice import HubChoice, HubReference, choose_model_files, choose_text_files
from yeoul.model_files.hub_client import Hub, HubUnreachableError


def fetch_hub_model(
    name: str,
    reference: HubReference,
    revision: str | None,
    hub: Hub,
    progress: Progress,
    *,
    refresh: bool = False,
    text_only: bool = False,
) -> ModelFiles:
    """The model's files on this disk. ``refresh`` asks the hub even if all is there; ``text_only`` leaves the weights.

    Raises ModelFileError with what to do if the hub cannot be reached and the cache does not have them all.
    """
    revision = revision or reference.revision
    found = None if refresh else _find_here(reference, revision, hub, text_only)
    return _as_files(name, found or _fetch(reference, revision, hub, progress, text_only))


def find_hub_model(name: str, reference: HubReference, revision: str | None, hub: Hub) -> ModelFiles | None:
    """The model's files if all of them are on this disk; asks nobody."""
    found = _find_here(reference, revision or reference.revision, hub, text_only=False)
    return None if found is None else _as_files(name, found)


def _as_files(name: str, found: tuple[str, HubChoice]) -> ModelFiles:
    folder, choice = found
    if choice.gguf_name is None:
        return ModelFiles(name=name, file_format="safetensors", path=folder)
    return ModelFiles(name=name, file_format="gguf", path=os.path.join(folder, choice.gguf_name))


def _find_here(reference: HubReference, revision: str | None, hub: Hub, text_only: bool) -> tuple[str, HubChoice] | None:
    """What was fetched, chosen among all that the repository had at that time; None unless it is whole."""
    sizes = hub.cached_files(reference.repository, revision)
    folder = hub.cached_folder(reference.repository, revision)
    if sizes is None or folder is None:
        return None
    try:
        choice = _choose(reference, sizes, text_only)
    except ModelFileError:  # the hub may have more by now
        return None
    return None if _damaged(folder, choice, sizes) else (folder, choice)


def _fetch(
    reference: HubReference, revision: str | None, hub: Hub, progress: Progress, text_only: bool
) -> tuple[str, HubChoice]:
    try:
        sizes = hub.list_files(reference.repository, revision)
    except HubUnreachableError as error:
        return _from_cache(reference, revision, hub, text_only, error)
    choice = _choose(reference, sizes, text_only)
    total = sum(sizes[name] for name in choice.names)
    label = f"fetching {reference.repository}"

    def on_bytes(num_bytes: int) -> None:
        progress(label, min(num_bytes, total), total)

    folder = hub.download(reference.repository, revision, choice.names, on_bytes, anew=False)
    if damaged := _damaged(folder, choice, sizes):
        folder = hub.download(reference.repository, revision, damaged, on_bytes, anew=True)
    progress(label, total, total)
    return folder, choice


def _from_cache(
    reference: HubReference, revision: str | None, hub: Hub, text_only: bool, error: HubUnreachableError
) -> tuple[str, HubChoice]:
    folder = hub.cached_folder(reference.repository, revision)
    problem = (
        f"{reference.repository!r} is no local file, and the model hub cannot be asked for it ({error}); "
        "check the network and HF_HUB_OFFLINE, or give the path of a model file"
    )
    if folder is None:
        raise ModelFileError(problem) from error
    names = [
        os.path.relpath(os.path.join(parent, file), folder) for parent, _, files in os.walk(folder) for file in sorted(files)
    ]
    try:
        return folder, _choose(reference, names, text_only)
    except ModelFileError as incomplete:
        raise ModelFileError(f"{problem}. What is in the cache does not do: {incomplete.message}") from error


def _choose(reference: HubReference, names: Iterable[str], text_only: bool) -> HubChoice:
    return HubChoice(choose_text_files(names), None) if text_only else choose_model_files(reference, names)


def _damaged(folder: str, choice: HubChoice, sizes: dict[str, int]) -> list[str]:
    """The files that are missing, or not of the size that the hub has listed (0 where it does not say)."""
    found = {name: _size(os.path.join(folder, name)) for name in choice.names}
    return [name for name, size in found.items() if size is None or (sizes[name] and size != sizes[name])]


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:
        return None
