"""TypedFields: reads named values of the type that is expected from a file's mapping; knows nothing of model shapes.

The describing and tokenizer code call it for GGUF metadata and for the JSON files of a Hugging Face folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from yeoul.errors import ModelFileError

MAX_JSON_BYTES = 64 << 20
MAX_SIZE = 1 << 31

T = TypeVar("T")


class TypedFields:
    """A mapping from a file, with errors that name the file, the field, what was expected and what came.

    ``prefix`` is put in front of each key (GGUF's ``llama.``). A value of None counts as missing.
    """

    def __init__(self, origin: str, values: Mapping[str, object], prefix: str = "") -> None:
        self.origin = origin
        self.values = values
        self.prefix = prefix

    def wrong(self, key: str, expected: str) -> ModelFileError:
        """The error for a field that is missing or of the wrong kind."""
        value = self.values.get(self.prefix + key)
        found = "it is missing" if value is None else f"found {_shorten(value)}"
        return ModelFileError(f"{self.origin}: expected {expected} in the field {self.prefix + key!r}, {found}")

    def get(self, key: str) -> object | None:
        """The raw value, or None."""
        return self.values.get(self.prefix + key)

    def size(self, key: str, default: int | None = None) -> int:
        """A positive whole number below 2**31; with no default the field must be there."""
        value = self.values.get(self.prefix + key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < MAX_SIZE:
            raise self.wrong(key, "a positive whole number")
        return value

    def token_id(self, key: str) -> int | None:
        """A whole number from 0, or None where the field is missing."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_SIZE:
            raise self.wrong(key, "a token id")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; with no default the field must be there."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(key, "a finite number")
        return float(value)

    def positive(self, key: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self.number(key, default)
        if value <= 0:
            raise self.wrong(key, "a number above 0")
        return value

    def optional_number(self, key: str) -> float | None:
        """A finite number, or None where the field is missing."""
        return None if self.get(key) is None else self.number(key)

    def boolean(self, key: str, default: bool) -> bool:
        """A bool."""
        value = self.optional_boolean(key)
        return default if value is None else value

    def optional_boolean(self, key: str) -> bool | None:
        """A bool, or None where the field is missing."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def optional_text(self, key: str) -> str | None:
        """A string, or None where the field is missing."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def items(self, key: str, kind: type[T]) -> list[T] | None:
        """A list of one kind of value, or None where the field is missing."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(item) is kind for item in value):
            raise self.wrong(key, f"a list of {kind.__name__}")
        return value

    def group(self, key: str) -> TypedFields | None:
        """A mapping inside the mapping, or None where the field is missing."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return TypedFields(f"{self.origin}, {key}", value)


def read_json_fields(path: str) -> TypedFields | None:
    """The object in a JSON file; None if there is no such file. Raises ModelFileError if it is not readable JSON."""
    try:
        if os.path.getsize(path) > MAX_JSON_BYTES:
            raise ModelFileError(f"{path} is larger than {MAX_JSON_BYTES} bytes; is it what its name says?")
        with open(path, "rb") as file:
            values = msgspec.json.decode(file.read(), type=dict[str, object])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"{path} is not a JSON object: {error}; fetch it again") from error
    return TypedFields(path, values)


def _shorten(value: object) -> str:
    text = repr(value[:8] if isinstance(value, list | str) else value)
    return text if len(text) <= 80 else text[:77] + "..."
