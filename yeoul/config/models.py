"""The models of one server, each with settings of its own: from the command line, or from a file with a table a model.

Knows nothing of what is done with them. Called by ``yeoul serve``::

    [small]                          # its name in the API
    model = "org/name"
    max-model-len = 4096
    load-on-startup = true
    [embedder]
    model = "/models/embedder.gguf"
    model-ttl-seconds = 600
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from yeoul.config.build import build_settings
from yeoul.config.fields import nearest, setting_fields
from yeoul.config.kv_events import listens_on, read_kv_events
from yeoul.config.settings import Settings
from yeoul.errors import ConfigError

_GROUPS = ("model", "cache", "scheduler", "parallel", "recovery", "fake")
_OTHERS = ("served_model_name", "model_ttl_seconds")
_AT_START = "load_on_startup"


class ModelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is served. ``settings`` are the server's with its own; ``names`` are empty where its own name is meant."""

    settings: Settings
    names: list[str] = []
    loads_at_start: bool = False


def choose_models(
    flags: Mapping[str, object],
    config_file: str | None,
    models: Sequence[str],
    find_more: Callable[[Settings], Mapping[str, str]] = lambda _: {},
    is_usable: Callable[[str, Settings], bool] = lambda _name, _settings: True,
) -> list[ModelChoice]:
    """One or several, in the order in which they are given: those of the command line, then those of ``models_file``.

    ``find_more`` says which others the settings mean, names and models; a table of the file may be for one of them. Those
    that nobody named are left out where they are not ``is_usable``.

    Raises:
        ConfigError: as ``build_settings``; a name that two have; a file that cannot be read, or a key that is no model's own.
    """
    common = build_settings(flags, config_file)
    tables = {} if common.fleet.models_file is None else _read(common.fleet.models_file)
    found = {name: model for name, model in find_more(common).items() if name not in models}
    unnamed = found.keys() - tables.keys()
    for name, model in found.items():
        tables[name] = {"model": model, **tables.get(name, {})}
    if tables and not models and common.model.model is not None:
        models = [common.model.model]  # as --model, or in the environment
    if common.fleet.models_cached and not tables and not models:
        raise ConfigError("--models-cached: nothing was fetched yet; yeoul pull MODEL fetches one", param="models_cached")
    if not tables and len(models) < 2:
        return [ModelChoice(settings=common, names=common.server.served_model_name, loads_at_start=True)]
    if common.server.served_model_name:
        raise ConfigError(
            "--served-model-name is for one model, and several are given: name them in a --models-file, [NAME] each; of one"
            " model repeat --served-model-name for each further name",
            param="served_model_name",
        )
    if common.transport.engine_address is not None:
        raise ConfigError("--engine-address joins one engine, and several models are given", param="engine_address")
    chosen = [ModelChoice(settings=build_settings({**flags, "model": name}, config_file), names=[name]) for name in models]
    for name, table in tables.items():
        names = [name, *(other for other in _as_list(table.get("served_model_name")) if other != name)]
        own = {key: value for key, value in table.items() if key not in (_AT_START, "served_model_name")}
        settings = build_settings({**flags, "model": name, **own}, config_file)
        if name in unnamed and not is_usable(name, settings):
            continue
        chosen.append(ModelChoice(settings=settings, names=names, loads_at_start=table.get(_AT_START) is True))
    if not chosen:
        raise ConfigError(f"none of the models that were found can be used: {', '.join(tables)}")
    _check_names(chosen)
    _check_kv_events(chosen)
    return chosen


def _check_names(chosen: list[ModelChoice]) -> None:
    seen: set[str] = set()
    for choice in chosen:
        for name in choice.names:
            if name in seen:
                raise ConfigError(f"two models are called {name!r}; expected a name each")
            seen.add(name)


def _check_kv_events(chosen: list[ModelChoice]) -> None:
    """Each engine listens at addresses of its own."""
    seen: set[str] = set()
    for choice in chosen:
        if (config := read_kv_events(choice.settings.cache.kv_events_config)) is None:
            continue
        engines = map(config.of_engine, range(choice.settings.parallel.data_parallel_size))
        for endpoint in (endpoint for engine in engines for endpoint in engine.endpoints):
            if endpoint in seen and listens_on(endpoint):
                raise ConfigError(
                    f"two models would tell of their KV events at {endpoint}; in a --models-file each may have a "
                    "kv-events-config of its own",
                    param="kv_events_config",
                )
            seen.add(endpoint)


def _read(path: str) -> dict[str, dict[str, object]]:
    try:
        content = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the models file {path}: {reason}", param="models_file") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the models file {path} is not valid TOML: {error}", param="models_file") from error
    if not content:
        raise ConfigError(f"the models file {path} is empty; expected a table a model, such as [small]", param="models_file")
    return {name: _read_table(path, name, table) for name, table in content.items()}


def _read_table(path: str, name: str, table: object) -> dict[str, object]:
    """The settings of one model, by their fields."""
    fields = setting_fields()
    own = {key for key, field in fields.items() if field.group in _GROUPS or key in _OTHERS} | {_AT_START}
    if not isinstance(table, dict):
        raise ConfigError(
            f"the models file {path} sets {name!r} outside of a table; expected a table a model, such as [small]"
        )
    found: dict[str, object] = {}
    for key, value in table.items():
        field = str(key).replace("-", "_")
        if field not in own:
            what = "is the whole server's" if field in fields else f"is no setting.{nearest(field, own)}"
            raise ConfigError(f"the models file {path} sets {key!r} of {name!r}, which {what}", param="models_file")
        found[field] = value
    if not isinstance(found.get(_AT_START, False), bool):
        raise ConfigError(
            f"the models file {path} sets load-on-startup of {name!r} to no truth value; expected true or false"
        )
    return found


def _as_list(value: object) -> list[str]:
    return [] if value is None else [str(one) for one in value] if isinstance(value, list) else [str(value)]
