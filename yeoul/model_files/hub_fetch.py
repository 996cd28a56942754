"""Fetches what is needed of a model hub repository, and remembers it; knows no HTTP. resolve.py calls it.

A record of what was fetched lies in the cache folder, so that the next start asks nobody: a model is fixed until
``yeoul pull`` asks again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import msgspec

from yeoul.errors import ModelFileError
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.hub_choice import HubChoice, HubReference, choose_model_files, choose_text_files
from yeoul.model_files.hub_client import Hub, HubListing, HubUnreachableError

Progress = Callable[[str, int, int], None]


class _Record(msgspec.Struct):
    """The files of a fetched model: its folder, and the size of each file."""

    folder: str
    gguf_name: str | None
    sizes: dict[str, int]


def fetch_hub_model(
    name: str,
    reference: HubReference,
    revision: str | None,
    cache: CacheFolder,
    hub: Hub,
    progress: Progress,
    *,
    refresh: bool = False,
    text_only: bool = False,
) -> ModelFiles:
    """The model's files on this disk. ``refresh`` asks the hub even if all is there; ``text_only`` leaves the weights.

    Raises ModelFileError with what to do if the hub cannot be reached and the cache does not have them all.
    """
    kind = "text" if text_only else reference.file or "model"
    record_path = os.path.join(cache.path, "hub", _record_name(reference.repository, revision or "main", kind))
    record = None if refresh else _read_record(record_path)
    if record is None or not _is_whole(record):
        record = _fetch(reference, revision, hub, progress, text_only)
        cache.write_record(record_path, msgspec.json.encode(record))
    if record.gguf_name is None:
        return ModelFiles(name=name, file_format="safetensors", path=record.folder)
    return ModelFiles(name=name, file_format="gguf", path=os.path.join(record.folder, record.gguf_name))


def _fetch(reference: HubReference, revision: str | None, hub: Hub, progress: Progress, text_only: bool) -> _Record:
    try:
        listing = hub.list_files(reference.repository, revision)
    except HubUnreachableError as error:
        return _from_cache(reference, revision, hub, text_only, error)
    choice = _choose(reference, list(listing.sizes), text_only)
    folder = _download(reference.repository, listing, choice, hub, progress)
    return _make_record(folder, choice)


def _from_cache(
    reference: HubReference, revision: str | None, hub: Hub, text_only: bool, error: HubUnreachableError
) -> _Record:
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
        return _make_record(folder, _choose(reference, names, text_only))
    except ModelFileError as incomplete:
        raise ModelFileError(f"{problem}. What is in the cache does not do: {incomplete.message}") from error


def _choose(reference: HubReference, names: list[str], text_only: bool) -> HubChoice:
    return HubChoice(choose_text_files(names), None) if text_only else choose_model_files(reference, names)


def _download(repository: str, listing: HubListing, choice: HubChoice, hub: Hub, progress: Progress) -> str:
    total = sum(listing.sizes[name] for name in choice.names)
    label = f"fetching {repository}"
    finished = 0
    folder = ""
    for name in choice.names:
        done = 0

        def on_bytes(num_bytes: int, finished: int = finished) -> None:
            nonlocal done
            done += num_bytes
            progress(label, min(finished + done, total), total)

        path = hub.download(repository, listing.commit, name, on_bytes)
        finished += listing.sizes[name]
        progress(label, min(finished, total), total)
        folder = path.removesuffix(name).rstrip("/")
    return folder


def _make_record(folder: str, choice: HubChoice) -> _Record:
    sizes = {name: os.path.getsize(os.path.join(folder, name)) for name in choice.names}
    return _Record(folder, choice.gguf_name, sizes)


def _read_record(path: str) -> _Record | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=_Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_whole(record: _Record) -> bool:
    try:
        return all(os.path.getsize(os.path.join(record.folder, name)) == size for name, size in record.sizes.items())
    except OSError:
        return False


def _record_name(repository: str, revision: str, kind: str) -> str:
    return "--".join(re.sub(r"[^\w.-]", "-", part, flags=re.ASCII) for part in (repository, revision, kind)) + ".json"
