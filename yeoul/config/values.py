"""One value of one setting: from text or from a config file's own types to what the field holds; knows no source.

Called by ``yeoul.config.build`` for each value that somebody gave.
"""

from __future__ import annotations

import re

import msgspec

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
    try:
        if field.is_table and isinstance(value, dict):
            value = msgspec.json.encode(value).decode()
        found = msgspec.convert(_from_text(field, value) if isinstance(value, str) else _whole(field, value), field.type)
    except (TypeError, ValueError, OverflowError, msgspec.ValidationError):
        raise _refusal(field, value, origin) from None
    if not all(map(_is_sane, found if isinstance(found, list) else [found])):
        raise _refusal(field, value, origin)
    return found


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
        return "a JSON object" if field.is_table else "a text"
    noun = "a size such as 512MiB or a number of bytes" if field.is_size else "a whole number"
    return ("a number" if field.kind == "float" else noun) + _range_in_words(field)


def _from_text(field: SettingField, text: str) -> object:
    """What ``text`` writes, in the field's type if it can be; ValueError if it writes nothing of its kind."""
    word = text.strip().lower()
    if field.is_list:
        return [part.strip() for part in text.split(",") if part.strip()]
    if field.kind == "str":
        return text
    if field.is_optional and word in _LEFT_OPEN:
        return None
    if field.kind == "bool":
        return word in _TRUE if word in _TRUE | _FALSE else text
    if field.kind == "choice":
        return word
    return float(text) if field.kind == "float" else _whole(field, _number_in(text.strip(), field))


def _number_in(text: str, field: SettingField) -> int | float:
    """The number that ``text`` writes, with its unit."""
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_NUMBER_CHARACTERS else None
    if match is None or (text.endswith("B") and not field.is_size):
        raise ValueError(text)
    digits, letter, ending = match.groups()
    decimal = ending == "B" or (ending is None and letter is not None and letter.islower())
    scale: int = (1000 if decimal else 1024) ** _POWERS[letter.lower()] if letter is not None else 1
    return float(digits) * scale if "." in digits else int(digits) * scale


def _whole(field: SettingField, value: object) -> object:
    """1.5GiB, or 1e9 in a config file, are whole numbers."""
    return int(value) if field.kind == "int" and isinstance(value, float) and value.is_integer() else value


def _is_sane(value: object) -> bool:
    """What is true of every field: a text says something, a number has 64 bits (and is one, and has an end)."""
    if isinstance(value, int | float):
        return -(2**63) <= value < 2**63
    return not isinstance(value, str) or bool(value.strip())


def _range_in_words(field: SettingField) -> str:
    if field.low is None:
        return ""
    if field.high is None:
        return f", more than {field.low:g}" if field.low_excluded else f", at least {field.low:g}"
    return f" from {field.low:g} to {field.high:g}" if field.high < 1e6 else f" from {field.low:g} to {int(field.high)}"


def _refusal(field: SettingField, value: object, origin: str) -> ConfigError:
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    told = "no key (it is not shown)" if field.name == "api_key" else shown
    return ConfigError(f"{origin} is {told}; expected {expected(field)}", param=field.name)
