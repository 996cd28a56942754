"""``yeoul list`` and ``yeoul rm``: the models on this disk; knows nothing of where they lie."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from yeoul.cli.amounts import age, megabytes
from yeoul.cli.cache import DownloadDir
from yeoul.config.build import build_settings
from yeoul.config.fields import nearest
from yeoul.errors import ConfigError

if TYPE_CHECKING:
    from yeoul.model_files.cache_folder import CacheFolder
    from yeoul.model_files.local_models import LocalModel


def list_models(download_dir: DownloadDir = None) -> None:
    """Show the models that were fetched, the last used first."""
    from rich.console import Console
    from rich.table import Table

    cache, models = _find(download_dir)
    if not models:
        typer.echo(f"no models in {cache.path} or in the hub's cache; yeoul pull MODEL fetches one")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("model", "size", "last used"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for model in models:
        table.add_row(model.name, megabytes(model.num_bytes), age(time.time() - model.used_at))
    Console().print(table)


def remove_models(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models, by their names in yeoul list.")],
    download_dir: DownloadDir = None,
) -> None:
    """Remove models that were fetched, and their packed weights."""
    from yeoul.model_files.packed_folder import PackedFolder

    cache, models = _find(download_dir)
    known = {model.name: model for model in models}
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no fetched model {name!r}.{nearest(name, known)} yeoul list shows them")
    packed = PackedFolder(cache)
    for name in dict.fromkeys(names):
        known[name].remove()
        num_bytes = known[name].num_bytes
        # A packed file names its model as it was served, which may be one file of a repository.
        for entry in packed.entries():
            if entry.model.partition(":")[0] == name and packed.remove(entry):
                num_bytes += entry.num_bytes
        typer.echo(f"removed {name}, {megabytes(num_bytes)}")


def _find(download_dir: str | None) -> tuple[CacheFolder, list[LocalModel]]:
    from yeoul.model_files.cache_folder import CacheFolder
    from yeoul.model_files.local_models import find_models

    flags: dict[str, object] = {} if download_dir is None else {"download_dir": download_dir}
    chosen = build_settings(flags).model.download_dir
    cache = CacheFolder.at(chosen)
    return cache, find_models(cache, os.path.join(cache.path, "hub") if chosen else None)
