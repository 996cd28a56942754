"""``yeoul serve``: builds the settings and hands them to the web process or a headless engine; knows nothing of either."""

from __future__ import annotations

from typing import Annotated

import typer

from yeoul.config.build import build_settings
from yeoul.config.machine import check_machine
from yeoul.errors import ConfigError

ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Settings from a TOML, YAML or JSON file; flags and YEOUL_* win over it."),
]


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="A GGUF file, a Hugging Face folder, a hub id, or 'fake'. Default: SmolLM2-135M-Instruct, which is fetched.",
        ),
    ] = None,
    config: ConfigFile = None,
    *,
    flags: dict[str, object],
) -> None:
    """Serve a model over the OpenAI API.

    Every flag can also be set as YEOUL_<FLAG> in the environment or in a config file.
    """
    check_machine()
    settings = build_settings(merge_model(flags, model), config)
    if settings.server.headless:
        from yeoul.engine_process.headless import run_headless

        raise typer.Exit(run_headless(settings))
    from yeoul.web_process.server import run_server

    raise typer.Exit(run_server(settings))


def merge_model(flags: dict[str, object], model: str | None) -> dict[str, object]:
    """``flags`` with the model that was given as an argument.

    Raises:
        ConfigError: ``--model`` names another one.
    """
    if model is None:
        return flags
    if flags.get("model", model) != model:
        raise ConfigError(f"two models are given, {model!r} and --model {flags['model']!r}; expected one")
    return {**flags, "model": model}
