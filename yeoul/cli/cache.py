"""``yeoul cache``: lists and prunes the packed weights in the cache folder; knows nothing of how they are made or read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from yeoul.cli.amounts import SECONDS_A_DAY, age, megabytes
from yeoul.config.build import build_settings
from yeoul.errors import ConfigError

if TYPE_CHECKING:
    from yeoul.model_files.packed_folder import PackedEntry, PackedFolder

DownloadDir = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="The cache folder. Default: the user's.", show_default=False)
]

cache = typer.Typer(help="List and prune packed weights.", rich_markup_mode=None)


@cache.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """List and prune packed weights, which make a start fast."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@cache.command(name="list")
def list_cache(download_dir: DownloadDir = None) -> None:
    """Show the packed weights, the last used first."""
    from rich.console import Console
    from rich.table import Table

    folder = _folder(download_dir)
    entries = folder.entries()
    if not entries:
        typer.echo(f"no packed weights in {folder.path}")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("model", "configuration", "size", "last used"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for entry in entries:
        used = "in use" if entry.is_in_use else age(time.time() - entry.used_at)
        table.add_row(entry.model, _configuration(entry), megabytes(entry.num_bytes), used)
    Console().print(table)
    typer.echo(f"{megabytes(sum(entry.num_bytes for entry in entries))} in {folder.path}")


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
    folder = _folder(download_dir)
    folder.sweep()
    entries = folder.entries()
    if model is not None:
        entries = [entry for entry in entries if entry.model == model]
        if not entries:
            raise ConfigError(f"there are no packed weights of {model!r} in {folder.path}; see yeoul cache list")
    if older_than_days is not None:
        entries = [entry for entry in entries if entry.used_at <= time.time() - older_than_days * SECONDS_A_DAY]
    num_bytes = 0
    for entry in entries:
        if folder.remove(entry):
            num_bytes += entry.num_bytes
            typer.echo(f"removed {entry.model}, {_configuration(entry)}")
        else:
            why = "a running server uses it" if entry.is_in_use else "the file cannot be removed"
            typer.echo(f"kept {entry.model}, {_configuration(entry)}: {why}")
    typer.echo(f"freed {megabytes(num_bytes)}")


def _folder(download_dir: str | None) -> PackedFolder:
    from yeoul.model_files.cache_folder import CacheFolder
    from yeoul.model_files.packed_folder import PackedFolder

    flags: dict[str, object] = {} if download_dir is None else {"download_dir": download_dir}
    return PackedFolder(CacheFolder.at(build_settings(flags).model.download_dir))


def _configuration(entry: PackedEntry) -> str:
    if entry.key is None:
        return "damaged, or of another version"
    return entry.key.dtype if entry.key.size == 1 else f"{entry.key.dtype}, rank {entry.key.rank} of {entry.key.size}"
