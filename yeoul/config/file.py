"""A config file as a flat table of settings: TOML, YAML or JSON; knows nothing of flags. Called by ``yeoul.config.build``.

Keys are field names, with dashes or underscores, at the top or in a table named after their group::

    model = "org/name"
    [cache]
    kv-cache-memory-bytes = "4GiB"
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from yeoul.config.fields import nearest, setting_fields
from yeoul.errors import ConfigError

ENDINGS = (".toml", ".yaml", ".yml", ".json")


def read_config_file(path: str) -> dict[str, object]:
    """The file's values by field name, as the file's own types, not yet checked against the fields.

    Raises:
        ConfigError: no such file, not readable, not of its format, or with an unknown key.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the config file {path}: {reason}") from error
    content = _parse(path, text)
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"the config file {path} holds {type(content).__name__}; expected a table of settings")
    return _flatten(path, content)


def _parse(path: str, text: str) -> object:
    ending = Path(path).suffix.lower()
    try:
        if ending == ".toml":
            return tomllib.loads(text)
        if ending == ".json":
            return msgspec.json.decode(text)
        if ending in (".yaml", ".yml"):
            return _parse_yaml(path, text)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"the config file {path} is not valid {ending[1:].upper()}: {error}") from error
    raise ConfigError(f"the config file {path} ends in {ending or 'nothing'}; expected one of {', '.join(ENDINGS)}")


def _parse_yaml(path: str, text: str) -> object:
    yaml = importlib.import_module("yaml")  # loads objects too, so that it is named here alone, and safe_load below
    try:
        return yaml.safe_load(text)
    except Exception as error:  # beside its own errors it lets through what Python says of a date, a number, a nesting, ...
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        if problem is None or mark is None:
            told = " ".join(str(error).split())
        else:  # without the line itself, which may be a key
            told = f"{problem}, in line {mark.line + 1}, column {mark.column + 1}"
        raise ConfigError(f"the config file {path} is not valid YAML: {told}") from None


def _flatten(path: str, content: Mapping[object, object]) -> dict[str, object]:
    fields = setting_fields()
    groups = {field.group for field in fields.values()}
    flat: dict[str, object] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name in groups and isinstance(value, Mapping):
            members = {str(inner).replace("-", "_"): item for inner, item in value.items()}
        else:
            members = {name: value}
        for member, item in members.items():
            if member not in fields:
                raise ConfigError(f"the config file {path} sets {member!r}, which is no setting.{nearest(member, fields)}")
            if member in flat:
                raise ConfigError(f"the config file {path} sets {member} twice; leave one of them out")
            flat[member] = item
    return flat
