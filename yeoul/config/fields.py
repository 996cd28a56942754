"""The settings as a table of fields, read off the structs; knows nothing of where a value comes from.

``yeoul.config.build`` and the command line read this table, so that a new field in ``settings.py`` is a new flag, a new
environment variable and a new key of the config file at once.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import inspect

from yeoul.config.settings import Settings

Kind = Literal["bool", "int", "float", "str", "choice"]

ENVIRONMENT_PREFIX = "YEOUL_"

# Of difflib's ratio. Slips of the finger are above it; names of other programs' settings, to which a wrong hint is worse
# than none, lie around a half.
_MIN_LIKENESS = 0.8

_KINDS: dict[type[inspect.Type], Kind] = {
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.LiteralType: "choice",
}


class SettingField(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: its name and type, its group, what it accepts, and what it is for.

    ``low`` and ``high`` are the ends of the range, both inside it unless ``low_excluded``; None where there is none.
    """

    name: str
    type: Any
    group: str
    group_title: str
    description: str
    kind: Kind
    is_list: bool
    is_optional: bool
    default: object
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    low_excluded: bool = False

    @property
    def flag(self) -> str:
        """``--max-model-len``."""
        return as_flag(self.name)

    @property
    def variable(self) -> str:
        """``YEOUL_MAX_MODEL_LEN``."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def is_size(self) -> bool:
        """Whether the value counts bytes and may be written as 4GiB."""
        return self.name.endswith("_bytes")

    @property
    def is_table(self) -> bool:
        """Whether the value is the text of a JSON object, for which a config file may have a table."""
        return self.name.endswith("_config")


def as_flag(name: str) -> str:
    """``max_model_len`` as it is typed: ``--max-model-len``."""
    return "--" + name.replace("_", "-")


@functools.cache
def setting_fields() -> dict[str, SettingField]:
    """Every setting by its name, in the order of ``settings.py``."""
    settings = inspect.type_info(Settings)
    assert isinstance(settings, inspect.StructType)
    fields: dict[str, SettingField] = {}
    for group in settings.fields:
        group_type, meta = _without_meta(group.type)
        assert isinstance(group_type, inspect.StructType)
        types = {field.name: field.type for field in msgspec.structs.fields(group_type.cls)}
        for field in group_type.fields:
            assert field.name not in fields, f"two settings are called {field.name}"
            fields[field.name] = _read_field(field, types[field.name], group.name, meta["title"])
    return fields


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean ...?``, with the known name that looks most like ``name``; empty where none does."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=_MIN_LIKENESS)
    return f" Did you mean {close[0]}?" if close else ""


def _read_field(field: inspect.Field, annotation: Any, group: str, group_title: str) -> SettingField:
    inner, meta = _without_meta(field.type)
    options = [option for option in _alternatives(inner) if not isinstance(option, inspect.NoneType)]
    is_optional = len(options) < len(_alternatives(inner))
    assert len(options) == 1, f"the setting {field.name} has more than one type"
    value, _ = _without_meta(options[0])
    is_list = isinstance(value, inspect.ListType)
    if isinstance(value, inspect.ListType):
        value, _ = _without_meta(value.item_type)
    low, high, low_excluded = _range_of(value)
    return SettingField(
        name=field.name,
        type=annotation,
        group=group,
        group_title=group_title,
        description=meta["description"],
        kind=_KINDS[type(value)],
        is_list=is_list,
        is_optional=is_optional,
        default=[] if field.default_factory is list else field.default,
        choices=tuple(str(choice) for choice in value.values) if isinstance(value, inspect.LiteralType) else (),
        low=low,
        high=high,
        low_excluded=low_excluded,
    )


def _without_meta(kind: inspect.Type) -> tuple[inspect.Type, dict[str, str]]:
    if isinstance(kind, inspect.Metadata):
        return kind.type, dict(kind.extra_json_schema or {})
    return kind, {}


def _alternatives(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _range_of(kind: inspect.Type) -> tuple[float | None, float | None, bool]:
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        return (kind.ge if kind.gt is None else kind.gt), kind.le, kind.gt is not None
    return None, None, False
