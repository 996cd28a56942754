"""``yeoul serve``: builds the settings and hands them to the web process or a headless engine; knows nothing of either."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from yeoul import __version__
from yeoul.cli.banner import fleet_banner, headless_banner, server_banner
from yeoul.config.machine import check_machine
from yeoul.config.models import ModelChoice, choose_models
from yeoul.config.settings import Settings
from yeoul.errors import ConfigError
from yeoul.log import set_up_logging, with_fields
from yeoul.messages.outputs import EngineReady
from yeoul.progress import download_bars
from yeoul.start_parts import START

logger = logging.getLogger(__name__)

ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Settings from a TOML, YAML or JSON file; flags and YEOUL_* win over it."),
]


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            show_default=False,
            help="A GGUF file, a Hugging Face folder, a hub id, or 'fake'; several share one port. "
            "Default: SmolLM2-135M-Instruct, which is fetched.",
        ),
    ] = None,
    config: ConfigFile = None,
    *,
    flags: dict[str, object],
) -> None:
    """Serve a model, or several, over the OpenAI API.

    Every flag can also be set as YEOUL_<FLAG> in the environment or in a config file.
    """
    check_machine()
    if not models or len(models) == 1:
        flags = merge_model(flags, models[0] if models else None)
    elif "model" in flags:
        raise ConfigError("--model is for one model, and several are given; leave it out", param="model")
    choices = choose_models(flags, config, models or [], _find_more, _is_usable)
    START.mark("configuration")
    raise typer.Exit(_run(choices))


def _find_more(settings: Settings) -> dict[str, str]:
    """The models that are served without being named."""
    if settings.fleet.models_dir is None and not settings.fleet.models_cached:
        return {}
    from yeoul.model_files.models_folder import models_cached, models_in

    cached = models_cached(settings.model) if settings.fleet.models_cached else {}
    of_folder = models_in(settings.fleet.models_dir) if settings.fleet.models_dir is not None else {}
    for name in cached.keys() & of_folder.keys():
        raise ConfigError(
            f"two models are called {name!r}, one of --models-dir and one that was fetched; expected a name each",
            param="models_dir",
        )
    return cached | of_folder


def _is_usable(name: str, settings: Settings) -> bool:
    """Whether a model that nobody named can be served; says why not."""
    from yeoul.model_files.models_folder import why_unusable

    if (why := why_unusable(settings.model)) is None:
        return True
    set_up_logging("Web", settings.server.log_level, settings.server.log_format)
    logger.warning("the model %s is left out, since it cannot be used: %s", name, why)
    return False


def _run(choices: list[ModelChoice]) -> int:
    """Serves until the end; its exit code."""
    from yeoul.model_files.registry_models import DEFAULT_MODEL

    settings = choices[0].settings
    model_name = settings.model.model or DEFAULT_MODEL
    if settings.server.headless:
        if len(choices) > 1:
            raise ConfigError("--headless runs one engine, and several models are given", param="headless")
        if settings.server.api_server_count > 1:
            raise ConfigError("--headless runs no web process; leave out --api-server-count", param="api_server_count")
        from yeoul.engine_process.headless import run_headless

        START.mark("imports")
        return run_headless(settings, functools.partial(_show_headless, settings, model_name))
    from yeoul.transport.child_process import reap_orphans
    from yeoul.web_process.server import run_server

    START.mark("imports")
    if os.getpid() == 1:
        reap_orphans()
    with download_bars() as on_progress:
        if settings.server.api_server_count > 1:
            return _run_keeper(choices, model_name, on_progress)
        return run_server(
            settings,
            on_ready=functools.partial(_show_server, choices, model_name),
            on_progress=on_progress,
            choices=choices,
        )


def _run_keeper(choices: list[ModelChoice], model_name: str, on_progress: Callable[[str, int, int], None]) -> int:
    from yeoul.keeper_process.run import run_keeper

    if len(choices) > 1:
        raise ConfigError(
            "--api-server-count is for one model, and several are given; leave it out, or start a server for each",
            param="api_server_count",
        )
    settings = choices[0].settings

    def show(ready: EngineReady, url: str, page: str | None, web_pids: list[int]) -> None:
        if settings.server.log_format == "json":
            _show_server(choices, model_name, ready, url, page)
        else:
            _show(server_banner(settings, model_name, ready, url, page, web_pids))

    return run_keeper(choices[0], show, on_progress)


def _show_server(choices: list[ModelChoice], model_name: str, ready: EngineReady | None, url: str, page: str | None) -> None:
    settings = choices[0].settings
    if ready is None:
        _show_fleet(choices, url, page)
    elif settings.server.log_format == "json":
        has_login = bool(settings.server.api_key)
        _log_ready(settings, model_name, ready, url=url, page=None if has_login else page)
        if has_login and page is not None:
            logger.info("one browser is let in, within an hour, at %s", page)
    else:
        _show(server_banner(settings, model_name, ready, url, page))


def _show_fleet(choices: list[ModelChoice], url: str, page: str | None) -> None:
    settings, names = choices[0].settings, [choice.names[0] for choice in choices]
    if settings.server.log_format == "json":
        logger.info("Yeoul %s serves %s at %s", __version__, ", ".join(names), url, extra=with_fields(models=names))
    else:
        _show(fleet_banner(settings, names, url, page))


def _show_headless(settings: Settings, model_name: str, ready: EngineReady) -> None:
    if settings.server.log_format == "json":
        _log_ready(settings, model_name, ready, url=settings.transport.engine_address)
    else:
        _show(headless_banner(settings, model_name, ready))


def _log_ready(settings: Settings, model_name: str, ready: EngineReady, **more: object) -> None:
    name = (settings.server.served_model_name or [model_name])[0]
    fields = {
        "model": name,
        "max_model_len": ready.max_model_len,
        "num_blocks": ready.num_blocks,
        "block_size": ready.block_size,
        "cache_bytes": ready.cache_bytes,
        "engine_pid": ready.pid,
        **({"engine_pids": ready.pids} if ready.pids else {}),
        "worker_pids": [worker.pid for worker in ready.workers],
    }
    logger.info("Yeoul %s serves %s at %s", __version__, name, more["url"], extra=with_fields(**fields, **more))


def _show(banner: str) -> None:
    with contextlib.suppress(OSError):  # a standard output that nobody reads any more ends no server
        typer.echo(f"\n{banner}\n")
        sys.stdout.flush()


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
