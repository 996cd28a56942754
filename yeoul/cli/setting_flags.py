"""A flag for every setting, made from the table of settings; knows nothing of what a command does with them.

``with_setting_flags`` gives a command function all of them, grouped as in ``settings.py``; the function gets one mapping.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from yeoul.cli.grouped_help import HelpAll
from yeoul.config.fields import SettingField, setting_fields
from yeoul.config.values import as_size

COMMON_SETTINGS = frozenset(
    (
        *("max_model_len", "dtype", "quantization", "device", "chat_template", "revision", "download_dir"),
        *("kv_cache_memory_bytes", "max_num_seqs", "max_num_batched_tokens", "tensor_parallel_size", "num_compute_threads"),
        *("host", "port", "served_model_name", "api_key", "ssl_certfile", "ssl_keyfile", "log_level", "log_requests"),
    )
)
"""What ``--help`` shows; ``--help-all`` shows the rest."""


def with_setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the flags of all settings behind its own parameters.

    Those outside of ``COMMON_SETTINGS`` are hidden. ``command`` takes a keyword ``flags``, a ``dict[str, object]`` of field
    names and what was typed; flags that were not given are left out. Values stay text (or bool, or a list of texts):
    ``build_settings`` reads and checks them, as it does those of the environment.
    """
    fields = setting_fields()
    own = inspect.signature(command, eval_str=True).parameters
    kept = [parameter for name, parameter in own.items() if name != "flags"]

    def run(*, help_all: bool, **given: Any) -> None:
        flags = {name: value for name in fields if (value := given.pop(f"setting_{name}", None)) not in (None, [])}
        command(flags=flags, **given)

    help_all = inspect.Parameter("help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=HelpAll)
    parameters = [*kept, help_all, *(_parameter(field) for field in fields.values())]
    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return run


def _parameter(field: SettingField) -> inspect.Parameter:
    option = typer.Option(
        f"{field.flag}/--no-{field.flag[2:]}" if field.kind == "bool" else field.flag,
        help=_help(field),
        metavar=None if field.kind == "bool" else _metavar(field),
        rich_help_panel=field.group_title,
        show_default=False,
        hidden=field.name not in COMMON_SETTINGS,
    )
    kind: Any = bool if field.kind == "bool" else (list[str] if field.is_list else str)
    return inspect.Parameter(
        f"setting_{field.name}",  # apart from a command's own parameters, of which one may be called model
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _help(field: SettingField) -> str:
    default = field.default
    if default is None or default == []:
        return field.description
    if isinstance(default, bool):
        shown = "on" if default else "off"
    elif field.is_size and isinstance(default, int):
        shown = as_size(default)
    else:
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    return f"{field.description} (default: {shown})"


def _metavar(field: SettingField) -> str:
    if field.kind == "choice":
        return "|".join(field.choices)
    if field.is_size:
        return "SIZE"
    return {"int": "INTEGER", "float": "SECONDS" if field.name.endswith("_seconds") else "NUMBER"}.get(field.kind, "TEXT")
