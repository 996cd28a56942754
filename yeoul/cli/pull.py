"""``yeoul pull``: fetches a model, verifies it and says where it is; knows nothing of how models are fetched."""

from __future__ import annotations

from typing import Annotated

import typer

from yeoul.config.build import build_settings
from yeoul.progress import download_bars


def pull(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="A hub id (org/name, or org/name:Q4_K_M for a GGUF file), gemma3-270m, or smollm2-135m-instruct (default).",
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.", show_default=False)] = None,
    download_dir: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where to keep it. Default: the user's cache.", show_default=False)
    ] = None,
) -> None:
    """Fetch a model, verify it and print where it is; a model that is already here is checked again."""
    from yeoul.model_files.describe import describe
    from yeoul.model_files.file_identity import identify
    from yeoul.model_files.registry_models import REGISTRY_MODELS
    from yeoul.model_files.resolve import ModelResolver
    from yeoul.model_files.tokenizer_files import load_tokenizer_source

    given = {"model": model, "revision": revision, "download_dir": download_dir}
    settings = build_settings({name: value for name, value in given.items() if value is not None}, None).model
    with download_bars() as on_progress:
        files = ModelResolver.for_settings(settings).resolve(settings.model, on_progress, refresh=True)
    description = describe(files)
    load_tokenizer_source(files, settings.tokenizer)
    num_bytes = sum(file.num_bytes for file in identify(files)) if files.path else 0
    typer.echo(f"{files.name}: {description.architecture}, {description.num_layers} layers, ", nl=False)
    typer.echo(f"context {description.max_position_embeddings}, {num_bytes / 1e6:.0f} MB")
    if files.name in REGISTRY_MODELS:
        known = REGISTRY_MODELS[files.name]
        typer.echo(f"sha256 {known.sha256}, as pinned; license: {known.license_note}")
    if files.path:
        typer.echo(files.path)
