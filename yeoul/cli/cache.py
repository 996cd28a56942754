"""``yeoul list``, ``rm`` and ``cache``: models and packed weights on this disk; knows nothing of how they are read."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from yeoul.config.build import build_settings
from yeoul.config.fields import nearest
from yeoul.errors import ConfigError

if TYPE_CHECKING:
    from yeoul.model_files.cache_folder import CacheFolder
    from yeoul.model_files.packed_folder import PackedEntry, PackedFolder

_SECONDS_A_DAY = 86400.0
_AGES = ((_SECONDS_A_DAY, "day"), (3600.0, "hour"), (60.0, "minute"))

DownloadDir = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="The cache folder. Default: the user's.", show_default=False)
]

cache = typer.Typer(help="List and prune packed weights.", rich_markup_mode=None)


def list_models(download_dir: DownloadDir = None) -> None:
    """Show the models that were fetched, the last used first."""
    from yeoul.model_files.local_models import find_models

    folder, hub_folder = _cache_folder(download_dir)
    models = find_models(folder, hub_folder)
    if not models:
        typer.echo(f"no models in {folder.path} or in the hub's cache; yeoul pull MODEL fetches one")
        return
    rows = [(model.name, _megabytes(model.num_bytes), age(time.time() - model.used_at)) for model in models]
    _show_table(("model", "size", "last used"), rows)


def remove_models(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models, by their names in yeoul list.")],
    download_dir: DownloadDir = None,
) -> None:
    """Remove models that were fetched, and their packed weights."""
    from yeoul.model_files.local_models import find_models

    known = {model.name: model for model in find_models(*_cache_folder(download_dir))}
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no fetched model {name!r}.{nearest(name, known)} yeoul list shows them")
    packed = _packed_folder(download_dir)
    for name in dict.fromkeys(names):
        known[name].remove()
        num_bytes = known[name].num_bytes
        # A packed file names its model as it was served, which may be one file of a repository.
        for entry in packed.entries():
            if entry.model.partition(":")[0] == name and packed.remove(entry):
                num_bytes += entry.num_bytes
        typer.echo(f"removed {name}, {_megabytes(num_bytes)}")


@cache.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """List and prune packed weights, which make a start fast."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@cache.command(name="list")
def list_cache(download_dir: DownloadDir = None) -> None:
    """Show the packed weights, the last used first."""
    folder = _packed_folder(download_dir)
    entries = folder.entries()
    if not entries:
        typer.echo(f"no packed weights in {folder.path}")
        return
    rows = [(entry.model, _configuration(entry), _megabytes(entry.num_bytes), _last_use(entry)) for entry in entries]
    _show_table(("model", "configuration", "size", "last used"), rows)
    typer.echo(f"{_megabytes(sum(entry.num_bytes for entry in entries))} in {folder.path}")


@cache.command()
def prune(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Only this model's, by its name in the list.", show_default=False)
    ] = None,
    older_than_days: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Only what was not used for so long.", show_default=False)
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    download_dir: DownloadDir = None,
) -> None:
    """Remove packed weights that no running server uses.

    What is removed is made again when it is needed.
    """
    if is_all == (model is not None or older_than_days is not None):
        raise ConfigError("say what to remove: a model, --older-than-days DAYS, both, or --all alone")
    folder = _packed_folder(download_dir)
    folder.sweep()
    entries = folder.entries()
    if model is not None:
        entries = [entry for entry in entries if entry.model == model]
        if not entries:
            raise ConfigError(f"there are no packed weights of {model!r} in {folder.path}; see yeoul cache list")
    if older_than_days is not None:
        entries = [entry for entry in entries if entry.used_at <= time.time() - older_than_days * _SECONDS_A_DAY]
    num_bytes = 0
    for entry in entries:
        if folder.remove(entry):
            num_bytes += entry.num_bytes
            typer.echo(f"removed {entry.model}, {_configuration(entry)}")
        else:
            why = "a running server uses it" if entry.is_in_use else "the file cannot be removed"
            typer.echo(f"kept {entry.model}, {_configuration(entry)}: {why}")
    typer.echo(f"freed {_megabytes(num_bytes)}")


def age(seconds: float) -> str:
    """``3 hours ago``."""
    for unit, name in _AGES:
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"


def _show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _cache_folder(download_dir: str | None) -> tuple[CacheFolder, str | None]:
    """The folder, and the hub client's within it; None where that keeps its own."""
    from yeoul.model_files.cache_folder import CacheFolder

    chosen = build_settings({"download_dir": download_dir}).model.download_dir
    folder = CacheFolder.at(chosen)
    return folder, os.path.join(folder.path, "hub") if chosen else None


def _packed_folder(download_dir: str | None) -> PackedFolder:
    from yeoul.model_files.packed_folder import PackedFolder

    return PackedFolder(_cache_folder(download_dir)[0])


def _configuration(entry: PackedEntry) -> str:
    if entry.key is None:
        return "damaged, or of another version"
    key = entry.key
    rank = [f"rank {key.rank} of {key.size}"] if key.size > 1 else []
    stage = [f"stage {key.stage} of {key.num_stages}"] if key.num_stages > 1 else []
    return ", ".join([key.dtype, *rank, *stage])


def _last_use(entry: PackedEntry) -> str:
    return "in use" if entry.is_in_use else age(time.time() - entry.used_at)
