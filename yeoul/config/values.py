"""One value of one setting: from text or from a config file's own types to what the field holds; knows no source.

Called by ``yeoul.config.build`` for each value that somebody gave.
"""

from __future__ import annotations

import re

from yeoul.config.fields import SettingField
from yeoul.errors import ConfigError

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_LEFT_OPEN = {"auto", "none", "default"}

# As vLLM counts: a small letter is a power of 1000, a capital one of 1024; with a B behind it GB and GiB tell them apart.
_NUMBER = re.compile(r"([+-]?\d[\d_]*(?:\.\d+)?)\s*(?:([kmgtKMGT])(i?B)?|B)?")
_MAX_NUMBER_CHARACTERS = 40
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def read_value(field: SettingField, value: object, origin: str) -> object:
    """``value`` as ``field`` holds it.

    Args:
        field: which setting.
        value: text from a flag or a variable, or what a config file or a Python caller holds.
        origin: what the user wrote, as an error names it: ``--port``, ``YEOUL_PORT``, ``port in config.yaml``.

    Raises:
        ConfigError: the value is of the wrong kind or out of range; says what is expected.
    """
    if field.is_list:
        return _read_list(field, value, origin)
    if field.is_optional and field.kind != "str" and isinstance(value, str) and value.strip().lower() in _LEFT_OPEN:
        return None
    return _read_single(field, value, origin)


def as_size(num_bytes: int) -> str:
    """A number of bytes as ``read_value`` reads it: ``1.5GiB``."""
    power = min(max(num_bytes.bit_length() - 1, 0) // 10, 3)
    return f"{num_bytes / (1 << 10 * power):.4g}{('', 'KiB', 'MiB', 'GiB')[power]}"


def expected(field: SettingField) -> str:
    """What ``field`` accepts, in words: ``a whole number from 0 to 65535``."""
    if field.kind == "choice":
        return "one of " + ", ".join(field.choices)
    if field.kind == "bool":
        return "true or false"
    if field.kind == "str":
        return "a text"
    noun = "a size such as 512MiB or a number of bytes" if field.is_size else "a whole number"
    return ("a number" if field.kind == "float" else noun) + _range_in_words(field)


def _read_list(field: SettingField, value: object, origin: str) -> list[object]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise _refusal(field, value, origin)
    return [_read_single(field, item, origin) for item in value]


def _read_single(field: SettingField, value: object, origin: str) -> object:
    if field.kind in ("int", "float"):
        return _read_number(field, value, origin)
    if field.kind == "bool":
        return _read_bool(field, value, origin)
    if field.kind == "choice" and isinstance(value, str):
        value = value.strip().lower()
    if not isinstance(value, str) or not value.strip() or (field.kind == "choice" and value not in field.choices):
        raise _refusal(field, value, origin)
    return value


def _read_bool(field: SettingField, value: object, origin: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise _refusal(field, value, origin)


def _read_number(field: SettingField, value: object, origin: str) -> int | float:
    number = _number_in(value, field) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not _is_in_range(field, number):
        raise _refusal(field, value, origin)
    if field.kind == "int" and number != int(number):
        raise _refusal(field, value, origin)
    return int(number) if field.kind == "int" else float(number)


def _is_in_range(field: SettingField, number: int | float) -> bool:
    if not -(2**63) <= number < 2**63:  # 64 bits; not a number and the infinities are outside as well
        return False
    if field.low is not None and (number < field.low or (field.low_excluded and number == field.low)):
        return False
    return field.high is None or number <= field.high


def _number_in(text: str, field: SettingField) -> int | float | None:
    """The number that ``text`` writes, with its unit; None if it writes none."""
    if field.kind == "float":
        try:
            return float(text)
        except ValueError:
            return None
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= _MAX_NUMBER_CHARACTERS else None
    if match is None or (text.strip().endswith("B") and not field.is_size):
        return None
    digits, letter, ending = match.groups()
    if letter is None:
        return float(digits) if "." in digits else int(digits)
    decimal = ending == "B" or (ending is None and letter.islower())
    scale: int = (1000 if decimal else 1024) ** _POWERS[letter.lower()]
    return float(digits) * scale if "." in digits else int(digits) * scale


def _range_in_words(field: SettingField) -> str:
    if field.low is None:
        return ""
    if field.high is None:
        return f", more than {field.low:g}" if field.low_excluded else f", at least {field.low:g}"
    return f" from {field.low:g} to {field.high:g}" if field.high < 1e6 else f" from {field.low:g} to {int(field.high)}"


def _refusal(field: SettingField, value: object, origin: str) -> ConfigError:
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    return ConfigError(f"{origin} is {shown}; expected {expected(field)}", param=field.name)
